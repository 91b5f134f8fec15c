import test from "ava";
import { freeze } from "../../agent/connection/frozen.js";
import type { GuardEntry } from "../../agent/guard/index.js";
import type { SocketImage } from "../../agent/native/api.js";
import { RefusedError } from "../../proto/errors.js";
import { decodeRecord, encodeRecord } from "../../proto/record.js";
import { literalRecord } from "../support/worker_scene.js";

const record = literalRecord();
const image = { window: {}, options: {}, receiveQueue: Buffer.from("unread") } as SocketImage;
const entry = { sendNext: 1, sentAck: 2, tsecr: 3 } as GuardEntry;
const frozenWithin = (recordBytes: number) => freeze(record, 7, { fd: 3, sentOffset: 300 }, image, entry, recordBytes);

test("what is frozen is the record, and beside it what the socket holds", (t) => {
  const { bytes, socket, writtenTo } = frozenWithin(100_000);
  t.deepEqual(decodeRecord(bytes), decodeRecord(encodeRecord(record)));
  t.like(socket, { sendNext: 1, acknowledged: 2, echo: 3, unread: Buffer.from("unread") });
  t.is(writtenTo, 300);
});

test("a record that its next owner could not commit is not frozen", (t) => {
  const refused = t.throws(() => frozenWithin(encodeRecord(record).length), { instanceOf: RefusedError });
  t.regex(refused?.message ?? "", /^too much of its input is not used yet: its record would have \d+ bytes$/);
});
