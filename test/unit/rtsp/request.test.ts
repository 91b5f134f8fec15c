import test from "ava";
import fc from "fast-check";
import { frameOf } from "../../../agent/protocols/rtsp/interleaved.js";
import { BODY_MAX, HEAD_MAX, type Message, MessageReader } from "../../../agent/protocols/rtsp/request.js";

/** All messages of a stream that comes in pieces of these sizes, again and again. */
function read(stream: Buffer | string, sizes: number[] = [], offset = 0): Message[] {
  const reader = new MessageReader(offset);
  const list: Message[] = [];
  let rest = Buffer.from(stream as string, "latin1");
  for (let turn = 0; rest.length > 0; turn++) {
    const size = sizes.length > 0 ? Math.max(1, sizes[turn % sizes.length] as number) : rest.length;
    reader.push(rest.subarray(0, size));
    rest = rest.subarray(size);
    for (let message = reader.next(); message; message = reader.next()) list.push(message);
  }
  return list;
}

function only(stream: Buffer | string): Message {
  const list = read(stream);
  if (list.length !== 1) throw new Error(`${list.length} messages`);
  return list[0] as Message;
}

const OPTIONS = "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n";

test("a request", (t) => {
  const text =
    "DESCRIBE rtsp://h/a.mp4 RTSP/1.0\r\nCSeq: 2\r\nACCEPT:  application/sdp \r\nx: 1\r\nX: 2\r\nContent-Length: 3\r\n\r\nabc";
  const message = only(text);
  if (message.kind !== "request") return t.fail(message.kind);
  t.is(message.end, text.length);
  const { method, target, cseq, headers, body } = message.request;
  t.deepEqual([method, target, cseq, String(body)], ["DESCRIBE", "rtsp://h/a.mp4", 2, "abc"]);
  t.deepEqual([headers.get("accept"), headers.get("x")], ["application/sdp", "1, 2"]);
});

test("lines end with LF alone, go on in the next one, and may be empty before", (t) => {
  const message = only("\r\n\n\r\nPLAY rtsp://h/ RTSP/1.0\nCSeq: 7\nRange: npt=\n  0-\n\n");
  if (message.kind !== "request") return t.fail(message.kind);
  t.is(message.request.headers.get("range"), "npt= 0-");
  t.is(message.request.cseq, 7);
});

test("frames between requests", (t) => {
  const stream = Buffer.concat([
    Buffer.from(OPTIONS),
    frameOf(1, Buffer.from("$\r\n\r\n")),
    frameOf(255, Buffer.alloc(0)),
    Buffer.from(OPTIONS),
    Buffer.from("RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n"),
  ]);
  const list = read(stream, [], 1_000);
  t.deepEqual(
    list.map(({ kind }) => kind),
    ["request", "frame", "frame", "request", "response"],
  );
  const [, one, two, , response] = list;
  t.like(one, { channel: 1, end: 1_000 + OPTIONS.length + 9 });
  t.is(one?.kind === "frame" && String(one.data), "$\r\n\r\n");
  t.like(two, { channel: 255 });
  t.like(response, { status: 200, end: 1_000 + stream.length });
});

