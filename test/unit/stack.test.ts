import test from "ava";
import type { ApplicationLayer } from "../../agent/protocols/application.js";
import { IpLayer, Stack, TcpLayer } from "../../agent/protocols/index.js";
import { BatonError, RefusedError } from "../../proto/errors.js";
import type { LayerSection, TcpState } from "../../proto/record.js";
import {
  decodeAppSection,
  decodeHttpSection,
  decodeTcpSection,
  describeSection,
  encodeAppSection,
  encodeHttpSection,
  encodeTcpSection,
  type HttpResponse,
} from "../../proto/sections.js";
import { exampleRecord } from "../support/record.js";

/** An application layer that notes what it is called with. */
function application(calls: string[]): ApplicationLayer {
  const note = (what: string) => calls.push(what);
  return {
    name: "app",
    checkpoint: (block) => block.push({ layer: "app", version: 1, state: Buffer.from("state") }),
    unready: async (section) => {
      await Promise.resolve();
      note(`unready ${section.state}`);
      if (section.version !== 1) throw new BatonError("RECORD_VERSION", "version 2");
    },
    ready: (position) => note(`ready ${position}`),
    undo: () => note("undo"),
    input: () => {},
    inputEnd: () => {},
    acknowledged: () => {},
    open: () => Promise.reject(new Error()),
    take: () => Promise.reject(new Error()),
    describe: (position) => ({ object: "/x", objectOffset: position - 10, firstByteSequence: 0, requests: 1 }),
    closed: () => {},
  };
}

function stack(state: TcpState = exampleRecord().tcp) {
  const calls: string[] = [];
  const traced: string[] = [];
  const made = new Stack(
    [new IpLayer(), new TcpLayer(exampleRecord().tcp, () => state)],
    application(calls),
    (...words) => traced.push(words.filter((word) => word !== undefined).join(" ")),
  );
  return { stack: made, calls, traced };
}

async function reasonOf(promise: Promise<void>): Promise<string> {
  return promise.then(
    () => "none",
    (error) => (error instanceof RefusedError ? error.reason : `unexpected ${error}`),
  );
}

test("every layer appends to one block, every layer takes its section, every layer is told", async (t) => {
  const first = stack();
  const block = first.stack.checkpoint();
  t.deepEqual(
    block.map((section) => section.layer),
    ["ip", "tcp", "app"],
  );
  t.deepEqual(decodeTcpSection(block[1] as LayerSection), exampleRecord().tcp);

  const second = stack();
  await second.stack.unready(block);
  second.stack.ready(1234, true);
  second.stack.undo();
  t.deepEqual(second.calls, ["unready state", "ready 1234", "undo"]);
  t.deepEqual(second.traced, [
    "unready ip",
    "unready tcp",
    "unready app",
    "ready ip",
    "ready tcp",
    "ready app /x at 1224",
    "undo app",
    "undo tcp",
    "undo ip",
  ]);
  t.deepEqual(second.stack.checkpoint(), block, "and what it appends is the same");
});

test("a connection without a checkpoint begins at the beginning", async (t) => {
  const { stack: heir, calls, traced } = stack();
  await heir.unready([]);
  t.deepEqual(calls, []);
  t.deepEqual(traced, ["unready ip", "unready tcp", "unready app"]);
});

test("a block of other layers, of another connection, of another version is refused", async (t) => {
  const block = stack().stack.checkpoint();
  const [ip, tcp, app] = block as [LayerSection, LayerSection, LayerSection];
  const refused = (sections: LayerSection[]) => reasonOf(stack().stack.unready(sections));
  t.is(await refused([ip, tcp]), "other protocol layers");
  t.is(await refused([tcp, ip, app]), "other protocol layers");
  t.is(await refused([ip, tcp, app, { ...app, layer: "tls" }]), "other protocol layers");
  t.is(await refused([ip, tcp, { ...app, version: 2 }]), "the section of app is not usable");
  t.is(await refused([{ ...ip, version: 2 }, tcp, app]), "the section of ip is not usable");
  t.is(await refused([ip, { ...tcp, state: Buffer.from([255]) }, app]), "the section of tcp is not usable");
  const state = exampleRecord().tcp;
  const contradictions: Array<Partial<TcpState>> = [
    { serverIsn: 1 },
    { clientIsn: 1 },
    { mss: 1 },
    { sack: false },
    { timestamps: false },
    { windowScaling: false },
  ];
  for (const contradiction of contradictions) {
    const section = encodeTcpSection({ ...state, ...contradiction });
    t.is(await refused([ip, section, app]), "contradictory TCP state", JSON.stringify(contradiction));
  }
});

