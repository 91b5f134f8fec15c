import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import protobuf from "protobufjs";
import { BatonError } from "../../proto/errors.js";
import { root } from "../../proto/paths.js";
import {
  type ConnectionRecord,
  decodeRecord,
  decodeTakeover,
  encodeRecord,
  encodeTakeover,
  finPromised,
  outputEnd,
  type Takeover,
  wireTypes,
} from "../../proto/record.js";
import { phases, takeoverResults } from "../../proto/vocabulary.js";
import { anyRecord, exampleRecord } from "../support/record.js";

const schema = new protobuf.Root();
schema.resolvePath = (_origin, target) => join(root, "proto", target.replace(/^.*proto\/(?=baton)/, ""));
schema.loadSync("baton/v1/record.proto");
const Message = schema.lookupType("baton.v1.ConnectionRecord");

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof BatonError) return error.code;
    throw error;
  }
  return "none";
}

test("every record survives a round trip", (t) => {
  fc.assert(
    fc.property(anyRecord, (record) => {
      t.deepEqual(decodeRecord(encodeRecord(record)), record);
    }),
  );
});

test("the bytes are those of the schema", (t) => {
  const record = exampleRecord();
  const message = Message.toObject(Message.decode(encodeRecord(record)), {
    longs: Number,
    enums: String,
    bytes: Buffer,
  });
  t.is(message.id, record.id);
  t.is(message.floor, record.floor);
  t.is(message.phase, "LIVE");
  t.is(message.flow.transport, "TCP");
  t.deepEqual([...message.flow.clientAddress], [10, 77, 0, 10]);
  t.is(message.output[1].object.length, 5_000_000_000);
  t.is(message.tcp.clientIsn, record.tcp.clientIsn);
});

test("a takeover survives a round trip", (t) => {
  const takeover: Takeover = {
    id: "t1",
    serverId: "s1",
    incarnation: 7,
    survivors: ["s2", "s3"],
    declaredAtUs: 1_790_000_000_000_001,
    reason: "fenced",
    finished: false,
    suspectedAtUs: 1_790_000_000_000_000,
    round: 2,
  };
  t.deepEqual(decodeTakeover(encodeTakeover(takeover)), takeover);
  t.is(
    codeOf(() => decodeTakeover(Buffer.from([0xff, 0xff]))),
    "RECORD_INVALID",
  );
  t.is(
    codeOf(() => decodeTakeover(Buffer.alloc(0))),
    "RECORD_INVALID",
  );
});

test("fields of a later version survive, at every level", (t) => {
  const later = protobuf.Root.fromJSON(schema.toJSON());
  const add = (type: string, id: number, kind: string) =>
    later.lookupType(`baton.v1.${type}`).add(new protobuf.Field("later", id, kind));
  add("ConnectionRecord", 100, "string");
  add("TcpState", 101, "uint64");
  add("LayerSection", 102, "fixed32");
  add("OutputPiece", 103, "fixed64");
  add("ObjectReference", 104, "bytes");
  const Later = later.lookupType("baton.v1.ConnectionRecord");

  const written = Later.decode(encodeRecord(exampleRecord())) as unknown as Record<string, never>;
  const value = Later.toObject(written as unknown as protobuf.Message, { longs: String });
  value.later = "new";
  value.tcp.later = "18446744073709551615";
  value.layers[0].later = 42;
  value.output[1].later = "12345678901234567890";
  value.output[1].object.later = Buffer.from("deep");
  const bytes = Later.encode(Later.fromObject(value)).finish();

  const seen = decodeRecord(bytes);
  t.is(seen.serverId, "s1");
  const changed = encodeRecord({ ...seen, serverId: "s2", epoch: seen.epoch + 1 });
  const again = Later.toObject(Later.decode(changed), { longs: String });
  t.is(again.serverId, "s2");
  t.is(again.later, "new");
  t.is(again.tcp.later, "18446744073709551615");
  t.is(again.layers[0].later, 42);
  t.is(again.output[1].later, "12345678901234567890");
  t.is(Buffer.from(again.output[1].object.later).toString(), "deep");
});

test("the wire types beside the codec are the schema's", (t) => {
  const wireTypeOf = (field: protobuf.Field) => {
    if (field.type === "fixed32") return 5;
    if (field.type === "string" || field.type === "bytes" || field.resolvedType instanceof protobuf.Type) return 2;
    return 0;
  };
  for (const [name, known] of Object.entries(wireTypes)) {
    const type = schema.lookupType(`baton.v1.${name}`);
    const expected = Object.fromEntries(type.fieldsArray.map((field) => [field.resolve().id, wireTypeOf(field)]));
    t.deepEqual(known as Record<number, number>, expected, name);
  }
});

test("phases are the schema's", (t) => {
  const { PHASE_UNSPECIFIED, ...values } = schema.lookupEnum("baton.v1.Phase").values;
  t.is(PHASE_UNSPECIFIED, 0);
  t.deepEqual(values, Object.fromEntries(phases.map((phase, index) => [phase, index + 1])));
});

