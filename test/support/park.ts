import { readFileSync } from "node:fs";
import { Guard } from "../../agent/guard/index.js";
import type { GuardPhase } from "../../bpf/guard_layout.js";
import { parseConnectionId } from "../../proto/flow.js";
import { closeWithTest } from "./cleanup.js";
import type { Control } from "./control.js";
import { eventually } from "./eventually.js";
import { signal } from "./fault.js";
import { pidOf, runOn } from "./host.js";

/** Ends what keeps a move where it is. May be called again. */
export type Unpark = () => void;

/** A move that is about to begin. */
export interface Way {
  control: Control;
  connection: string;
  owner: string;
  target: string;
}

const APPLIANCE_PORT = 7600;
const HANDOVER_PORT = 7601;
const NATS_PORT = 4222;
const RULE_PRIORITY = "50";

/** Blocks the way behind its phase, begins the move, and resolves when the move stands there. */
type Park = (way: Way, begin: () => void) => Promise<Unpark>;

const preparing: Park = async ({ target }, begin) => {
  const unpark = stopped(target);
  begin();
  await unread(target, APPLIANCE_PORT);
  return unpark;
};

const held: Park = async ({ owner }, begin) => {
  const unpark = stopped(owner);
  begin();
  await unread(owner, APPLIANCE_PORT);
  return unpark;
};

const frozen: Park = async ({ owner, target, connection }, begin) => {
  const unpark = await lossy(owner, [["to", addressOf(target), "ipproto", "tcp", "dport", String(HANDOVER_PORT)]]);
  begin();
  await inGuard(owner, connection, "FROZEN");
  return unpark;
};

const unready: Park = async ({ target, connection }, begin) => {
  // This connection alone: a worker that hears nothing of the store for a second opens another one.
  const unpark = await lossy(target, (await portsOf(target, NATS_PORT)).map(from));
  begin();
  await inGuard(target, connection, "FROZEN");
  return unpark;
};

const committed: Park = async (way, begin) => {
  const { target, connection } = way;
  const reports = await portsOf(target, APPLIANCE_PORT);
  const letState = await frozen(way, begin);
  const unpark = await lossy(target, [...reports, HANDOVER_PORT].map(from));
  letState();
  await inGuard(target, connection, "LIVE");
  return unpark;
};

/** The phases of a move, in their order. Only what an outsider can do is used: stopped processes, and a network that loses packets. */
export const PHASES = {
  /** The target was asked. */
  PREPARING: preparing,
  /** The appliance holds the flow, the owner was told to freeze. */
  HELD: held,
  /** The owner has frozen it, its state is on the way. */
  FROZEN: frozen,
  /** The target has rebuilt it, silent, and its claim has not reached the store. */
  UNREADY: unready,
  /** The target has the record and goes on; neither the owner nor the controller has heard of it. */
  COMMITTED: committed,
} satisfies Record<string, Park>;

function addressOf(server: string): string {
  return `10.77.0.${100 + Number(server.slice(1))}`;
}

function from(port: number): string[] {
  return ["ipproto", "tcp", "sport", String(port)];
}

function stopped(server: string): Unpark {
  const pid = signal(pidOf(server, "agent"), "SIGSTOP");
  return once(() => {
    try {
      signal(pid, "SIGCONT");
    } catch {
      // It was killed meanwhile.
    }
  });
}

/** What the host sends and fits a rule is lost. */
async function lossy(host: string, rules: string[][]): Promise<Unpark> {
  for (const rule of rules) await runOn(host, "ip", "rule", "add", "pref", RULE_PRIORITY, ...rule, "blackhole");
  return once(() => {
    void runOn(host, "sh", "-c", `while ip rule del pref ${RULE_PRIORITY} 2>/dev/null; do :; done`).catch(() => {});
  });
}

/** Local ports of the worker's connections to a port of others; its supervisor's are not among them. */
async function portsOf(server: string, port: number): Promise<number[]> {
  const worker = `pid=${readFileSync(`/run/baton/lab/${server}/agent.pid`, "utf8").trim()},`;
  const lines = (await runOn(server, "ss", "-Htnp", "state", "established", `dport = :${port}`)).split("\n");
  const ports = lines.filter((line) => line.includes(worker)).map((line) => Number(/:(\d+)\s/.exec(line)?.[1]));
  if (ports.length === 0) throw new Error(`${server}'s worker has no connection to port ${port}`);
  return ports;
}

/** Resolves when something that came from that port lies unread on the host: whoever should read it stands still. */
async function unread(server: string, port: number): Promise<void> {
  await eventually(`${server} has something unread from port ${port}`, async () => {
    const lines = (await runOn(server, "ss", "-Htn", "state", "established", `dport = :${port}`)).trim().split("\n");
    return lines.some((line) => Number(line.trim().split(/\s+/)[0]) > 0);
  });
}

/** Resolves when the guard of the server has the connection in that phase. */
export async function inGuard(server: string, connection: string, phase: GuardPhase): Promise<void> {
  const guard = Guard.open(`/sys/fs/bpf/baton/${server}`);
  const { flow } = parseConnectionId(connection);
  await eventually(`${connection} is ${phase} on ${server}`, () => guard.lookup(flow)?.phase === phase, 5_000, 2);
}

function once(undo: () => void): Unpark {
  let done = false;
  const unpark = () => {
    if (!done) undo();
    done = true;
  };
  closeWithTest({ close: unpark });
  return unpark;
}
