import test from "ava";
import fc from "fast-check";
import type { Application, StartApplication } from "../../agent/protocols/app/application.js";
import { EchoApplication } from "../../agent/protocols/app/echo.js";
import { AppLayer } from "../../agent/protocols/app/layer.js";
import { Stack } from "../../agent/protocols/index.js";
import { RefusedError } from "../../proto/errors.js";
import type { LayerSection } from "../../proto/record.js";
import { decodeAppSection, encodeAppSection } from "../../proto/sections.js";
import { FakePort } from "../support/port.js";

const KIB = 1024;
const INPUT_BYTES = 256 * KIB;
const AHEAD = 64 * KIB;
const echo: StartApplication = () => new EchoApplication(INPUT_BYTES);

function connection(start = echo, tail = 0, inputOffset = 0) {
  const port = new FakePort(tail);
  port.processedTo = inputOffset;
  return { port, layer: new AppLayer(port, inputOffset, start) };
}

function sectionOf(layer: AppLayer): LayerSection {
  const block: LayerSection[] = [];
  layer.checkpoint(block);
  return block[0] as LayerSection;
}

const stateOf = (layer: AppLayer) => JSON.parse(decodeAppSection(sectionOf(layer)).state.toString());

/** What the sample answers to a whole stream. */
function answers(stream: Buffer): string {
  const lines = stream.toString("latin1").match(/[^\n]*\n|[^\n]+$/g) ?? [];
  return lines.map((line, index) => `${index + 1} ${line}`).join("");
}

/** `acknowledged` has its effect a microtask later. */
const effects = () => new Promise<void>((resolve) => setImmediate(resolve));

const lines = fc
  .array(
    fc.oneof(
      fc.constantFrom("", "\r", "a", "hello\r"),
      fc.string({ maxLength: 20 }).map((text) => text.replaceAll("\n", "")),
    ),
  )
  .map((texts) => Buffer.from(texts.map((text) => `${text}\n`).join("")));
const stream = fc
  .tuple(lines, fc.constantFrom("", "rest", "\r"))
  .map(([whole, rest]) => Buffer.concat([whole, Buffer.from(rest)]));

test("wherever the stream is cut, the answers are the same", (t) => {
  fc.assert(
    fc.property(stream, fc.infiniteStream(fc.integer({ min: 1, max: 30 })), (sent, sizes) => {
      const { port, layer } = connection();
      for (let rest = sent; rest.length > 0; ) {
        const size = sizes.next().value as number;
        layer.input(rest.subarray(0, size));
        rest = rest.subarray(size);
      }
      layer.inputEnd();
      t.is(port.out.toString("latin1"), answers(sent));
      t.true(port.fin);
      t.is(port.processedTo, sent.length);
    }),
  );
});

test("all lines of a chunk are one promise of one piece, and half a line waits for its end", (t) => {
  const { port, layer } = connection();
  layer.input(Buffer.from("one\ntwo\r\n\nfo"));
  t.is(port.responses.length, 1);
  t.deepEqual(port.responses[0]?.pieces, [{ literal: Buffer.from("1 one\n2 two\r\n3 \n") }]);
  t.is(port.processedTo, 10);
  layer.input(Buffer.from("ur"));
  t.is(port.responses.length, 1);
  layer.input(Buffer.from("\n"));
  t.is(port.responses.length, 2);
  t.deepEqual(layer.describe(), { object: "", objectOffset: 0, firstByteSequence: 0, requests: 4 });
});

test("the end: an unfinished line is answered, then our FIN; what comes behind it is thrown away", (t) => {
  const { port, layer } = connection();
  layer.input(Buffer.from("one\nrest"));
  layer.inputEnd();
  t.is(port.out.toString(), "1 one\n2 rest");
  t.true(port.fin);
  t.is(port.responses.length, 2);
  layer.input(Buffer.from("late\n"));
  layer.inputEnd();
  t.is(port.responses.length, 2);
  t.is(port.processedTo, 13);

  const idle = connection();
  idle.layer.inputEnd();
  t.deepEqual(idle.port.responses, [{ pieces: [], fin: true, processed: 0 }]);
});

