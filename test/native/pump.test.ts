import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import type { Connection, ConnectionHandlers } from "../../agent/native/index.js";
import { native, TcpError } from "../../agent/native/index.js";

const folder = mkdtempSync(join(tmpdir(), "bt-native-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

const MEGABYTE = 2 ** 20;
const EVERYTHING = Number.MAX_SAFE_INTEGER;

interface Pair {
  connection: Connection;
  client: Socket;
  input: Buffer[];
  drained: number[];
  events: string[];
}

/** A connection of ours and an ordinary client of it. */
async function connect(t: ExecutionContext, handlers: Partial<ConnectionHandlers> = {}, sendOffset = 0): Promise<Pair> {
  const pair = { input: [], drained: [], events: [] } as unknown as Pair;
  let listener: ReturnType<typeof native.listen>;
  const accepted = new Promise<number>((resolve) => {
    listener = native.listen({
      address: "127.0.0.1",
      port: 0,
      backlog: 8,
      onAccept: ([one]) => resolve(one!.fd),
    });
  });
  pair.client = createConnection({ host: "127.0.0.1", port: listener!.port, allowHalfOpen: true });
  pair.client.on("error", () => {});
  pair.client.pause();
  const fd = await accepted;
  listener!.close();
  pair.connection = native.connection(fd, {
    sendOffset,
    handlers: {
      onInput: (chunk) => pair.input.push(chunk),
      onInputEnd: () => pair.events.push("end"),
      onDrained: (offset) => pair.drained.push(offset),
      onError: (code) => pair.events.push(code),
      ...handlers,
    },
  });
  t.teardown(() => {
    if (pair.connection.fd >= 0) pair.connection.closeSilently();
    pair.client.destroy();
  });
  return pair;
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 2000) throw new Error(`${what}: not after 10 s`);
    await sleep(5);
  }
}

function makeFile(name: string, bytes: number): { path: string; content: Buffer } {
  const path = join(folder, name);
  const content = randomBytes(bytes);
  writeFileSync(path, content);
  return { path, content };
}

async function readAll(client: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of client) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

test("pieces leave in order and only up to the limit; a FIN takes one offset", async (t) => {
  const { connection, client, drained } = await connect(t);
  const { path, content } = makeFile("order", 3 * MEGABYTE);
  const fd = native.openFile(path);
  const received: Buffer[] = [];
  let ended = false;
  client.on("data", (chunk) => received.push(chunk)).on("end", () => (ended = true));
  client.resume();
  const length = () => received.reduce((sum, chunk) => sum + chunk.length, 0);

  connection.append([
    { literal: Buffer.from("head") },
    { fd, offset: 100, length: 2 * MEGABYTE },
    { literal: Buffer.alloc(0) },
    { literal: Buffer.from("tail") },
    { fin: true },
  ]);
  await sleep(50);
  t.is(length(), 0, "nothing leaves without a limit");
  const total = 8 + 2 * MEGABYTE;
  const limits = [1, 3, 4, 5, 1000, MEGABYTE + 7, total - 1, total];
  for (const limit of limits) {
    connection.setLimit(limit);
    await until(`${limit} bytes`, () => length() >= limit && drained.at(-1) === limit);
    await sleep(10);
    t.is(length(), limit);
    t.is(connection.sentOffset(), limit);
    t.false(ended);
  }
  t.deepEqual(drained, limits, "once each time that it runs dry");
  connection.setLimit(total + 1);
  await until("the FIN", () => ended);
  t.is(connection.sentOffset(), total + 1);
  const expected = Buffer.concat([Buffer.from("head"), content.subarray(100, 100 + 2 * MEGABYTE), Buffer.from("tail")]);
  t.true(Buffer.concat(received).equals(expected));
  t.throws(() => connection.append([{ literal: Buffer.from("more") }]), { instanceOf: TcpError, message: /EPIPE/ });
  native.closeFd(fd);
});

test("offsets start where they are told to, beyond 2^32", async (t) => {
  const start = 5 * 2 ** 32 + 11;
  const { connection, client, drained } = await connect(t, {}, start);
  connection.append([{ literal: Buffer.from("abc") }]);
  connection.setLimit(start + 2);
  await until("two bytes", () => drained.length === 1);
  t.deepEqual(drained, [start + 2]);
  t.is(connection.sentOffset(), start + 2);
  client.resume();
});

