import test from "ava";
import type { Handler } from "../../agent/protocols/http/handler.js";
import { HttpLayer } from "../../agent/protocols/http/layer.js";
import type { Request } from "../../agent/protocols/http/request.js";
import type { LayerSection } from "../../proto/record.js";
import { decodeHttpSection } from "../../proto/sections.js";
import { FakePort } from "../support/port.js";

const POST = Buffer.from("POST /order HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
const EXPECTING = Buffer.from("PUT /o HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");

/** A layer whose requests may not be executed twice; `executed` has those that were, each waiting to be answered. */
function connection(mayRepeat = false, port = new FakePort(), inputOffset = 0) {
  const executed: Array<{ request: Request; answer: () => void }> = [];
  const handler: Handler = {
    refusal: () => undefined,
    mayRepeat: () => mayRepeat,
    answer: ({ request }) =>
      new Promise((resolve) => {
        const done = { status: 200, headers: [], body: Buffer.from("done"), close: false };
        executed.push({ request, answer: () => resolve(done) });
      }),
    repeat: () => Promise.reject(new Error("nothing is made here")),
    open: () => Promise.reject(new Error("there are no objects")),
    take: () => Promise.reject(new Error("there are no objects")),
  };
  port.processedTo = inputOffset;
  return { port, executed, layer: new HttpLayer(port, inputOffset, handler) };
}

function sectionOf(layer: HttpLayer): LayerSection {
  const block: LayerSection[] = [];
  layer.checkpoint(block);
  return block[0] as LayerSection;
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