test("a line of 64 KiB is echoed; a longer one gets a sentence and our FIN, wherever it is cut", (t) => {
  const longest = Buffer.concat([Buffer.alloc(64 * KIB, "x"), Buffer.from("\n")]);
  for (const size of [1000, 64 * KIB + 1, 300 * KIB]) {
    const { port, layer } = connection();
    layer.input(longest);
    layer.acknowledged(port.tail());
    t.is(port.out.length, 2 + longest.length);
    const before = port.tail();
    const sent = Buffer.concat([Buffer.alloc(64 * KIB + 1, "y"), longest]);
    for (let at = 0; at < sent.length; at += size) layer.input(sent.subarray(at, at + size));
    t.is(
      port.out.toString("latin1", before),
      "Line 2 is longer than 65536 bytes, the most that is echoed: the connection ends here.\n",
    );
    t.true(port.fin);
    t.is(port.processedTo, longest.length + sent.length);
  }
});

test("where less than 64 KiB may wait, the longest line is what may wait", (t) => {
  const { port, layer } = connection(() => new EchoApplication(4096));
  layer.input(Buffer.from(`${"x".repeat(4095)}\n`));
  t.false(port.fin);
  layer.input(Buffer.alloc(4096, "x"));
  t.regex(port.out.toString(), /\nLine 2 is longer than 4095 bytes, .*\n$/);
  t.true(port.fin);
});

test("a client that acknowledges nothing: lines wait, none is lost, and each ack gets more", async (t) => {
  const { port, layer } = connection();
  const sent = Buffer.from("0123456789\n".repeat(30_000));
  for (let at = 0; at < sent.length; at += 40_000) layer.input(sent.subarray(at, at + 40_000));
  const line = "00000 0123456789\n".length;
  t.true(port.out.length > AHEAD && port.out.length <= AHEAD + line, `${port.out.length}`);
  t.true(port.processedTo < sent.length);
  layer.inputEnd();
  t.false(port.fin, "what waits comes first");
  for (let acknowledged = 10_000; !port.fin; acknowledged += 10_000) {
    t.true(acknowledged <= port.out.length);
    const before = port.tail();
    layer.acknowledged(acknowledged);
    t.is(port.tail(), before, "not from within the call: a record may be in the making");
    await effects();
    t.true(port.tail() > before);
    t.true(port.out.length - acknowledged <= AHEAD + line);
  }
  t.is(port.out.toString(), answers(sent));
});

test("our FIN waits for no ack where nothing else is left", (t) => {
  const { port, layer } = connection();
  const long = `${"x".repeat(AHEAD)}\n`;
  layer.input(Buffer.from(long));
  t.is(port.processedTo, long.length);
  layer.inputEnd();
  t.true(port.fin);
});

test("at any instant the record has a line and its answer, or neither; its twin goes on", async (t) => {
  const cuts = fc.infiniteStream(fc.record({ size: fc.integer({ min: 1, max: 40 }), moved: fc.boolean() }));
  await fc.assert(
    fc.asyncProperty(stream, cuts, async (sent, turns) => {
      let out = "";
      let { port, layer } = connection();
      for (let at = 0; at < sent.length; ) {
        const { size, moved } = turns.next().value as { size: number; moved: boolean };
        layer.input(sent.subarray(at, at + size));
        at = Math.min(sent.length, at + size);
        const count = stateOf(layer).lines as number;
        t.is((out + port.out.toString("latin1")).match(/\n/g)?.length ?? 0, count);
        if (!moved) continue;
        const section = sectionOf(layer);
        const { processedTo } = port;
        layer.closed();
        out += port.out.toString("latin1");
        ({ port, layer } = connection(echo, port.tail(), processedTo));
        layer.unready(section);
        layer.ready(port.tail());
        if (processedTo < at) layer.input(sent.subarray(processedTo, at));
        t.is(stateOf(layer).lines, count);
      }
      layer.inputEnd();
      await effects();
      t.is(out + port.out.toString("latin1"), answers(sent));
    }),
  );
});