test("a slow reader gets everything, and what is queued stays bounded by the kernel's buffer", async (t) => {
  const { connection, client, drained } = await connect(t);
  const { path, content } = makeFile("slow", 40 * MEGABYTE);
  const fd = native.openFile(path);
  connection.append([{ fd, offset: 0, length: content.length }, { fin: true }]);
  connection.setLimit(EVERYTHING);
  await sleep(300);
  const stalled = connection.sentOffset();
  t.true(stalled < content.length);
  t.deepEqual(drained, [], "waiting for the reader is not running dry");
  await sleep(100);
  t.is(connection.sentOffset(), stalled);
  const hash = createHash("sha256");
  for await (const chunk of client) {
    hash.update(chunk as Buffer);
    if (Math.random() < 0.02) await sleep(2);
  }
  t.is(hash.digest("hex"), createHash("sha256").update(content).digest("hex"));
  await until("the end", () => drained.length === 1);
  t.deepEqual(drained, [content.length + 1]);
  native.closeFd(fd);
});

test("200 connections at once, each gets its own bytes", async (t) => {
  const { path, content } = makeFile("parallel", MEGABYTE);
  const fd = native.openFile(path);
  const failures: string[] = [];
  const open = new Set<Connection>();
  const listener = native.listen({
    address: "127.0.0.1",
    port: 0,
    backlog: 256,
    onAccept(accepted) {
      for (const { fd: socket } of accepted) {
        const connection: Connection = native.connection(socket, {
          sendOffset: 0,
          handlers: {
            onInput(chunk) {
              const number = Number(chunk.toString());
              connection.append([
                { literal: Buffer.from(`${number}:`) },
                { fd, offset: number, length: MEGABYTE - number },
                { fin: true },
              ]);
              connection.setLimit(EVERYTHING);
            },
            onInputEnd() {
              open.delete(connection);
              connection.close();
            },
            onDrained() {},
            onError: (code) => failures.push(code),
          },
        });
        open.add(connection);
      }
    },
  });
  await Promise.all(
    Array.from({ length: 200 }, async (_, number) => {
      const client = createConnection({ host: "127.0.0.1", port: listener.port });
      client.write(String(number));
      const received = await readAll(client);
      const expected = Buffer.concat([Buffer.from(`${number}:`), content.subarray(number)]);
      if (!received.equals(expected)) failures.push(`connection ${number}: ${received.length} bytes`);
    }),
  );
  await until("all to be closed", () => open.size === 0);
  t.deepEqual(failures, []);
  listener.close();
  native.closeFd(fd);
});

test("a file that is shorter than promised is an error, after its last byte", async (t) => {
  const { connection, client, events, drained } = await connect(t);
  const { path } = makeFile("short", 5000);
  const fd = native.openFile(path);
  truncateSync(path, 4000);
  client.resume();
  connection.append([{ fd, offset: 0, length: 5000 }, { fin: true }]);
  connection.setLimit(EVERYTHING);
  await until("the error", () => events.length > 0);
  t.deepEqual(events, ["EIO"]);
  t.is(connection.sentOffset(), 4000);
  t.deepEqual(drained, []);
  native.closeFd(fd);
});

test("input comes as it was sent, pauses, and ends once", async (t) => {
  const { connection, client, input, events } = await connect(t);
  const sent = randomBytes(3 * MEGABYTE);
  connection.pauseInput();
  client.end(sent);
  await sleep(100);
  t.is(input.length, 0);
  connection.resumeInput();
  await until("the end", () => events.length > 0);
  t.true(Buffer.concat(input).equals(sent));
  await sleep(50);
  t.deepEqual(events, ["end"]);
  connection.append([{ literal: Buffer.from("answer") }, { fin: true }]);
  connection.setLimit(EVERYTHING);
  t.is((await readAll(client)).toString(), "answer");
});

for (const [name, prepare] of [
  ["while nothing is sent", () => {}],
  [
    "while the reader is stalled",
    ({ connection }: Pair) => {
      connection.append([{ literal: Buffer.alloc(20 * MEGABYTE) }]);
      connection.setLimit(EVERYTHING);
    },
  ],
  ["while input is paused", ({ connection }: Pair) => connection.pauseInput()],
] as const) {
  test(`a reset ${name} is reported once, and never as an end of input`, async (t) => {
    const pair = await connect(t);
    prepare(pair);
    await sleep(50);
    pair.client.resetAndDestroy();
    await until("the error", () => pair.events.length > 0);
    await sleep(50);
    t.deepEqual(pair.events, ["ECONNRESET"]);
  });
}

