import test from "ava";
import { freeze } from "../../agent/connection/frozen.js";
import type { GuardEntry } from "../../agent/guard/index.js";
import type { SocketImage } from "../../agent/native/api.js";
import { RefusedError } from "../../proto/errors.js";
import { decodeRecord, encodeRecord } from "../../proto/record.js";
import { toSequence } from "../../proto/sequence.js";
import { literalRecord } from "../support/worker_scene.js";

const [ESTABLISHED, CLOSE_WAIT] = [1, 8];
const snapshot = literalRecord();
const unread = Buffer.alloc(100, "u");
const entry = { sendNext: 1, sentAck: 2, tsecr: 3 } as GuardEntry;
const behind = (bytes: number) => toSequence(snapshot.tcp.clientIsn, snapshot.consumed + bytes);

function frozen({ state = ESTABLISHED, receiveNext = behind(unread.length), recordBytes = 100_000 } = {}) {
  const image = { window: {}, options: {}, receiveQueue: unread, receiveNext, state, timestampClock: 5 } as SocketImage;
  return freeze({ snapshot, revision: 7, fd: 3, sentOffset: 300, image, entry, recordBytes });
}
const refusal = (act: () => unknown) => {
  try {
    act();
  } catch (error) {
    if (error instanceof RefusedError) return error.message;
  }
  return "not refused";
};

test("what nobody has read is the socket's, and not in the record", (t) => {
  const { record, bytes, socket, writtenTo } = frozen();
  t.like(record, { phase: "FROZEN", consumed: snapshot.consumed, clientFinished: false });
  t.deepEqual(record.spool, snapshot.spool);
  t.deepEqual(decodeRecord(bytes), decodeRecord(encodeRecord(record)));
  t.like(socket, { sendNext: 1, acknowledged: 2, echo: 3, unread });
  t.is(writtenTo, 300);
});

test("input that ends with the client's FIN is spool of the record", (t) => {
  const { record, socket } = frozen({ state: CLOSE_WAIT, receiveNext: behind(unread.length + 1) });
  t.like(record, { consumed: snapshot.consumed + unread.length + 1, clientFinished: true });
  t.deepEqual(record.spool, Buffer.concat([snapshot.spool, unread]));
  t.is(socket.unread.length, 0);
});

test("input that ends with the client's FIN and is too long for a record stays unread, and the FIN comes again", (t) => {
  const recordBytes = encodeRecord(snapshot).length + 1_024 + 50;
  const { record, socket } = frozen({ state: CLOSE_WAIT, receiveNext: behind(unread.length + 1), recordBytes });
  t.like(record, { consumed: snapshot.consumed, clientFinished: false });
  t.deepEqual(socket.unread, unread);
});

test("a socket that has other input than its record says is not frozen", (t) => {
  t.is(
    refusal(() => frozen({ receiveNext: behind(0) })),
    "its input is not where its record says",
  );
});

test("a record that its next owner could not commit is not frozen", (t) => {
  t.regex(
    refusal(() => frozen({ recordBytes: encodeRecord(snapshot).length })),
    /^too much of its input is not used yet: its record would have \d+ bytes$/,
  );
});
