import fc from "fast-check";
import { connectionId, type Flow } from "../../proto/flow.js";
import {
  type ConnectionRecord,
  type OutputPiece,
  pieceLength,
  type RelatedFlow,
  type TcpState,
} from "../../proto/record.js";
import { phases } from "../../proto/vocabulary.js";

/** A plausible record: 200 bytes of a 300-byte response head acknowledged, 5 GB of an object and the FIN to come. */
export function exampleRecord(): ConnectionRecord {
  const flow: Flow = {
    client: { address: "10.77.0.10", port: 51234 },
    vip: { address: "10.77.0.100", port: 80 },
    transport: "tcp",
  };
  return {
    version: 1,
    id: connectionId(flow, 2886723411),
    serverId: "s1",
    incarnation: 3,
    epoch: 1,
    takenAtUs: 1_790_000_000_123_456,
    bundleId: "",
    flow,
    service: "http",
    protocol: "http",
    tcp: {
      clientIsn: 2886723411,
      serverIsn: 4294967290,
      clientSeq: 2886724012,
      serverSeq: 195,
      mss: 1448,
      sendScale: 7,
      receiveScale: 7,
      windowScaling: true,
      sack: true,
      timestamps: true,
      timestampClock: 123456789,
      timestampUsec: false,
    },
    layers: [
      { layer: "ip", version: 1, state: Buffer.from([8, 64]) },
      { layer: "tcp", version: 1, state: Buffer.alloc(60, 1) },
      { layer: "http", version: 1, state: Buffer.alloc(400, 2) },
    ],
    output: [
      { offset: 0, literal: Buffer.alloc(300, "h") },
      {
        offset: 300,
        object: {
          objectId: "/big.bin",
          validator: `sha256:${"ab".repeat(32)}`,
          objectOffset: 0,
          length: 5_000_000_000,
        },
      },
      { offset: 5_000_000_300, fin: true },
    ],
    floor: 200,
    floorByte: Buffer.from("h"),
    consumed: 600,
    clientFinished: false,
    spool: Buffer.alloc(100, "G"),
    phase: "LIVE",
    unprotectedReason: "",
    writer: "s1/3",
    bornAtUs: 1_790_000_000_000_000,
    processed: 500,
    spilled: 0,
  };
}

const u32 = fc.nat(2 ** 31 - 1).chain((half) => fc.constantFrom(half, half + 2 ** 31));
const offset = fc.maxSafeNat().map((value) => Math.floor(value / 4));
const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((value) => Buffer.from(value));
const address = fc.oneof(
  fc.constantFrom("10.77.0.10", "255.255.255.255", "0.0.0.0"),
  fc.constantFrom("fd77::10", "::1", "fe80::1:0:0:1", "2001:db8::ffff"),
);
const endpoint = fc.record({ address, port: fc.integer({ min: 1, max: 65535 }) });

const tcp: fc.Arbitrary<TcpState> = fc.record({
  clientIsn: u32,
  serverIsn: u32,
  clientSeq: u32,
  serverSeq: u32,
  mss: fc.nat(65535),
  sendScale: fc.nat(14),
  receiveScale: fc.nat(14),
  windowScaling: fc.boolean(),
  sack: fc.boolean(),
  timestamps: fc.boolean(),
  timestampClock: u32,
  timestampUsec: fc.boolean(),
});

type Body =
  | { literal: Buffer }
  | { object: { objectId: string; validator: string; objectOffset: number; length: number } };

const body: fc.Arbitrary<Body> = fc.oneof(
  fc.record({ literal: fc.uint8Array({ minLength: 1, maxLength: 50 }).map((value) => Buffer.from(value)) }),
  fc.record({
    object: fc.record({
      objectId: fc.string(),
      validator: fc.string(),
      objectOffset: offset,
      length: fc.integer({ min: 1, max: 2 ** 48 }),
    }),
  }),
);

/** Output without gaps from an offset on, and a floor within it. */
const output = fc
  .record({
    start: offset,
    bodies: fc.array(body, { maxLength: 5 }),
    fin: fc.boolean(),
    part: fc.double({ min: 0, max: 1, noNaN: true }),
    floorByte: fc.nat(255),
  })
  .map(({ start, bodies, fin, part, floorByte }) => {
    const pieces: OutputPiece[] = [];
    let end = start;
    for (const what of bodies) {
      const piece: OutputPiece = { offset: end, ...what };
      pieces.push(piece);
      end += pieceLength(piece);
    }
    if (fin) pieces.push({ offset: end++, fin: true });
    const floor = start + Math.floor((end - start) * part);
    return { output: pieces, floor, floorByte: floor === 0 ? Buffer.alloc(0) : Buffer.from([floorByte]) };
  });

const input = fc
  .record({ processed: offset, spilled: offset, spool: bytes(100), clientFinished: fc.boolean() })
  .map((value) => ({
    ...value,
    consumed: Math.max(value.processed, value.spilled) + value.spool.length + (value.clientFinished ? 1 : 0),
  }));

const rest = fc.record({
  version: fc.constant(1 as const),
  id: fc.string(),
  serverId: fc.string(),
  incarnation: fc.maxSafeNat(),
  epoch: fc.maxSafeNat(),
  takenAtUs: fc.maxSafeNat(),
  bundleId: fc.string(),
  flow: fc.record({ client: endpoint, vip: endpoint, transport: fc.constantFrom("tcp" as const, "udp" as const) }),
  service: fc.string(),
  protocol: fc.string(),
  tcp,
  layers: fc.array(fc.record({ layer: fc.string(), version: u32, state: bytes(80) }), { maxLength: 4 }),
  phase: fc.constantFrom(...phases),
  unprotectedReason: fc.string(),
  writer: fc.string(),
  bornAtUs: fc.maxSafeNat(),
});

const port = fc.nat(65535);
const relatedFlow: fc.Arbitrary<RelatedFlow> = fc.record(
  {
    transport: fc.constantFrom("tcp" as const, "udp" as const),
    clientPort: port,
    vipPort: port,
    clientAddress: address,
    name: fc.string(),
    bytes: fc.maxSafeNat(),
  },
  { requiredKeys: ["transport", "clientPort", "vipPort", "name", "bytes"] },
);
const flows = fc.oneof(
  fc.constant({}),
  fc.array(relatedFlow, { minLength: 1, maxLength: 4 }).map((value) => ({ flows: value })),
);

/** Any record that keeps the rules. */
export const anyRecord: fc.Arbitrary<ConnectionRecord> = fc
  .tuple(rest, output, input, flows)
  .map(([common, promised, taken, related]) => ({ ...common, ...promised, ...taken, ...related }));
