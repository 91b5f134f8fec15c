import type { ExecutionContext } from "ava";
import type { Control } from "./control.js";
import { eventually } from "./eventually.js";
import { cutLink, killAgent, mendLink } from "./fault.js";

/** As the lab's own: an agent's start costs a second of processor time, half a minute on a machine that twenty others share. */
const BACK_MS = 60_000;
const DRAIN_MS = 30_000;

/**
 * Something happens to a connection's server, its agent's death unless something else is said, once there is another one; which then
 * goes on with it.
 */
export async function takeOver(
  t: ExecutionContext,
  control: Control,
  id: string,
  fault: (server: string) => unknown = killAgent,
): Promise<void> {
  const owner = (await control.connections()).find((one) => one.id === id)!.owner;
  await eventually(
    `another server than ${owner} is UP`,
    async () => (await control.servers()).some((server) => server.id !== owner && server.state === "UP"),
    BACK_MS,
  );
  const events = control.follow();
  await fault(owner);
  const event = await events.next("takeover", (one) => one.kind === "takeover" && one.connection === id);
  events.close();
  t.is(event.result, "ok", event.reason);
  t.not(event.to, owner);
}

/** The same by pulling the server's cable, which is put back when another one has the connection. */
export async function cutOff(t: ExecutionContext, control: Control, id: string): Promise<void> {
  let cut = "";
  await takeOver(t, control, id, (server) => {
    cut = server;
    return cutLink(server);
  });
  await mendLink(cut);
}

/** Its server is emptied, and takes connections again when it is. */
export async function drainAway(t: ExecutionContext, control: Control, id: string): Promise<void> {
  const ownerOf = async () => (await control.connections()).find((one) => one.id === id)!.owner;
  const owner = await ownerOf();
  const { remaining } = await control.drain(owner, DRAIN_MS);
  t.is(remaining, 0);
  t.not(await ownerOf(), owner);
  await control.undrain(owner);
}
