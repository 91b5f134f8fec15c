import test from "ava";
import type { Answer } from "../../agent/protocols/http/answer.js";
import type { Handler, Upload } from "../../agent/protocols/http/handler.js";
import { HttpLayer } from "../../agent/protocols/http/layer.js";
import type { Request } from "../../agent/protocols/http/request.js";
import { decodeHttpSection } from "../../proto/sections.js";
import { FakePort } from "../support/port.js";
import { sectionOf } from "../support/section.js";

const POST = Buffer.from("POST /order HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
const EXPECTING = Buffer.from("PUT /o HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");

const DONE: Answer = { status: 200, headers: [], body: Buffer.from("done"), close: false };

/** What takes a large body; the test says when it has no room, and what it answers. */
class FakeUpload implements Upload {
  got = Buffer.alloc(0);
  hasEnded = false;
  trailers: Array<[string, string]> = [];
  isStopped = false;
  isCongested = false;
  onRoom = () => {};
  reply: (answer: Answer) => void = () => {};
  readonly answer = new Promise<Answer>((resolve) => {
    this.reply = resolve;
  });
  write(part: Buffer): void {
    this.got = Buffer.concat([this.got, part]);
  }
  end(trailers: Array<[string, string]>): void {
    this.hasEnded = true;
    this.trailers = trailers;
  }
  stop(): void {
    this.isStopped = true;
  }
}

/** A layer whose requests may not be executed twice; `executed` has those that were, each waiting to be answered. */
function connection(mayRepeat = false, port = new FakePort(), inputOffset = 0) {
  const executed: Array<{ request: Request; answer: () => void }> = [];
  const uploads: FakeUpload[] = [];
  const handler: Handler = {
    refusal: () => undefined,
    mayRepeat: () => mayRepeat,
    answer: ({ request }) =>
      new Promise((resolve) => {
        executed.push({ request, answer: () => resolve(DONE) });
      }),
    upload: () => {
      uploads.push(new FakeUpload());
      return uploads.at(-1) as FakeUpload;
    },
    repeat: () => Promise.reject(new Error("nothing is made here")),
    open: () => Promise.reject(new Error("there are no objects")),
    take: () => Promise.reject(new Error("there are no objects")),
  };
  port.processedTo = inputOffset;
  return { port, executed, uploads, layer: new HttpLayer(port, inputOffset, handler) };
}

const turn = () => new Promise((resolve) => setTimeout(resolve, 5));

test("what may not be executed twice is in the record as begun before it is executed", async (t) => {
  const { port, layer, executed } = connection();
  layer.input(POST);
  await turn();
  t.is(executed.length, 0);
  t.true(decodeHttpSection(sectionOf(layer)).begun);
  t.is(port.processedTo, 0, "its input is still in the record");
  t.not(layer.unmovable(), "");
  port.recordings[0]?.();
  await turn();
  t.is(executed[0]?.request.body.toString(), "hello");
  executed[0]?.answer();
  await turn();
  t.regex(port.out.toString(), /^HTTP\/1\.1 200 OK\r\n.*\r\n\r\ndone$/s);
  t.false(decodeHttpSection(sectionOf(layer)).begun, "answer and end of the execution are in one record");
  t.is(port.processedTo, POST.length);
  t.is(layer.unmovable(), "");
  layer.input(POST);
  await turn();
  t.is(port.recordings.length, 2, "the next one begins anew");
  layer.closed();
});

test("its server dies while it is executed: the twin says 502, executes nothing, and goes on with the next", async (t) => {
  const dead = connection();
  dead.layer.input(POST);
  await turn();
  const section = sectionOf(dead.layer);
  dead.layer.closed();
  const heir = connection();
  heir.layer.unready(section);
  heir.layer.ready(0);
  heir.layer.input(POST);
  await turn();
  t.regex(heir.port.out.toString(), /^HTTP\/1\.1 502 Bad Gateway\r\n/);
  t.is(heir.executed.length, 0);
  heir.layer.input(POST);
  await turn();
  heir.port.recordings[0]?.();
  await turn();
  t.is(heir.executed.length, 1);
  heir.layer.closed();
});

test("what may be executed twice is executed by the twin", async (t) => {
  const dead = connection(true);
  dead.layer.input(POST);
  await turn();
  t.is(dead.executed.length, 1, "at once");
  t.is(dead.port.recordings.length, 0);
  const heir = connection(true);
  heir.layer.unready(sectionOf(dead.layer));
  heir.layer.ready(0);
  heir.layer.input(POST);
  await turn();
  t.is(heir.executed.length, 1);
  for (const { layer } of [dead, heir]) layer.closed();
});

test("a client that waits with its body is invited, once; one that does not wait is not", async (t) => {
  const { port, layer, executed } = connection(true);
  layer.input(EXPECTING);
  t.is(port.out.toString(), "HTTP/1.1 100 Continue\r\n\r\n");
  t.is(port.processedTo, 0);
  layer.input(Buffer.from("hello"));
  await turn();
  t.is(executed[0]?.request.body.toString(), "hello");
  layer.closed();

  const eager = connection(true);
  eager.layer.input(Buffer.concat([EXPECTING, Buffer.from("he")]));
  t.is(eager.port.out.length, 0);
  eager.layer.closed();
});

const LARGE = Buffer.alloc(200_000, "abcdefg");
const largeHead = Buffer.from(`PUT /o HTTP/1.1\r\nHost: h\r\nContent-Length: ${LARGE.length}\r\n\r\n`);
const largeChunked = Buffer.concat([
  Buffer.from("PUT /o HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"),
  ...[0, 50_000, 100_000, 150_000].flatMap((at) => [
    Buffer.from("c350\r\n"),
    LARGE.subarray(at, at + 50_000),
    Buffer.from("\r\n"),
  ]),
  Buffer.from("0\r\n\r\n"),
]);

for (const [what, request] of [
  ["of a stated length", Buffer.concat([largeHead, LARGE])],
  ["in chunks", largeChunked],
] as const) {
  test(`a large body ${what} is handed on as it comes, and the next request follows`, async (t) => {
    const { port, layer, uploads, executed } = connection(true);
    const input = Buffer.concat([request, POST]);
    for (let at = 0; at < input.length; at += 30_000) {
      layer.input(input.subarray(at, at + 30_000));
      await turn();
      for (const resolve of port.recordings.splice(0)) resolve();
      await turn();
    }
    const [upload] = uploads as [FakeUpload];
    t.deepEqual(upload.got, LARGE);
    t.true(upload.hasEnded);
    t.is(port.processedTo, request.length, "used up as it was handed on");
    t.not(layer.gap(), "");
    upload.reply(DONE);
    await turn();
    t.regex(port.out.toString(), /^HTTP\/1\.1 200 OK\r\n/);
    t.is(layer.gap(), "");
    t.is(executed.length, 1, "the next one");
    t.is(executed[0]?.request.body.toString(), "hello");
    layer.closed();
  });
}

test("what trails a large body goes along, wherever it is cut; too much of it is 431", async (t) => {
  const chunks = largeChunked.subarray(0, -2);
  const trailers = "X-Checksum: abc \r\nEmpty:\r\nx-CHECKSUM:  d\r\n\r\n";
  const input = Buffer.concat([chunks, Buffer.from(trailers), POST]);
  for (let cut = chunks.length - 5; cut < chunks.length + trailers.length; cut++) {
    const { port, layer, uploads, executed } = connection(true);
    port.keeps = input.length;
    for (const part of [input.subarray(0, cut), input.subarray(cut)]) layer.input(part);
    t.true(uploads[0]?.hasEnded);
    t.deepEqual(uploads[0]?.got, LARGE);
    t.deepEqual(uploads[0]?.trailers, [
      ["X-Checksum", "abc"],
      ["Empty", ""],
      ["x-CHECKSUM", "d"],
    ]);
    uploads[0]?.reply(DONE);
    await turn();
    t.is(port.processedTo, chunks.length + trailers.length);
    t.is(executed.length, 1, "the next request is where it begins");
    layer.closed();
  }

  const many = "a:\r\n".repeat(5_000);
  for (const [large, endless] of [
    [true, `X: ${"y".repeat(1_000_000)}`],
    [true, many],
    [false, `X: ${"y".repeat(17_000)}`],
    [false, many],
  ] as const) {
    const { port, layer, uploads } = connection(true);
    port.keeps = 10_000_000;
    layer.input(large ? chunks : Buffer.from("PUT /o HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"));
    for (let at = 0; at < endless.length && !port.fin; at += 10_000) {
      layer.input(Buffer.from(endless.slice(at, at + 10_000)));
      await turn();
    }
    t.regex(port.out.toString(), /^HTTP\/1\.1 431 Request Header Fields Too Large\r\n.*Connection: close/s);
    t.true(port.fin);
    t.is(uploads.length, large ? 1 : 0);
    if (large) t.true(uploads[0]?.isStopped);
    layer.closed();
  }
});

test("a large body waits where there is no room for it, and is used up no earlier", async (t) => {
  const { port, layer, uploads } = connection(true);
  layer.input(largeHead);
  await turn();
  t.is(uploads.length, 0, "nothing is handed on that the record does not know");
  port.recordings.splice(0)[0]?.();
  await turn();
  const [upload] = uploads as [FakeUpload];
  upload.isCongested = true;
  layer.input(LARGE.subarray(0, 1000));
  t.is(upload.got.length, 0);
  t.is(port.processedTo, largeHead.length);
  upload.isCongested = false;
  upload.onRoom();
  t.is(upload.got.length, 1000);
  t.is(port.processedTo, largeHead.length + 1000);
  layer.closed();
  t.true(upload.isStopped);
});

test("a large body that may be handed on again is kept meanwhile, and used up by its answer", async (t) => {
  const { port, layer, uploads } = connection(true);
  port.keeps = largeHead.length + LARGE.length;
  layer.input(largeHead);
  layer.input(LARGE.subarray(0, 1000));
  t.is(uploads[0]?.got.length, 1000, "at once: the record has it");
  t.is(port.processedTo, 0);
  t.is(port.takenTo, largeHead.length + 1000);
  t.is(layer.gap(), "");
  t.is(decodeHttpSection(sectionOf(layer)).unkept.length, 0);
  layer.input(LARGE.subarray(1000));
  t.is(port.processedTo, 0);
  uploads[0]?.reply(DONE);
  await turn();
  t.is(port.processedTo, largeHead.length + LARGE.length);
  layer.closed();
});

test("a large body that has become too large, or that the store has no room for, is kept no longer", async (t) => {
  for (const why of ["too large", "no room"]) {
    const { port, layer, uploads } = connection(true);
    port.keeps = why === "too large" ? 80_000 : 1_000_000;
    layer.input(largeChunked.subarray(0, 70_000));
    t.is(port.takenTo, 70_000);
    if (why === "too large") layer.input(largeChunked.subarray(70_000, 90_000));
    else layer.letGo();
    t.is(port.processedTo, why === "too large" ? 90_000 : 70_000);
    t.is(layer.gap(), "the body of its request is not kept");
    t.is(port.exposures.length, 1, "said once");
    t.like(port.exposures[0], { reason: layer.gap(), about: { method: "PUT", target: "/o" }, passes: false });
    t.true(decodeHttpSection(sectionOf(layer)).unkept.length > 0);
    layer.input(largeChunked.subarray(port.processedTo));
    t.is(port.processedTo, largeChunked.length);
    t.true(uploads[0]?.hasEnded);
    const parts = (async function* () {
      yield LARGE;
    })();
    uploads[0]?.reply({ ...DONE, made: { parts, stop: () => {} } });
    await turn();
    t.true(port.out.length > LARGE.length);
    t.is(port.exposures.length, 1, "its response is not exposed once more");
    layer.closed();
  }
});

test("a large body whose server dies: the twin says 502 and ends, and hands nothing on", async (t) => {
  const dead = connection(true);
  dead.layer.input(Buffer.concat([largeHead, LARGE.subarray(0, 1000)]));
  await turn();
  dead.port.recordings.splice(0)[0]?.();
  await turn();
  const section = sectionOf(dead.layer);
  dead.layer.closed();
  const heir = connection(true, new FakePort(), dead.port.processedTo);
  heir.layer.unready(section);
  heir.layer.ready(0);
  heir.layer.input(LARGE.subarray(1000));
  await turn();
  t.regex(heir.port.out.toString(), /^HTTP\/1\.1 502 Bad Gateway\r\n.*Connection: close\r\n/s);
  t.true(heir.port.fin);
  t.is(heir.uploads.length, 0);
});

test("a large body that is answered before its end, and one whose client ends in the middle: the connection ends", async (t) => {
  for (const early of [true, false]) {
    const { port, layer, uploads } = connection(true);
    layer.input(Buffer.concat([largeHead, LARGE.subarray(0, 1000)]));
    await turn();
    for (const resolve of port.recordings.splice(0)) resolve();
    await turn();
    const [upload] = uploads as [FakeUpload];
    if (early) upload.reply(DONE);
    else layer.inputEnd();
    await turn();
    t.regex(port.out.toString(), early ? /^HTTP\/1\.1 200 OK/ : /^HTTP\/1\.1 400 Bad Request/);
    t.true(port.fin);
    if (!early) t.true(upload.isStopped);
    layer.closed();
  }
});

test("a client that ends right behind the head of a large body is answered", async (t) => {
  const { port, layer, uploads } = connection();
  layer.input(largeHead);
  layer.inputEnd();
  await turn();
  t.is(uploads.length, 0, "the record does not know of it yet");
  port.recordings.splice(0)[0]?.();
  await turn();
  t.regex(port.out.toString(), /^HTTP\/1\.1 400 Bad Request/);
  t.true(port.fin);
  t.true(uploads[0]?.isStopped);
  layer.closed();
});

test("a large body waits for its client where all that came is handed on; one that never comes to its end is answered 408", async (t) => {
  const { port, layer, uploads } = connection(true);
  port.keeps = 1_000_000;
  t.false(layer.awaitsClient());
  layer.input(Buffer.concat([largeHead, LARGE.subarray(0, 1000)]));
  t.true(layer.awaitsClient());
  const [upload] = uploads as [FakeUpload];
  upload.isCongested = true;
  layer.input(LARGE.subarray(1000, 2000));
  t.false(layer.awaitsClient());
  upload.isCongested = false;
  upload.onRoom();
  t.true(layer.awaitsClient());
  layer.inputEnd(true);
  await turn();
  t.regex(port.out.toString(), /^HTTP\/1\.1 408 Request Timeout\r\n.*Connection: close\r\n/s);
  t.true(port.fin);
  t.true(upload.isStopped);
  layer.closed();

  const whole = connection(true);
  whole.port.keeps = 1_000_000;
  whole.layer.input(Buffer.concat([largeHead, LARGE]));
  t.false(whole.layer.awaitsClient(), "it waits for its answer");
  whole.layer.closed();
});