const response: HttpResponse = {
  requestHead: Buffer.from("GET / HTTP/1.1\r\n\r\n"),
  responseHead: Buffer.from("HTTP/1.1 200 OK\r\n\r\n"),
  objectId: "/ä",
  validator: "sha256:00",
  firstByteSeq: 4294967295,
  firstByteOffset: 2 ** 40,
  objectOffset: 2 ** 33,
  length: 2 ** 41,
  keepAlive: true,
};

test("the section of http", (t) => {
  const section = {
    requests: 3,
    begun: false,
    unkept: Buffer.alloc(0),
    current: response,
    queued: [{ ...response, objectId: "" }, response],
  };
  t.is(encodeHttpSection(section).version, 1);
  t.deepEqual(decodeHttpSection(encodeHttpSection(section)), section);
  const empty = { requests: 0, begun: false, unkept: Buffer.alloc(0), queued: [] };
  t.deepEqual(decodeHttpSection(encodeHttpSection(empty)), empty);
});

test("what a program without upstreams would not heed is of another version", (t) => {
  const making = { bytes: 2 ** 40, sha256: Buffer.alloc(32, 1), framing: "chunked" as const, length: 0 };
  for (const section of [
    { requests: 1, begun: true, unkept: Buffer.alloc(0), queued: [] },
    { requests: 1, begun: false, unkept: Buffer.alloc(0), current: { ...response, making }, queued: [] },
    { requests: 1, begun: false, unkept: Buffer.from("PUT"), queued: [] },
  ]) {
    t.is(encodeHttpSection(section).version, 2);
    t.deepEqual(decodeHttpSection(encodeHttpSection(section)), section);
  }
});

test("the section of app", (t) => {
  const section = { application: "echo", version: 3, state: Buffer.from([0, 255]) };
  t.deepEqual(decodeAppSection(encodeAppSection(section)), section);
  t.throws(() => decodeAppSection({ ...encodeAppSection(section), version: 2 }), { code: "RECORD_VERSION" });
});

test("sections for people", (t) => {
  const block = stack().stack.checkpoint();
  t.deepEqual(describeSection(block[0] as LayerSection), { ttl: 64, dscp: 0 });
  t.deepEqual(describeSection(block[1] as LayerSection), { ...exampleRecord().tcp });
  t.like(
    describeSection(
      encodeHttpSection({ requests: 3, begun: false, unkept: Buffer.alloc(0), current: response, queued: [response] }),
    ),
    {
      requests: 3,
      requestHead: "GET / HTTP/1.1\r\n\r\n",
      objectId: "/ä",
      firstByteSeq: 4294967295,
      firstByteOffset: 2 ** 40,
    },
  );
  const app = { application: "echo", version: 1 };
  t.deepEqual(describeSection(encodeAppSection({ ...app, state: Buffer.from('{"lines":3}') })), {
    ...app,
    state: { lines: 3 },
  });
  for (const state of [Buffer.from([1, 255]), Buffer.from("12"), Buffer.from("null")]) {
    t.deepEqual(describeSection(encodeAppSection({ ...app, state })), { ...app, state: state.toString("hex") });
  }
  t.deepEqual(describeSection({ layer: "tls", version: 1, state: Buffer.from([1, 255]) }), { bytes: "01ff" });
  t.deepEqual(describeSection({ layer: "tcp", version: 9, state: Buffer.from([1]) }), { bytes: "01" });
  t.notThrows(() => JSON.stringify(block.map(describeSection)));
});