test("what is refused, and with what", (t) => {
  const rows: Array<[string, number, number | undefined]> = [
    ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400, undefined],
    ["OPTIONS * RTSP/2.0\r\nCSeq: 4\r\n\r\n", 505, 4],
    ["OPTIONS * RTSP/1.0\r\n\r\n", 400, undefined],
    ["OPTIONS * RTSP/1.0\r\nCSeq: -4\r\n\r\n", 400, undefined],
    ["OPTIONS * RTSP/1.0\r\nCSeq: 4\r\nCSeq: 5\r\n\r\n", 400, undefined],
    ["OPTIONS  * RTSP/1.0\r\nCSeq: 4\r\n\r\n", 400, 4],
    ["OPTIONS rtsp://h/\xe4 RTSP/1.0\r\nCSeq: 4\r\n\r\n", 400, 4],
    ["OPTIONS * RTSP/1.0\r\nno colon\r\nCSeq: 4\r\n\r\n", 400, undefined],
    ["OPTIONS * RTSP/1.0\r\nCSeq: 4\r\n: empty\r\n\r\n", 400, undefined],
    ["OPTIONS * RTSP/1.0\r\nCSeq: 4\r\nX: a\0b\r\n\r\n", 400, undefined],
    ["OPTIONS * RTSP/1.0\r\nCSeq: 4\r\nX: a\rb\r\n\r\n", 400, undefined],
    ["OPTIONS * RTSP/1.0\r\nCSeq: 4\r\nContent-Length: 1x\r\n\r\n", 400, 4],
    ["OPTIONS * RTSP/1.0\r\nCSeq: 4\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400, 4],
    [`OPTIONS * RTSP/1.0\r\nCSeq: 4\r\nContent-Length: ${BODY_MAX + 1}\r\n\r\n`, 413, 4],
    ["OPTIONS * RTSP/1.0\r\nCSeq: 4\r\nTransfer-Encoding: chunked\r\n\r\n", 501, 4],
    [`OPTIONS rtsp://h/${"a".repeat(5_000)} RTSP/1.0\r\nCSeq: 4\r\n\r\n`, 414, 4],
    ["x".repeat(5_000), 414, undefined],
    [`OPTIONS * RTSP/1.0\r\n${"X: y\r\n".repeat(HEAD_MAX / 6)}`, 413, undefined],
    [`OPTIONS * RTSP/1.0\r\nX: ${"y".repeat(HEAD_MAX)}\r\n\r\n`, 413, undefined],
    ["\x16\x03\x01\x02\x00\x01\x00\n\n", 400, undefined],
  ];
  for (const [text, status, cseq] of rows) {
    t.deepEqual(only(text), { kind: "bad", status, cseq } as Message, JSON.stringify(text.slice(0, 60)));
    t.deepEqual(
      read(text, [3]).map(({ kind }) => kind),
      ["bad"],
      "in pieces too",
    );
  }
  t.is(read(`${OPTIONS}bad\r\n\r\n${OPTIONS}`).length, 2, "nothing behind it is read");
});

const token = fc.stringMatching(/^[A-Za-z-]{1,12}$/);
const request = fc
  .record({
    method: token,
    target: fc.stringMatching(/^[!-~]{1,40}$/),
    cseq: fc.nat(1e9),
    extra: fc.array(fc.tuple(token, fc.stringMatching(/^[ -~]{0,20}$/)), { maxLength: 3 }),
    body: fc.uint8Array({ maxLength: 40 }),
  })
  .map(({ method, target, cseq, extra, body }) => {
    const lines = extra.map(([name, value]) => `X-${name}: ${value}\r\n`).join("");
    const length = body.length > 0 ? `Content-Length: ${body.length}\r\n` : "";
    return Buffer.concat([Buffer.from(`${method} ${target} RTSP/1.0\r\nCSeq: ${cseq}\r\n${lines}${length}\r\n`), body]);
  });
const frame = fc
  .tuple(fc.nat(255), fc.uint8Array({ maxLength: 60 }))
  .map(([channel, data]) => frameOf(channel, Buffer.from(data)));
const stream = fc.array(fc.oneof(request, frame), { maxLength: 8 });

test("however it is cut, the same messages come; another reader goes on at any end", (t) => {
  fc.assert(
    fc.property(
      stream,
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 5 }),
      fc.nat(),
      (parts, sizes, at) => {
        const bytes = Buffer.concat(parts);
        const whole = read(bytes);
        t.is(whole.length, parts.length);
        t.deepEqual(read(bytes, sizes), whole);
        const ends = whole.map((message) => (message.kind === "bad" ? 0 : message.end));
        t.deepEqual(
          ends,
          parts.map((_, part) => Buffer.concat(parts.slice(0, part + 1)).length),
        );
        const from = parts.length > 0 ? at % (parts.length + 1) : 0;
        const offset = from === 0 ? 0 : (ends[from - 1] as number);
        t.deepEqual(read(bytes.subarray(offset), sizes, offset), whole.slice(from));
      },
    ),
  );
});

test("no bytes throw, and it never keeps more than its bounds", (t) => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          stream.map((parts) => Buffer.concat(parts)),
        ),
      ),
      (chunks) => {
        const reader = new MessageReader(0);
        for (const chunk of chunks) {
          reader.push(Buffer.from(chunk));
          while (reader.next());
        }
      },
    ),
  );
  t.pass();
});

test("whether a message has begun", (t) => {
  const reader = new MessageReader(0);
  t.false(reader.begun);
  reader.push(Buffer.from("\r\n\r\n"));
  t.false(reader.begun);
  reader.push(Buffer.from("OPT"));
  t.true(reader.begun);
});
