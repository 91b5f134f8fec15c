import { flowKey } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import type { ConnectionTable } from "../connection/table.js";
import type { GuardEvent } from "../guard/index.js";
import type { Heir } from "./heir.js";
import { type AnswerDesk, answerOf } from "./reattachment.js";

const log = logger("guard");

/** Takes each of the guard's reports to whom it concerns. */
export function dispatchGuardEvents(table: ConnectionTable, desk: AnswerDesk, heir: Heir): (event: GuardEvent) => void {
  return (event) => {
    switch (event.type) {
      case "ANSWER":
        desk.deliver(flowKey(event.flow), event);
        return;
      case "STATE":
        table.of(event.flow)?.stateChanged(event.tcpState);
        return;
      case "LATE_ACK": {
        // The client has data that the dead server sent and that arrived after our probe: once more, from its new ack.
        const connection = table.of(event.flow);
        if (connection) heir.resumeAgain(connection, answerOf(event));
        return;
      }
      case "SILENCED":
        log.info({ flow: event.flow, tcpState: event.tcpState }, "an ending nobody meant was silenced");
        return;
    }
  };
}