test("a promise is made when the state has it already: a record may be written within", (t) => {
  const seen: unknown[] = [];
  class Recording extends FakePort {
    override respond(response: Parameters<FakePort["respond"]>[0]): void {
      super.respond(response);
      seen.push([stateOf(layer).lines, this.out.toString().split("\n").length - 1]);
    }
  }
  const layer: AppLayer = new AppLayer(new Recording(), 0, echo);
  layer.input(Buffer.from("a\nb\n"));
  layer.input(Buffer.from("c\nd"));
  t.deepEqual(seen, [
    [2, 2],
    [3, 3],
  ]);
});

test("a handover that is off, and a connection that is over", async (t) => {
  const { port, layer } = connection();
  layer.unready(encodeAppSection({ application: "echo", version: 1, state: Buffer.from('{"lines":7}') }));
  t.is(layer.describe().requests, 7);
  layer.undo();
  t.is(layer.describe().requests, 0);
  layer.input(Buffer.from("a\nb"));
  layer.acknowledged(port.tail());
  layer.closed();
  await effects();
  t.is(port.responses.length, 1);
  await t.throwsAsync(layer.open(), { instanceOf: RefusedError });
});

test("what cannot be gone on with is refused", async (t) => {
  const section = (part: object) =>
    encodeAppSection({ application: "echo", version: 1, state: Buffer.from('{"lines":7}'), ...part });
  const refused = async (given: LayerSection) => {
    const stack = new Stack([], connection().layer, () => {});
    return (await t.throwsAsync(stack.unready([given]), { instanceOf: RefusedError }))?.reason;
  };
  t.is(await refused(section({ application: "chat" })), "another application");
  t.is(await refused(section({ version: 2 })), "another version of the application");
  for (const state of ["", "{", "null", "{}", '{"lines":-1}', '{"lines":"7"}', '{"lines":1e30}']) {
    t.is(await refused(section({ state: Buffer.from(state) })), "the application's state is not usable", state);
  }
  t.is(await refused({ ...section({}), version: 2 }), "the section of app is not usable");
  t.is(await refused({ ...section({}), state: Buffer.from([255]) }), "the section of app is not usable");
});

test("an application that fails ends its own connection and no other", (t) => {
  const failing = (answer: Application["answer"]): StartApplication => {
    return () => ({
      name: "bad",
      version: 1,
      requests: 0,
      checkpoint: () => Buffer.alloc(0),
      restore: () => {},
      answer,
      finish: (rest) => rest,
    });
  };
  const resets: string[] = [];
  class Resettable extends FakePort {
    override async reset(reason: string): Promise<void> {
      resets.push(reason);
    }
  }
  const answering: Array<Application["answer"]> = [
    () => {
      throw new Error("no idea");
    },
    () => ({ used: 0, output: Buffer.from("for ever") }),
    (input) => ({ used: input.length + 1, output: Buffer.from("too much") }),
  ];
  for (const answer of answering) new AppLayer(new Resettable(), 0, failing(answer)).input(Buffer.from("a"));
  t.deepEqual(resets, [
    "the application bad failed: no idea",
    "the application bad failed: it used 0 bytes of 1",
    "the application bad failed: it used 2 bytes of 1",
  ]);
  // One that has nothing to say is no failure: the input is used, and a record of its state is made.
  const { port, layer } = connection(failing((input) => ({ used: input.length, output: Buffer.alloc(0) })));
  layer.input(Buffer.from("abc"));
  t.deepEqual(port.responses, [{ pieces: [], fin: false, processed: 3 }]);
});