test("after closeSilently nothing is called and the client hears neither FIN nor reset", async (t) => {
  const { connection, client, input, drained, events } = await connect(t);
  const { path } = makeFile("silent", 8 * MEGABYTE);
  const fd = native.openFile(path);
  let heard = "nothing";
  client.on("end", () => (heard = "end")).on("close", () => (heard = "close"));
  client.resume();
  connection.append([{ fd, offset: 0, length: 8 * MEGABYTE }, { fin: true }]);
  connection.setLimit(4 * MEGABYTE);
  // Nothing may be under way: without a guard the kernel answers an ack for a connection that it does not know.
  await until("the acks", () => connection.sentOffset() === 4 * MEGABYTE && connection.info().sendQueueBytes === 0);
  connection.closeSilently();
  const before = [input.length, drained.length, events.length];
  t.is(connection.fd, -1);
  await sleep(100);
  t.deepEqual([input.length, drained.length, events.length], before);
  t.is(heard, "nothing");
  t.throws(() => connection.sentOffset(), { instanceOf: TcpError, message: /EBADF/ });
  native.closeFd(fd);
});

test("a connection closed in the middle of its output is heard of no more, and its file may be closed at once", async (t) => {
  const { path, content } = makeFile("closed", 30 * MEGABYTE);
  for (let round = 0; round < 30; round++) {
    const { connection, client, drained, events } = await connect(t);
    const fd = native.openFile(path);
    client.resume();
    connection.append([{ fd, offset: 0, length: content.length }, { fin: true }]);
    connection.setLimit(EVERYTHING);
    await sleep(Math.random() * 8);
    const before = [drained.length, events.length];
    if (round % 2) connection.close();
    else connection.closeSilently();
    native.closeFd(fd);
    await sleep(2);
    t.deepEqual([drained.length, events.length], before);
  }
});

test("detach stops everything at an exact offset; another connection goes on from there", async (t) => {
  const { connection, client, drained } = await connect(t);
  const { path, content } = makeFile("detach", 60 * MEGABYTE);
  const fd = native.openFile(path);
  const received = readAll(client);
  let current = connection;
  let longestMs = 0;
  for (let offset = 0; offset < content.length; ) {
    current.append([{ fd, offset, length: content.length - offset }, { fin: true }]);
    current.setLimit(EVERYTHING);
    await sleep(Math.random() * 10);
    const started = performance.now();
    const { fd: socket } = current.detach();
    longestMs = Math.max(longestMs, performance.now() - started);
    // What the kernel was given, counted without the pump: bytes_acked and what is queued.
    const { bytesAcked, sendQueueBytes, state } = native.info(socket);
    const given = bytesAcked + sendQueueBytes;
    offset = state === 1 ? given : content.length;
    if (state === 1) {
      current = native.connection(socket, {
        sendOffset: offset,
        handlers: {
          onInput() {},
          onInputEnd() {},
          onDrained: (at) => drained.push(at),
          onError: (code) => t.fail(code),
        },
      });
      t.is(current.sentOffset(), offset);
    } else {
      native.closeFd(socket);
    }
  }
  t.true((await received).equals(content));
  t.log(`longest detach ${longestMs.toFixed(2)} ms`);
  t.true(longestMs < 100);
  native.closeFd(fd);
});

test("a handler may close its connection", async (t) => {
  const pair = await connect(t, { onInput: () => pair.connection.close() });
  pair.client.write("x");
  await until("the close", () => pair.connection.fd === -1);
  await sleep(20);
  t.deepEqual(pair.events, []);
});

test("accepted sockets: bounded window, no delay, both ends named", async (t) => {
  const accepted = new Promise<{ fd: number; endpoints: ReturnType<typeof native.endpoints> }>((resolve) => {
    const listener = native.listen({
      address: "::1",
      port: 0,
      backlog: 8,
      receiveBuffer: 65_536,
      onAccept: (all) => {
        listener.close();
        resolve(all[0]!);
      },
    });
    const client = createConnection({ host: "::1", port: listener.port });
    t.teardown(() => client.destroy());
  });
  const { fd, endpoints } = await accepted;
  t.deepEqual(endpoints, native.endpoints(fd));
  t.is(endpoints.local.address, "::1");
  const image = native.capture(fd);
  t.is(image.options.receiveBuffer, 65_536);
  t.true(image.options.nodelay);
  t.true(image.window.rcvWnd <= 65_536);
  native.closeInRepair(fd);
});

test("what is wrong with an argument is said", (t) => {
  t.throws(() => native.listen({ address: "nowhere", port: 1, backlog: 1, onAccept() {} }), {
    instanceOf: TcpError,
    message: /EINVAL.*nowhere/,
  });
  const first = native.listen({ address: "127.0.0.1", port: 0, backlog: 1, onAccept() {} });
  t.throws(() => native.listen({ address: "127.0.0.1", port: first.port, backlog: 1, onAccept() {} }), {
    instanceOf: TcpError,
    message: /EADDRINUSE.*bind.*127\.0\.0\.1/,
  });
  first.close();
  t.throws(() => native.info(-1), { instanceOf: TcpError, message: /EBADF/ });
  t.throws(() => native.sendSegments([{} as never]), { instanceOf: TypeError });
});
