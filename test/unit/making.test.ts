import "../support/quiet.js";
import { randomBytes } from "node:crypto";
import test from "ava";
import type { MadeBody } from "../../agent/protocols/http/answer.js";
import type { Handler } from "../../agent/protocols/http/handler.js";
import { HttpLayer } from "../../agent/protocols/http/layer.js";
import { RefusedError } from "../../proto/errors.js";
import { eventually } from "../support/eventually.js";
import { FakePort } from "../support/port.js";
import { sectionOf } from "../support/section.js";

const PARTS = Array.from({ length: 20 }, (_, index) => randomBytes(1 + index * 37));
const BODY = Buffer.concat(PARTS);
const REQUEST = Buffer.from("GET /made HTTP/1.1\r\nHost: h\r\n\r\n");

/** A body that the test gives out bit by bit. */
class Maker {
  stopped = false;
  trailers: Array<[string, string]> = [];
  private readonly waiting: Array<(result: IteratorResult<Buffer, void>) => void> = [];
  private readonly ready: Array<IteratorResult<Buffer, void> | Error> = [];

  give(...parts: Buffer[]): this {
    for (const value of parts) this.put({ done: false, value });
    return this;
  }
  end(): this {
    return this.put({ done: true, value: undefined });
  }
  breakOff(): this {
    return this.put(new Error("broken off"));
  }
  body(length?: number): MadeBody {
    const next = () => {
      const result = this.ready.shift();
      if (result instanceof Error) return Promise.reject(result);
      if (result) return Promise.resolve(result);
      return new Promise<IteratorResult<Buffer, void>>((resolve) => this.waiting.push(resolve));
    };
    const stop = () => {
      this.stopped = true;
    };
    return { ...(length === undefined ? {} : { length }), parts: { next }, trailers: () => this.trailers, stop };
  }
  private put(result: IteratorResult<Buffer, void> | Error): this {
    const taker = this.waiting.shift();
    if (taker && !(result instanceof Error)) taker(result);
    else this.ready.push(result);
    return this;
  }
}

/** A layer whose only answer is made by `maker`, and made again by what `again` gives. */
function connection(maker: Maker, again: () => Maker, port = new FakePort(), inputOffset = 0, length?: number) {
  const handler: Handler = {
    refusal: () => undefined,
    mayRepeat: ({ method }) => method !== "POST",
    answer: async () => {
      const made = maker.body(length);
      return { status: 200, headers: [], body: Buffer.alloc(0), close: false, made };
    },
    repeat: async () => again().body(),
    open: () => Promise.reject(new Error("there are no objects")),
    take: () => Promise.reject(new Error("there are no objects")),
  };
  port.processedTo = inputOffset;
  return { port, layer: new HttpLayer(port, inputOffset, handler) };
}
const nobody = () => new Maker().breakOff();

const until = (done: () => boolean) => eventually("it happens", done, 5_000, 1);

/** Head and body of a response; a chunked body decoded. undefined: it is not whole. */
function parse(out: Buffer): { head: string; body: Buffer; trailers: string; rest: Buffer } | undefined {
  const headEnd = out.indexOf("\r\n\r\n");
  if (headEnd < 0) return undefined;
  const head = out.toString("latin1", 0, headEnd);
  if (!/transfer-encoding: chunked/i.test(head))
    return { head, body: out.subarray(headEnd + 4), trailers: "", rest: Buffer.alloc(0) };
  const parts: Buffer[] = [];
  for (let at = headEnd + 4; ; ) {
    const lineEnd = out.indexOf("\r\n", at);
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(out.toString("latin1", at, lineEnd), 16);
    if (size === 0) {
      const end = out.indexOf("\r\n\r\n", lineEnd);
      if (end < 0) return undefined;
      const trailers = out.toString("latin1", lineEnd + 2, Math.max(lineEnd + 2, end));
      return { head, body: Buffer.concat(parts), trailers, rest: out.subarray(end + 4) };
    }
    at = lineEnd + 2 + size + 2;
    if (at > out.length) return undefined;
    parts.push(out.subarray(lineEnd + 2, lineEnd + 2 + size));
  }
}