test("results of takeovers are those that agent.proto lists", (t) => {
  const agent = new protobuf.Root();
  agent.resolvePath = schema.resolvePath;
  agent.loadSync("baton/v1/agent.proto", { alternateCommentMode: true, keepCase: false });
  const comment = agent.lookupType("baton.v1.TakeoverResult").fields.result?.comment ?? "";
  t.deepEqual(
    [...comment.matchAll(/"(\w+)"/g)].map((match) => match[1] as string),
    [...takeoverResults],
  );
});

test("whatever the bytes, the answer is a record or an error with a code", (t) => {
  const good = encodeRecord(exampleRecord());
  const damage = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
  let refused = 0;
  fc.assert(
    fc.property(damage, fc.nat(good.length), (changes, cut) => {
      const bytes = Buffer.from(good.subarray(0, cut < 10 ? good.length : cut));
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
      const code = codeOf(() => decodeRecord(bytes));
      if (code !== "none") refused++;
      return ["none", "RECORD_INVALID", "RECORD_VERSION", "ADDRESS_INVALID"].includes(code);
    }),
    { numRuns: 2000 },
  );
  t.true(refused > 100);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => codeOf(() => decodeRecord(bytes)) !== "none"));
});

test("a record that breaks its own rules is neither written nor read", (t) => {
  const good = exampleRecord();
  const head = good.output[0]!;
  const bad: Array<[string, Partial<ConnectionRecord>]> = [
    ["gap", { output: [head, { offset: 301, fin: true }] }],
    ["output above the floor", { output: [{ offset: 301, literal: Buffer.from("x") }] }],
    [
      "behind the FIN",
      {
        output: [
          { offset: 0, fin: true },
          { offset: 1, literal: Buffer.alloc(300) },
        ],
      },
    ],
    ["empty piece", { output: [head, { offset: 300, literal: Buffer.alloc(0) }] }],
    ["floor behind the end", { output: [{ offset: 0, fin: true }], floor: 5 }],
    ["no floor byte", { floorByte: Buffer.alloc(0) }],
    ["spool", { consumed: 601 }],
    ["FIN not counted", { clientFinished: true }],
    ["not an integer", { floor: 0.5 }],
    ["beyond 2^53", { epoch: 2 ** 53 }],
    ["negative", { incarnation: -1 }],
  ];
  for (const [what, change] of bad) {
    t.is(
      codeOf(() => encodeRecord({ ...good, ...change })),
      "RECORD_INVALID",
      what,
    );
  }
  const over = Message.toObject(Message.decode(encodeRecord(good)), { longs: String });
  over.consumed = "601";
  t.is(
    codeOf(() => decodeRecord(Message.encode(Message.fromObject(over)).finish())),
    "RECORD_INVALID",
  );
  over.consumed = "600";
  over.epoch = "9007199254740993";
  t.is(
    codeOf(() => decodeRecord(Message.encode(Message.fromObject(over)).finish())),
    "RECORD_INVALID",
  );
  over.epoch = "1";
  over.version = 3;
  t.is(
    codeOf(() => decodeRecord(Message.encode(Message.fromObject(over)).finish())),
    "RECORD_VERSION",
  );
});

test("a record whose input is partly beside it is of a version that older readers leave alone", (t) => {
  const spilled = encodeRecord({ ...exampleRecord(), spilled: 510, consumed: 610 });
  t.is((Message.decode(spilled) as unknown as { version: number }).version, 2);
  t.is(
    (Message.decode(encodeRecord({ ...exampleRecord(), spilled: 500 })) as unknown as { version: number }).version,
    1,
  );
  t.is(decodeRecord(spilled).spilled, 510);
});

test("a decoded record shares no memory with its bytes", (t) => {
  const bytes = encodeRecord(exampleRecord());
  const record = decodeRecord(bytes);
  bytes.fill(0);
  t.deepEqual(record, exampleRecord());
});

test("the end of the output", (t) => {
  const record = exampleRecord();
  t.is(outputEnd(record), 300 + 5_000_000_000 + 1);
  t.true(finPromised(record));
  t.is(outputEnd({ output: [], floor: 17 }), 17);
});

test("a record takes microseconds", (t) => {
  const record = exampleRecord();
  const bytes = encodeRecord(record);
  const time = (action: () => void) => {
    for (let i = 0; i < 3000; i++) action();
    let best = Number.POSITIVE_INFINITY;
    for (let run = 0; run < 5; run++) {
      const start = process.hrtime.bigint();
      for (let i = 0; i < 1000; i++) action();
      best = Math.min(best, Number(process.hrtime.bigint() - start) / 1e6);
    }
    return best;
  };
  const encode = time(() => encodeRecord(record));
  const decode = time(() => decodeRecord(bytes));
  t.log(`${bytes.length} bytes: encode ${encode.toFixed(1)} us, decode ${decode.toFixed(1)} us`);
  t.true(encode < 400 && decode < 400); // the aim is 20, on an idle machine; this catches another order of growth
});
