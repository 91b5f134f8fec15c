import "../../support/quiet.js";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import { native } from "../../../agent/native/index.js";
import { type HeldLease, LeaseHolder, type LeaseMapValue } from "../../../agent/supervisor/lease.js";
import { Supervisor, type SupervisorOptions } from "../../../agent/supervisor/supervisor.js";
import { WorkerProcess } from "../../../agent/supervisor/worker_process.js";
import { connectStore, type Store } from "../../../proto/store/index.js";
import { lives } from "../../support/host.js";
import { NatsServer } from "../store/_nats_server.js";

const program = fileURLToPath(new URL("./_worker.js", import.meta.url));

interface Agent {
  supervisor: Supervisor;
  startWorker: (incarnation: number, successor?: boolean) => WorkerProcess;
}

interface Running {
  nats: NatsServer;
  store: Store;
  supervisor: Supervisor;
  done: Promise<void>;
  map: () => LeaseMapValue | undefined;
  passes: () => boolean;
  /** How often the map was told that nothing leaves any more. */
  silenced: () => number;
  heard: () => string[];
  workerPid: () => number;
  mode: (mode: string) => void;
  /** Another agent on the same host. */
  another: () => Agent;
}

async function supervise(t: ExecutionContext, startMode = "works"): Promise<Running> {
  const nats = await NatsServer.start();
  const store = await connectStore({ servers: nats.url, name: "s1-supervisor" });
  const state = mkdtempSync(join(tmpdir(), "baton-supervisor-test-"));
  const said = join(state, "said");
  let value: LeaseMapValue | undefined;
  let silenced = 0;
  let mode = startMode;
  let puts = 0;
  const startWorker = (incarnation: number, successor = false) =>
    new WorkerProcess({
      command: process.execPath,
      arguments: [program, mode, said],
      incarnation,
      successor,
      silentMsMax: 800,
      startMsMax: 20_000,
      watchProcess: (pid, onExit) => native.watchProcess(pid, onExit),
      watchThread: (thread, onExit) => native.watchThread(thread, onExit),
    });
  const options: SupervisorOptions = {
    state,
    leaveMsMax: 0,
    startWorker,
    lease: (handlers) =>
      new LeaseHolder(
        { server: "s1", boot: "b", durationMs: 300, renewMs: 50, incarnationFloor: 0 },
        {
          nowNs: () => process.hrtime.bigint(),
          put: (lease, expected) => store.leases.put(lease, expected, { messageId: `${++puts}`, deadlineMs: 5_000 }),
          read: () => store.leases.read("s1", 1_000),
          connected: () => store.connected,
          write: (written) => {
            value = written;
            if (written.untilNs === 0n) silenced++;
          },
          after: (ms, callback) => {
            const timer = setTimeout(callback, ms);
            return () => clearTimeout(timer);
          },
        },
        handlers,
      ),
  };
  const supervisor = new Supervisor(options);
  const done = supervisor.run();
  t.teardown(async () => {
    supervisor.stop();
    await done;
    await store.close();
    await nats.stop();
    rmSync(state, { recursive: true, force: true });
  });
  const heard = () => {
    try {
      return readFileSync(said, "utf8").trim().split("\n");
    } catch {
      return [];
    }
  };
  return {
    nats,
    store,
    supervisor,
    done,
    map: () => value,
    passes: () => value !== undefined && value.untilNs > process.hrtime.bigint(),
    silenced: () => silenced,
    heard,
    workerPid: () => Number(readFileSync(join(state, "agent.pid"), "utf8")),
    mode: (next) => {
      mode = next;
    },
    another: () => ({ supervisor: new Supervisor(options), startWorker }),
  };
}

