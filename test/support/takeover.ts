import type { ExecutionContext } from "ava";
import type { Control } from "./control.js";
import { eventually } from "./eventually.js";
import { killAgent } from "./fault.js";

/** As the lab's own: an agent's start costs a second of processor time, half a minute on a machine that twenty others share. */
const BACK_MS = 60_000;

/** A connection's agent is killed, once there is another server, which then goes on with it. */
export async function takeOver(t: ExecutionContext, control: Control, id: string): Promise<void> {
  const owner = (await control.connections()).find((one) => one.id === id)!.owner;
  await eventually(
    `another server than ${owner} is UP`,
    async () => (await control.servers()).some((server) => server.id !== owner && server.state === "UP"),
    BACK_MS,
  );
  const events = control.follow();
  killAgent(owner);
  const event = await events.next("takeover", (one) => one.kind === "takeover" && one.connection === id);
  events.close();
  t.is(event.result, "ok", event.reason);
  t.not(event.to, owner);
}
