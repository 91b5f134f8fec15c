import "../support/quiet.js";
import { once } from "node:events";
import test, { type ExecutionContext } from "ava";
import { AgentLink, type LinkHandlers } from "../../agent/link/index.js";
import type { AgentSessions } from "../../controller/agents/index.js";
import type {
  AgentHello,
  LiveConnection,
  Relation,
  TakenOver,
  TakeoverResult,
  Welcome,
} from "../../proto/rpc/index.js";
import { FakeApi } from "../support/api.js";
import { eventually } from "../support/eventually.js";

const hello: AgentHello = {
  serverId: "s1",
  incarnation: 3,
  mac: Buffer.from("020000000001", "hex"),
  addresses: ["10.77.0.101"],
  services: ["http"],
  version: "0.1.0",
  pid: 42,
};
const result: TakeoverResult = {
  connectionId: "c.1",
  flow: null,
  result: "ok",
  reason: "",
  phasesUs: { LIVE: 900 },
  epoch: 2,
  from: "s2",
};
const live: LiveConnection = {
  id: "c.1",
  phase: "LIVE",
  bytesSent: 1,
  bytesReceived: 2,
  clientSeq: 3,
  serverSeq: 4,
  object: "/o",
  objectOffset: 5,
  firstByteSeq: 6,
  isProtected: true,
  reason: "",
  ageSeconds: 7,
  history: [],
  tcpState: 1,
  outstanding: 0,
};
const adoption = {
  flow: null,
  clientIsn: 1,
  clientAck: 2,
  mss: 1448,
  windowScale: 7,
  sack: true,
  timestamps: true,
  clientTsval: 3,
  clientTsecr: 4,
  takeoverId: "t",
  from: "s2",
};

function handlers(changes: Partial<LinkHandlers> = {}): LinkHandlers {
  return {
    hello: () => hello,
    describe: () => [live],
    adopt: async () => result,
    prepare: async ({ request }) => ({ request, ready: true, reason: "", elapsedUs: 1 }),
    freeze: () => {},
    cancel: () => {},
    welcome: () => undefined,
    ...changes,
  };
}

function batches(agents: AgentSessions, acknowledge: boolean): TakenOver[] {
  const seen: TakenOver[] = [];
  agents.on("takenOver", (_server, batch, done) => {
    seen.push(batch);
    if (acknowledge) done();
  });
  return seen;
}

test("an agent says hello, is welcomed, reports and answers", async (t) => {
  const api = await new FakeApi(t).start();
  let welcomed: [string, Welcome] | undefined;
  const welcome = (controller: string, message: Welcome) => {
    welcomed = [controller, message];
  };
  const link = new AgentLink([{ id: "lb1", target: api.target }], handlers({ welcome }));
  t.teardown(() => link.close("test over"));
  link.start();
  const [server, said] = await once(api.agents, "hello");
  t.is(server, "s1");
  t.deepEqual(said, hello);
  t.true(
    api.agents.send("s1", {
      welcome: { slot: 1, generation: 2, controllerId: "lb1", mac: Buffer.from("02000000000a", "hex") },
    }),
  );
  await eventually("a welcome", () => welcomed !== undefined);
  t.deepEqual(welcomed, [
    "lb1",
    { slot: 1, generation: 2, controllerId: "lb1", mac: Buffer.from("02000000000a", "hex") },
  ]);
  t.deepEqual(link.connected(), ["lb1"]);

  const seen = batches(api.agents, true);
  link.reportTakenOver("t1", [result]);
  await eventually("an acknowledgement", () => link.unacknowledged() === 0);
  t.deepEqual(seen, [{ batch: 1, takeoverId: "t1", results: [result] }]);

  t.deepEqual(await api.agents.describe("s1", { all: true }, 1000), [live]);
  t.deepEqual(await api.agents.adopt("s1", adoption, 1000), result);
});

