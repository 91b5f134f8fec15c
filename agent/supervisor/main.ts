import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { monotonicNs } from "../../proto/clock.js";
import { type Config, natsUrls, portsOf, recordBytesMax, serverOf } from "../../proto/config/index.js";
import { BatonError } from "../../proto/errors.js";
import { writePidFile } from "../../proto/files.js";
import { interfaceMac } from "../../proto/interface.js";
import { logger } from "../../proto/log.js";
import { connectStore, type Store } from "../../proto/store/index.js";
import { Guard } from "../guard/index.js";
import { native } from "../native/index.js";
import { cgroupOf, isInCgroup } from "./cgroup.js";
import { successorCommand, workerCommand } from "./commands.js";
import { settle } from "./kernel_settings.js";
import { type LeaseHandlers, LeaseHolder } from "./lease.js";
import { OldAgent } from "./old_agent.js";
import { endPredecessor, fromPidFile } from "./predecessor.js";
import { Reload, startSuccessor } from "./reload.js";
import { offerOf } from "./replacement.js";
import { listenForSuccessors } from "./successors.js";
import { type Inheritance, Supervisor } from "./supervisor.js";
import { WorkerProcess } from "./worker_process.js";

export interface RunOptions {
  config: Config;
  id: string;
}

export interface AgentOptions extends RunOptions {
  /** Takes the place of the agent that runs here, with its live connections. */
  replace?: boolean;
}

/** Above the worker, nats-server and whatever else keeps both cores busy: a late renewal pauses every connection. */
const realtimePriority = 10;
const renewalDeadlineMs = 10_000;
const unprotectedAfterMs = 2_000;
/** Far above what a takeover of thousands of connections takes on a machine that has lost one of its cores to it. */
const workerSilentMsMax = 3_000;
/** Starts have taken forty seconds on a machine that twenty others shared, and beginning again makes none of them shorter. */
const workerStartMsMax = 120_000;
const workerModestMs = 3_000;

/** The daemon `baton agent`: returns when it has been told to stop and everything has ended. */
export async function run({ config, id, replace = false }: AgentOptions): Promise<void> {
  const server = serverOf(config, id);
  const log = logger("supervisor");
  mkdirSync(server.state, { recursive: true });
  const old = replace ? await OldAgent.meet(server.state, id, offerOf(config)) : undefined;
  const present = () => writePidFile(server.state, "supervisor", process.pid);
  if (!old) {
    await endPredecessor(server.state, id);
    present();
  }

  interfaceMac(server.interface); // throws a sentence where it is not there; the kernel's word for that would be ENODEV

  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stop.abort());
  const reload = new Reload(config, id, () => startSuccessor(successorCommand(config, id, realtime)));
  process.on("SIGHUP", () => reload.request());

  const cgroup = cgroupOf(server);
  if (!isInCgroup(cgroup)) native.joinCgroup(cgroup);
  settle();
  const guard = Guard.load({
    interface: server.interface,
    pins: server.pins,
    cgroup,
    vips: config.vips,
    services: config.services.flatMap(portsOf),
    flows: config.limits.flows,
  });
  if (!old) guard.fence(); // an earlier life's lease may still be running; its worker is gone
  const realtime = native.setRealtime(realtimePriority);
  if (!realtime) log.warn("no real-time priority: on a busy machine the lease may be renewed late");
  log.info({ server: id, pins: server.pins, interface: server.interface, realtime, replace }, "the guard is loaded");

  let store: Store;
  try {
    store = await connectStore({
      servers: natsUrls(config),
      name: `${id}-supervisor`,
      messageBytesMax: recordBytesMax(config),
      signal: stop.signal,
    });
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    if (!old) forget(server.state);
    return;
  }

  const startWorker = (incarnation: number, successor = false) =>
    new WorkerProcess({
      ...workerCommand(config, id, realtime),
      incarnation,
      successor,
      silentMsMax: workerSilentMsMax,
      startMsMax: workerStartMsMax,
      modestMs: workerModestMs,
      watchProcess: (pid, onExit) => native.watchProcess(pid, onExit),
      watchThread: (thread, onExit) => native.watchThread(thread, onExit),
    });
  const supervisor = new Supervisor({
    state: server.state,
    leaveMsMax: config.limits.drainMs,
    lease: (handlers) => leaseHolder(config, id, store, guard, handlers),
    startWorker,
  });
  const inheritance = old && (await inherit(old, startWorker(old.incarnation, true), stop.signal));
  if (stop.signal.aborted) supervisor.stop();
  stop.signal.addEventListener("abort", () => supervisor.stop());
  const running = supervisor.run(inheritance);
  if (old) present();
  const successors = await listenForSuccessors(server.state, supervisor, offerOf(config));
  await running;
  successors.close();
  await store.close();
  guard.close();
  if (supervisor.isReplaced) {
    reload.replaced();
    log.info("another agent has taken this one's place");
    return;
  }
  forget(server.state);
  log.info("stopped");
}

/** The old agent's connections and lease. A wish to stop lets that one go on, or has to wait where connections are on their way. */
async function inherit(old: OldAgent, worker: WorkerProcess, stop: AbortSignal): Promise<Inheritance> {
  const callOff = () => old.callOff();
  if (stop.aborted) callOff();
  stop.addEventListener("abort", callOff);
  try {
    return await old.succeed(worker);
  } catch (error) {
    worker.finish();
    old.leave();
    throw error;
  } finally {
    stop.removeEventListener("abort", callOff);
  }
}

/** `baton agent --unload`: takes the guard out of the kernel. Nothing of it may be running. */
export async function unload({ config, id }: RunOptions): Promise<void> {
  const { state, pins } = serverOf(config, id);
  const running = fromPidFile(state, "supervisor", "agent", id) ?? fromPidFile(state, "agent", "worker", id);
  if (running !== undefined) {
    throw new BatonError("PORT_TAKEN", `The agent for ${id} is running, as process ${running}; stop it first.`);
  }
  Guard.unload(pins);
}

function leaseHolder(config: Config, id: string, store: Store, guard: Guard, handlers: LeaseHandlers): LeaseHolder {
  const { durationMs, renewMs, onStoreLoss } = config.lease;
  const life = randomUUID();
  let puts = 0;
  return new LeaseHolder(
    {
      server: id,
      boot: bootName(),
      durationMs,
      renewMs,
      incarnationFloor: guard.lease().incarnation,
      ...(onStoreLoss === "serve-unprotected" && { unprotectedAfterMs }),
    },
    {
      nowNs: monotonicNs,
      put: (lease, expected) =>
        store.leases.put(lease, expected, { messageId: `${id}/${life}/${++puts}`, deadlineMs: renewalDeadlineMs }),
      read: () => store.leases.read(id, renewalDeadlineMs),
      connected: () => store.connected,
      write: (value) => guard.writeLease(value),
      after: (ms, callback) => {
        const timer = setTimeout(callback, ms);
        return () => clearTimeout(timer);
      },
    },
    handlers,
  );
}

/** Who has the same one shares this guard: the machine's boot, and the network namespace in it. */
function bootName(): string {
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return `${boot}/${statSync("/proc/self/ns/net").ino}`;
}

function forget(state: string): void {
  for (const name of ["agent.pid", "supervisor.pid"]) rmSync(join(state, name), { force: true });
}
