import { logger } from "../../proto/log.js";
import { type Channel, listenForChannels } from "../channel.js";
import { type NewAgentMessage, type Offer, type OldAgentMessage, replacementSocket } from "./replacement.js";
import type { Supervisor } from "./supervisor.js";

const log = logger("supervisor");
/** For the next agent's worker to be ready, a little more than that one allows itself. */
const prepareMsMax = 75_000;

type SuccessorChannel = Channel<NewAgentMessage, OldAgentMessage>;

/**
 * Takes requests of agents that are to replace this one; one at a time. Where it cannot listen for them it says so, and this agent cannot be
 * replaced in place.
 */
export async function listenForSuccessors(
  state: string,
  supervisor: Supervisor,
  offer: Offer,
): Promise<{ close(): void }> {
  let present: SuccessorChannel | undefined;
  const met = (channel: SuccessorChannel) => {
    const reason = present ? "another agent is taking its place already" : supervisor.irreplaceable;
    if (reason !== "") return refuse(channel, reason);
    present = channel;
    void replace(channel);
    void channel.closed.then(() => {
      present = undefined;
    });
  };
  const replace = async (channel: SuccessorChannel) => {
    const { prepared, relieved } = expect(channel);
    channel.send({ type: "accepted", incarnation: supervisor.incarnation, offer });
    log.info("another agent prepares to take this one's place");
    const why = await preparedOr(prepared, channel.closed);
    if (why !== "") return refuse(channel, why);
    try {
      await supervisor.handOver({
        gone: channel.closed,
        relieved,
        passing: () => channel.send({ type: "passing" }),
        inherit: ({ untilNs, ...lease }) => {
          listening.close(); // its path is the next agent's
          channel.send({ type: "lease", ...lease, untilNs: String(untilNs) });
        },
      });
    } catch (error) {
      refuse(channel, (error as Error).message);
    }
  };
  let listening: { close(): void };
  const close = () => {
    listening.close();
    present?.close();
  };
  try {
    listening = await listenForChannels<NewAgentMessage, OldAgentMessage>(replacementSocket(state), met);
  } catch (error) {
    log.warn({ err: error }, "this agent cannot be replaced in place: it cannot listen for that");
    listening = { close: () => {} };
  }
  return { close };
}

function refuse(channel: SuccessorChannel, reason: string): void {
  log.warn({ reason }, "this agent is not replaced");
  channel.send({ type: "refused", reason });
  channel.close();
}

function expect(channel: SuccessorChannel): { prepared: Promise<void>; relieved: Promise<void> } {
  const arrivals = new Map<NewAgentMessage["type"], () => void>();
  const prepared = new Promise<void>((resolve) => arrivals.set("prepared", resolve));
  const relieved = new Promise<void>((resolve) => arrivals.set("relieved", resolve));
  channel.onMessage(({ type }) => arrivals.get(type)?.());
  return { prepared, relieved };
}

/** @returns why it is not prepared; "" = it is */
async function preparedOr(prepared: Promise<void>, gone: Promise<void>): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, prepareMsMax, "the next agent was not ready in time");
  });
  const why = await Promise.race([prepared.then(() => ""), gone.then(() => "the next agent is gone"), late]);
  clearTimeout(timer);
  return why;
}