test("a controller is greeted when it has answered, not when the hello was written", async (t) => {
  const api = await new FakeApi(t).start();
  const link = new AgentLink([{ id: "lb1", target: api.target }], handlers());
  t.teardown(() => link.close("test over"));
  let greeted = false;
  const greeting = link.greeted(5000).then(() => {
    greeted = true;
  });
  link.start();
  await once(api.agents, "hello");
  await api.agents.describe("s1", { all: true }, 1000); // so the agent has had its turns since
  t.false(greeted);
  api.agents.send("s1", {
    welcome: { slot: 1, generation: 2, controllerId: "lb1", mac: Buffer.from("02000000000a", "hex") },
  });
  await greeting;
  t.deepEqual(link.connected(), ["lb1"]);
});

test("a batch that was not acknowledged comes again after a reconnection, also one made meanwhile", async (t) => {
  const api = await new FakeApi(t).start();
  const link = new AgentLink([{ id: "lb1", target: api.target }], handlers());
  t.teardown(() => link.close("test over"));
  link.start();
  await once(api.agents, "hello");
  const first = batches(api.agents, false);
  link.reportTakenOver("t1", [result]);
  await eventually("the first batch", () => first.length === 1);

  const closed = once(api.agents, "closed").catch(() => undefined);
  await api.stop();
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 500))]);
  link.reportTakenOver("t1", [result, result]);
  t.is(link.unacknowledged(), 3);
  await eventually("the loss is noticed", () => link.connected().length === 0);

  // A restarted controller: it knows nothing of what the former one has seen.
  const again = new FakeApi(t);
  Object.assign(again, { socket: api.socket });
  const second = batches(again.agents, true);
  const began = performance.now();
  await again.start();
  await eventually("both batches", () => link.unacknowledged() === 0);
  t.deepEqual(
    second.map(({ batch, results }) => [batch, results.length]),
    [
      [1, 1],
      [2, 2],
    ],
  );
  t.true(performance.now() - began < 1500, `${performance.now() - began} ms`);
});

test("a repeated batch is acknowledged but not acted on twice", async (t) => {
  const api = await new FakeApi(t).start();
  const seen: TakenOver[] = [];
  let done: (() => void) | undefined;
  api.agents.on("takenOver", (_server, batch, acknowledge) => {
    seen.push(batch);
    done = acknowledge;
  });
  const link = new AgentLink([{ id: "lb1", target: api.target }], handlers());
  t.teardown(() => link.close("test over"));
  link.start();
  await once(api.agents, "hello");
  link.reportTakenOver("t1", [result]);
  await eventually("the batch", () => seen.length === 1);
  await new Promise((resolve) => setTimeout(resolve, 2500)); // repeated twice meanwhile
  t.is(seen.length, 1);
  t.is(link.unacknowledged(), 1);
  done?.();
  await eventually("an acknowledgement", () => link.unacknowledged() === 0);
});

test("a batch that could not be acted on is news when it is said again", async (t) => {
  const api = await new FakeApi(t).start();
  let seen = 0;
  api.agents.on("takenOver", (_server, _batch, acknowledge, fail) => {
    if (++seen === 1) fail();
    else acknowledge();
  });
  const link = new AgentLink([{ id: "lb1", target: api.target }], handlers());
  t.teardown(() => link.close("test over"));
  link.start();
  await once(api.agents, "hello");
  link.reportTakenOver("t1", [result]);
  await eventually("an acknowledgement", () => link.unacknowledged() === 0);
  t.is(seen, 2);
});

