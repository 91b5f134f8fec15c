import "../support/quiet.js";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import test, { type ExecutionContext } from "ava";
import { Datagrams } from "../../agent/connection/datagrams.js";
import type { GuardChange } from "../../bpf/guard_layout.js";
import { type Flow, flowText } from "../../proto/flow.js";
import { eventually } from "../support/eventually.js";

const BUNDLE = "127-0-0-1_51234_127-0-0-1_554_tcp.1";
const INCARNATION = 7;

/** Phases by flow. */
class FakeGuard {
  readonly phases = new Map<string, string>();

  installDatagram(flow: Flow, phase: string): void {
    this.phases.set(flowText(flow), phase);
  }
  change(flow: Flow, { phase }: GuardChange): undefined {
    if (phase) this.phases.set(flowText(flow), phase);
  }
  remove(flow: Flow): boolean {
    return this.phases.delete(flowText(flow));
  }
}

/** Media's flows on this host, and one socket of the client's. */
async function scene(t: ExecutionContext) {
  const guard = new FakeGuard();
  const datagrams = new Datagrams(guard as never, INCARNATION, "lo");
  t.teardown(() => datagrams.close(BUNDLE));
  const client = await bound(t);
  const phases = () => [...guard.phases.values()];
  return { guard, datagrams, client, phases, port: client.address().port };
}

async function bound(t: ExecutionContext): Promise<Socket> {
  const socket = createSocket("udp4");
  t.teardown(() => socket.close());
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return socket;
}

/** A port that nobody has. */
async function freePort(): Promise<number> {
  const socket = createSocket("udp4").bind(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(resolve));
  return port;
}

test("a flow is guarded until it is closed; it hears and reaches its client", async (t) => {
  const { datagrams, client, phases, port } = await scene(t);
  const heard: string[] = [];
  const vipPort = await freePort();
  const flow = await datagrams.open(BUNDLE, vipPort, port, (datagram) => heard.push(datagram.toString()));
  t.true(flow.isOpen);
  t.deepEqual(phases(), ["LIVE"]);
  const arrived = once(client, "message");
  flow.send(Buffer.from("media"));
  t.is(String((await arrived)[0]), "media");
  client.send("report", vipPort, "127.0.0.1");
  await eventually("it is heard", () => heard.includes("report"));
  flow.close();
  t.deepEqual(phases(), []);
  t.false(flow.isOpen);
});

test("what is opened while the bundle stands still stands still with it", async (t) => {
  const { datagrams, phases, port } = await scene(t);
  const first = await datagrams.open(BUNDLE, await freePort(), port, () => {});
  datagrams.freeze(BUNDLE);
  const second = await datagrams.open(BUNDLE, await freePort(), port, () => {});
  t.deepEqual([first.isOpen, second.isOpen], [false, false]);
  t.deepEqual(phases(), ["FROZEN", "FROZEN"]);
  const both = Promise.all([first.thawed(), second.thawed()]);
  datagrams.thaw(BUNDLE);
  await both;
  t.deepEqual([first.isOpen, second.isOpen], [true, true]);
  t.deepEqual(phases(), ["LIVE", "LIVE"]);
  datagrams.freeze(BUNDLE);
  const still = first.thawed();
  datagrams.close(BUNDLE);
  await still;
  const third = await datagrams.open(BUNDLE, await freePort(), port, () => {});
  t.true(third.isOpen, "the bundle has come back, and nobody remembers that it stood still");
});