test("what is made is sent as it comes, in chunks; the next request waits for its end", async (t) => {
  const maker = new Maker();
  const { port, layer } = connection(maker, nobody);
  layer.input(Buffer.concat([REQUEST, REQUEST]));
  for (const part of PARTS) {
    const before = port.out.length;
    maker.give(part);
    await until(() => port.out.length > before + part.length);
  }
  t.not(layer.unmovable(), "");
  t.is(parse(port.out), undefined, "it has no end yet");
  maker.end();
  await until(() => parse(port.out) !== undefined);
  t.deepEqual(parse(port.out)?.body, BODY);
  maker.give(BODY).end();
  await until(() => parse(parse(port.out)!.rest) !== undefined);
  t.deepEqual(parse(parse(port.out)!.rest)?.body, BODY);
  await until(() => layer.unmovable() === "");
  layer.closed();
});

test("a body of a stated length, and one for a client that knows no chunks", async (t) => {
  const stated = connection(new Maker().give(...PARTS).end(), nobody, new FakePort(), 0, BODY.length);
  stated.layer.input(REQUEST);
  await until(() => stated.layer.unmovable() === "" && stated.port.out.length > BODY.length);
  t.regex(parse(stated.port.out)!.head, new RegExp(`Content-Length: ${BODY.length}`));
  t.deepEqual(parse(stated.port.out)?.body, BODY);
  t.false(stated.port.fin);

  const old = connection(new Maker().give(...PARTS).end(), nobody);
  old.layer.input(Buffer.from("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
  await until(() => old.port.fin);
  t.regex(parse(old.port.out)!.head, /Connection: close/);
  t.deepEqual(parse(old.port.out)?.body, BODY);
});

test("a client that takes nothing: no more than a bound is promised", async (t) => {
  const part = Buffer.alloc(16_384);
  const { port, layer } = connection(new Maker().give(...Array.from({ length: 100 }, () => part)), nobody);
  port.acknowledgedTo = 0;
  layer.input(REQUEST);
  await until(() => port.out.length >= 65_536);
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.true(port.out.length < 65_536 + 2 * part.length);
  port.acknowledgedTo = port.tail();
  await until(() => port.out.length >= 2 * 65_536);
  layer.closed();
});

test("its server dies at any part: the twin makes it again and goes on where the promise ended", async (t) => {
  for (let at = 0; at <= PARTS.length; at++) {
    const maker = new Maker().give(...PARTS.slice(0, at));
    const dead = connection(maker, nobody);
    dead.layer.input(REQUEST);
    await until(() => dead.port.out.length > Buffer.concat(PARTS.slice(0, at)).length);
    const section = sectionOf(dead.layer);
    const { out, processedTo } = dead.port;
    dead.layer.closed();
    await until(() => maker.stopped);

    const cut = BODY.subarray(0, 3000);
    const again = new Maker().give(cut, BODY.subarray(cut.length)).end();
    const heir = connection(new Maker(), () => again, new FakePort(out.length), processedTo);
    heir.layer.unready(section);
    await heir.layer.gather();
    heir.layer.ready(out.length);
    await until(() => parse(Buffer.concat([out, heir.port.out])) !== undefined);
    t.deepEqual(parse(Buffer.concat([out, heir.port.out]))?.body, BODY, `taken over after ${at} parts`);
    await until(() => heir.layer.unmovable() === "");
    heir.layer.closed();
  }
});

test("trailers follow the last chunk: those of whoever has made the end", async (t) => {
  const maker = new Maker().give(...PARTS.slice(0, 7)).breakOff();
  const again = new Maker().give(BODY).end();
  maker.trailers = [["X-Made-By", "the first"]];
  again.trailers = [
    ["X-Made-By", "the second"],
    ["X-Checksum", "\u00e9"],
  ];
  const { port, layer } = connection(maker, () => again);
  layer.input(REQUEST);
  await until(() => parse(port.out) !== undefined);
  t.deepEqual(parse(port.out)?.body, BODY);
  t.is(parse(port.out)?.trailers, "X-Made-By: the second\r\nX-Checksum: \u00e9");
  t.is(parse(port.out)?.rest.length, 0);
  layer.closed();

  const whole = () => new Maker().give(BODY).end();
  for (const [request, length] of [
    ["GET / HTTP/1.0\r\n\r\n", undefined],
    [REQUEST.toString(), BODY.length],
  ] as const) {
    const other = whole();
    other.trailers = again.trailers;
    const unchunked = connection(other, nobody, new FakePort(), 0, length);
    unchunked.layer.input(Buffer.from(request));
    await until(() => unchunked.layer.unmovable() === "" && unchunked.port.out.length > BODY.length);
    t.deepEqual(parse(unchunked.port.out)?.body, BODY, "there is no place for them");
    unchunked.layer.closed();
  }
});

test("made again it is another one: refused", async (t) => {
  const dead = connection(new Maker().give(...PARTS), nobody);
  dead.layer.input(REQUEST);
  await until(() => dead.port.out.length > BODY.length);
  const section = sectionOf(dead.layer);
  dead.layer.closed();
  const other = Buffer.from(BODY);
  other[BODY.length - 1]! ^= 1;
  for (const again of [new Maker().give(other).end(), new Maker().give(BODY.subarray(1)).end()]) {
    const heir = connection(new Maker(), () => again, new FakePort(dead.port.tail()), dead.port.processedTo);
    heir.layer.unready(section);
    const refused = await t.throwsAsync(heir.layer.gather(), { instanceOf: RefusedError });
    t.is(refused?.reason, "response changed");
    heir.layer.undo();
    heir.layer.closed();
    t.true(again.stopped);
  }
});

test("a body of a stated length that has grown when it is made again: not a byte more than stated", async (t) => {
  const grown = Buffer.concat([BODY, BODY]);
  const maker = new Maker().give(...PARTS.slice(0, 7)).breakOff();
  const scene = connection(maker, () => new Maker().give(grown).end(), new FakePort(), 0, BODY.length);
  scene.layer.input(REQUEST);
  await until(() => scene.port.resets.length > 0);
  t.true(parse(scene.port.out)!.body.length <= BODY.length);
  t.regex(scene.port.resets[0] ?? "", /more than the \d+ bytes that its head states/);
});

test("a client that leaves lets go of what is made again for it", async (t) => {
  const again = new Maker();
  const { layer, port } = connection(new Maker().give(PARTS[3]!, PARTS[4]!).breakOff(), () => again);
  layer.input(REQUEST);
  await until(() => port.out.length > PARTS[3]!.length + PARTS[4]!.length);
  await new Promise((resolve) => setTimeout(resolve, 150)); // it is being made again by now
  layer.closed();
  again.give(PARTS[3]!);
  await until(() => again.stopped);
  t.pass();
});

test("its maker breaks off while its server lives: made again in place, or, another one, the client is reset", async (t) => {
  const good = connection(new Maker().give(...PARTS.slice(0, 7)).breakOff(), () => new Maker().give(BODY).end());
  good.layer.input(REQUEST);
  await until(() => parse(good.port.out) !== undefined);
  t.deepEqual(parse(good.port.out)?.body, BODY);

  const bad = connection(new Maker().give(BODY.subarray(0, 100)).breakOff(), () => new Maker().give(randomBytes(200)));
  bad.layer.input(REQUEST);
  await until(() => bad.port.resets.length > 0);
  t.regex(bad.port.resets[0] ?? "", /others when it is made again/);
});

test("a response that could not be made again is said to be so once, one that could is not", async (t) => {
  const { port, layer } = connection(new Maker().give(...PARTS).end(), nobody);
  layer.input(REQUEST);
  await until(() => parse(port.out) !== undefined);
  t.deepEqual(port.exposures, []);

  const posted = connection(new Maker().give(...PARTS).end(), nobody);
  const target = `/${"x".repeat(300)}`;
  posted.layer.input(Buffer.from(`POST ${target} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx`));
  await until(() => posted.port.recordings.length > 0);
  posted.port.recordings.shift()?.();
  await until(() => parse(posted.port.out) !== undefined);
  t.is(posted.port.exposures.length, 1);
  t.like(posted.port.exposures[0], { about: { method: "POST", target: target.slice(0, 200) }, passes: false });
  t.regex(posted.port.exposures[0]?.reason ?? "", /may not be executed again/);

  const twin = connection(new Maker(), nobody, new FakePort(posted.port.tail()), posted.port.processedTo);
  twin.layer.unready(sectionOf(posted.layer));
  t.deepEqual(twin.port.exposures, [], "whose server has said it already");
  for (const one of [layer, posted.layer, twin.layer]) one.closed();
});