test("what an agent's earlier process reported is not acknowledged to the next one, which counts anew", async (t) => {
  const api = await new FakeApi(t).start();
  const late: Array<() => void> = [];
  api.agents.on("takenOver", (_server, _batch, acknowledge) => late.push(acknowledge));
  const report = (pid: number) => {
    const link = new AgentLink([{ id: "lb1", target: api.target }], handlers({ hello: () => ({ ...hello, pid }) }));
    t.teardown(() => link.close("test over"));
    link.reportTakenOver("t1", [result]);
    link.start();
    return link;
  };
  const first = report(1);
  await eventually("the first one's batch", () => late.length === 1);
  first.close("it dies");
  const second = report(2);
  await eventually("the second one's batch, of the same number", () => late.length === 2);
  late[0]?.();
  await api.agents.describe("s1", { all: true }, 1_000); // whatever was sent has arrived
  t.is(second.unacknowledged(), 1);
  late[1]?.();
  await eventually("an acknowledgement", () => second.unacknowledged() === 0);
});

test("a controller that is not there yet is found within a second of its start", async (t) => {
  const api = new FakeApi(t);
  const link = new AgentLink([{ id: "lb1", target: api.target }], handlers());
  t.teardown(() => link.close("test over"));
  link.start();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const connected = once(api.agents, "hello");
  const began = performance.now();
  await api.start();
  await connected;
  t.true(performance.now() - began < 1000, `${performance.now() - began} ms`);
});

test("reports go to every controller", async (t) => {
  const [one, two] = [await new FakeApi(t).start(), await new FakeApi(t).start()];
  const targets = [
    { id: "lb1", target: one.listen },
    { id: "lb2", target: two.target },
  ];
  const link = new AgentLink(targets, handlers());
  t.teardown(() => link.close("test over"));
  const [first, second] = [batches(one.agents, true), batches(two.agents, true)];
  link.start();
  await Promise.all([once(one.agents, "hello"), once(two.agents, "hello")]);
  link.reportTakenOver("t1", [result]);
  await eventually("both acknowledgements", () => link.unacknowledged() === 0);
  t.is(first.length, 1);
  t.is(second.length, 1);
});

/** A link to two controllers that say what came, and answer as they are told. */
async function related(t: ExecutionContext) {
  const apis = [await new FakeApi(t).start(), await new FakeApi(t).start()];
  const said: string[] = [];
  const answers: Array<string | undefined> = ["", ""];
  const listen = (api: FakeApi, i: number) => {
    api.agents.on("relate", (_server, { bundle, relations }, answer) => {
      said.push(`${i} relate ${bundle} ${relations.map(({ vipPort }) => vipPort)}`);
      const reason = answers[i];
      if (reason !== undefined) answer(reason);
    });
    api.agents.on("unrelate", (_server, { bundle, relations }) => {
      said.push(`${i} unrelate ${bundle} ${relations.map(({ vipPort }) => vipPort)}`);
    });
  };
  apis.forEach(listen);
  const targets = apis.map(({ target }, i) => ({ id: `lb${i}`, target }));
  const link = new AgentLink(targets, handlers());
  t.teardown(() => link.close("test over"));
  link.start();
  await eventually("both controllers", () => link.connected().length === 2);
  const taken = () => said.splice(0).sort();
  return { apis, answers, link, taken };
}

const relation = (vipPort: number): Relation => ({ transport: "TCP", vipPort, clientPort: 0 });

test("flows are related when every controller has said so, and said again to one that connects later", async (t) => {
  const { apis, link, taken } = await related(t);
  await link.relate("b.1", [relation(30_000), relation(30_001)], 10_000);
  t.deepEqual(taken(), ["0 relate b.1 30000,30001", "1 relate b.1 30000,30001"]);
  link.unrelate("b.1", [relation(30_000)]);
  await eventually("two words", () => taken().length === 2);
  await apis[1]?.stop();
  await eventually("one controller", () => link.connected().length === 1);
  await link.relate("b.2", [relation(30_002)], 10_000);
  t.deepEqual(taken(), ["0 relate b.2 30002"]);
  link.forgetRelations("b.1");
  await apis[1]?.start();
  const seen: string[] = [];
  await eventually("what was agreed", () => seen.push(...taken()) > 0);
  t.deepEqual(seen, ["1 relate b.2 30002"]);
});