async function until(what: () => boolean, ms = 10_000): Promise<void> {
  const deadline = performance.now() + ms;
  while (!what()) {
    if (performance.now() > deadline) throw new Error(`not reached in ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

test("a killed worker: fenced, said in the store, and a new one under the next incarnation", async (t) => {
  const running = await supervise(t);
  await until(() => running.heard().includes("started 1") && running.passes());
  const states: string[] = [];
  running.store.leases.watch({
    onLease: ({ lease }) => states.push(`${lease.state} ${lease.incarnation}`),
    onCaughtUp: () => {},
  });
  process.kill(running.workerPid(), "SIGKILL");
  await until(() => running.map()?.incarnation === 1 && running.map()?.untilNs === 0n);
  await until(() => running.heard().includes("started 2"));
  const first = states.indexOf("fenced 1");
  t.true(first >= 0 && states.indexOf("alive 2") > first && !states.slice(first).includes("alive 1"), states.join());
});

test("a worker whose event loop hangs is killed", async (t) => {
  const running = await supervise(t, "blocks");
  await until(() => running.heard().includes("started 1"));
  running.mode("works");
  const pid = running.workerPid();
  await until(() => running.heard().includes("started 2"));
  t.throws(() => process.kill(pid, 0), { code: "ESRCH" });
});

test("a worker that takes its time to start is left alone, and watched once it serves", async (t) => {
  const running = await supervise(t, "starts slowly");
  await until(() => running.supervisor.irreplaceable === "");
  t.deepEqual(running.heard(), ["started 1"]);
  running.mode("works");
  process.kill(running.workerPid(), "SIGSTOP");
  await until(() => running.heard().includes("started 2"));
});

test("declared dead: the worker is told, and a new one begins", async (t) => {
  const running = await supervise(t);
  await until(() => running.heard().includes("started 1"));
  for (;;) {
    const { lease, revision } = await running.store.leases.read("s1");
    if (lease === undefined) throw new Error("no lease");
    const dead = { ...lease, state: "dead" as const };
    const won = await running.store.leases
      .put(dead, revision, { messageId: `d${revision}`, deadlineMs: 1_000 })
      .catch(() => 0);
    if (won !== 0) break;
  }
  await until(() => running.heard().includes("started 2"));
  t.regex(running.heard().join("\n"), /fenced 1 .*incarnation 1 is dead/);
});

test("a worker that does not end when the lease is lost is killed", async (t) => {
  const running = await supervise(t, "stubborn");
  await until(() => running.heard().includes("started 1"));
  running.mode("works");
  for (let won = 0; won === 0; ) {
    const { lease, revision } = await running.store.leases.read("s1");
    if (lease === undefined) throw new Error("no lease");
    const dead = { ...lease, state: "dead" as const };
    won = await running.store.leases
      .put(dead, revision, { messageId: `d${revision}`, deadlineMs: 1_000 })
      .catch(() => 0);
  }
  await until(() => running.heard().includes("started 2"));
  t.pass();
});

test("workers that die at once are started ever more slowly, and the server stays silent meanwhile", async (t) => {
  const running = await supervise(t, "dies");
  await until(() => running.heard().length >= 3);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const starts = running.heard().length;
  t.true(starts >= 3 && starts <= 7, `${starts} starts`);
  running.mode("works");
  const before = starts;
  await until(() => running.heard().length > before && running.passes());
  t.pass();
});

test("store killed: everything pauses and goes on under the same incarnation", async (t) => {
  const running = await supervise(t);
  await until(() => running.heard().includes("started 1"));
  await running.nats.kill();
  await until(() => !running.passes(), 2_000);
  await running.nats.up();
  await until(() => running.passes(), 3_000);
  t.is(running.map()?.incarnation, 1);
  t.deepEqual(running.heard(), ["started 1"]);
});

test("stop: fenced, said, the worker ended by itself", async (t) => {
  const running = await supervise(t);
  await until(() => running.heard().includes("started 1"));
  running.supervisor.stop();
  await running.done;
  t.is(running.map()?.untilNs, 0n);
  t.is((await running.store.leases.read("s1")).lease?.state, "fenced");
  t.true(running.heard().includes("fenced 1 the agent is being stopped"));
});

const never = new Promise<void>(() => {});

test("replaced: connections first, then the lease; one incarnation, and nobody is silenced", async (t) => {
  const running = await supervise(t, "passes");
  await until(() => running.heard().includes("started 1") && running.supervisor.irreplaceable === "");
  const former = running.workerPid();
  const { supervisor, startWorker } = running.another();
  const worker = startWorker(1, true);
  const silenced = running.silenced();
  let next: Promise<void> = Promise.resolve();
  let relieve: () => void = () => {};
  const relieved = new Promise<void>((resolve) => {
    relieve = resolve;
  });
  const inherit = (lease: HeldLease) => {
    next = supervisor.run({ lease, worker, relieve });
  };
  const successor = { gone: never, relieved, passing: () => {}, inherit };
  // Starting a process may have kept its lease waiting, and on a busy machine it may wait again at any moment: then nothing has begun.
  for (let isRefused = true, tries = 0; isRefused; tries++) {
    await until(() => running.supervisor.irreplaceable === "");
    isRefused = await running.supervisor.handOver(successor).then(
      () => false,
      (error: Error) => {
        if (tries === 5 || !error.message.startsWith("its lease is not renewed")) throw error;
        return true;
      },
    );
  }
  await running.done;
  t.true(running.supervisor.isReplaced);
  t.true(running.heard().includes("retired 1"));
  t.false(lives(former));
  t.is(running.workerPid(), worker.pid);
  const inherited = running.map()?.untilNs ?? 0n;
  await until(() => (running.map()?.untilNs ?? 0n) > inherited + 200_000_000n);
  t.is(running.silenced(), silenced);
  t.is(running.map()?.incarnation, 1);
  supervisor.stop();
  await next;
  t.is((await running.store.leases.read("s1")).lease?.state, "fenced");
});

test("a worker that is busy keeps what it has, and an agent that is stopped is not replaced", async (t) => {
  const running = await supervise(t, "keeps");
  await until(() => running.heard().includes("started 1") && running.supervisor.irreplaceable === "");
  const successor = { gone: never, relieved: never, passing: () => t.fail(), inherit: () => t.fail() };
  await t.throwsAsync(running.supervisor.handOver(successor), { message: "it is busy" });
  await until(() => running.passes());
  t.deepEqual(running.heard(), ["started 1"]);
  await until(() => running.supervisor.irreplaceable === "");
  running.supervisor.stop();
  t.regex(running.supervisor.irreplaceable, /being stopped/);
  await t.throwsAsync(running.supervisor.handOver(successor), { code: "AGENT_UNAVAILABLE" });
});

for (const [mode, why] of [
  ["breaks", /the way is gone/],
  ["dies passing", /its worker has died/],
] as const) {
  test(`a replacement that fails half-way is the end of an incarnation: ${mode}`, async (t) => {
    const running = await supervise(t, mode);
    await until(() => running.heard().includes("started 1") && running.supervisor.irreplaceable === "");
    running.mode("works");
    const successor = { gone: never, relieved: never, passing: () => {}, inherit: () => t.fail() };
    await t.throwsAsync(running.supervisor.handOver(successor), { message: why });
    await until(() => running.heard().includes("started 2") && running.passes());
    t.false(running.supervisor.isReplaced);
    t.is(running.map()?.incarnation, 2);
  });
}