test("a bundle that is over while its flows are being related is not spoken of any more", async (t) => {
  const { apis, answers, link, taken } = await related(t);
  answers[1] = undefined;
  const asked = t.throwsAsync(link.relate("b.1", [relation(30_000)], 10_000));
  const words: string[] = [];
  await eventually("both questions", () => words.push(...taken()) > 0 && words.length === 2);
  link.forgetRelations("b.1");
  t.like(await asked, { code: "REFUSED", reason: "the bundle is not here any more" });
  await apis[1]?.stop();
  await eventually("one controller", () => link.connected().length === 1);
  answers[1] = "";
  await apis[1]?.start();
  await eventually("both controllers", () => link.connected().length === 2);
  await link.relate("b.2", [relation(30_001)], 10_000);
  t.deepEqual(taken(), ["0 relate b.2 30001", "1 relate b.2 30001"]);
});

test("what one controller refuses no controller keeps; what was there before stays", async (t) => {
  const { answers, link, taken } = await related(t);
  await link.relate("b.1", [relation(30_000)], 10_000);
  taken();
  answers[1] = "taken";
  const error = await t.throwsAsync(link.relate("b.1", [relation(30_000), relation(30_001)], 10_000));
  t.like(error, { code: "REFUSED", reason: "taken" });
  await eventually("the words", () => taken().includes("0 unrelate b.1 30001"));
});

test("a controller that says nothing refuses, one that goes does not count, and one has to be there", async (t) => {
  const { apis, answers, link } = await related(t);
  answers[1] = undefined;
  t.like(await t.throwsAsync(link.relate("b.1", [relation(30_000)], 50)), {
    message: "no controller answered in time",
  });
  const asked = link.relate("b.1", [relation(30_000)], 5_000);
  await apis[1]?.stop();
  await asked;
  await apis[0]?.stop();
  await eventually("nobody", () => link.connected().length === 0);
  t.like(await t.throwsAsync(link.relate("b.1", [relation(30_000)], 50)), { message: "no controller is connected" });
});

test("an agent that does not answer is waited for only so long", async (t) => {
  const api = await new FakeApi(t).start();
  const never = new Promise<never>(() => undefined);
  const link = new AgentLink(
    [{ id: "lb1", target: api.target }],
    handlers({ describe: () => never, adopt: () => never }),
  );
  link.start();
  await once(api.agents, "hello");
  t.deepEqual(await api.agents.describe("s1", { ids: ["c"] }, 50), []);
  await t.throwsAsync(api.agents.adopt("s1", adoption, 50), { message: "The agent of s1 did not answer." });
  t.deepEqual(await api.agents.describe("s9", { all: true }, 10_000), []);
  t.false(api.agents.send("s9", { takenOverAck: { batch: 1 } }));

  const pending = api.agents.describe("s1", { all: true }, 10_000);
  const closed = once(api.agents, "closed");
  link.close("test over");
  t.deepEqual(await pending, []);
  t.is((await closed)[0], "s1");
  t.deepEqual(api.agents.list(), []);
});

test("a batch arrives within milliseconds", async (t) => {
  const api = await new FakeApi(t).start();
  const link = new AgentLink([{ id: "lb1", target: api.listen }], handlers());
  t.teardown(() => link.close("test over"));
  link.start();
  await once(api.agents, "hello");
  const times: number[] = [];
  for (let i = 0; i < 50; i++) {
    const began = performance.now();
    const arrived = once(api.agents, "takenOver");
    link.reportTakenOver("t", [result]);
    const [, , done] = await arrived;
    times.push(performance.now() - began);
    done();
    await eventually("an acknowledgement", () => link.unacknowledged() === 0, 1000, 1);
  }
  times.sort((a, b) => a - b);
  t.log(`p50 ${times[25]?.toFixed(2)} ms, max ${times[49]?.toFixed(2)} ms`);
  t.true((times[25] ?? 99) < 10); // Nagle's algorithm or a timer in between would cost 40 ms
});
