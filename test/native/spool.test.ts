import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import test, { type ExecutionContext } from "ava";
import type { Connection, Spool } from "../../agent/native/index.js";
import { native } from "../../agent/native/index.js";
import { eventually } from "../support/eventually.js";

const MEGABYTE = 2 ** 20;
const EVERYTHING = Number.MAX_SAFE_INTEGER;
const SILENT = { onInput: () => {}, onInputEnd: () => {}, onDrained: () => {}, onError: () => {} };
const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

/** A socket of ours, whose other end is `origin`. */
async function origin(t: ExecutionContext): Promise<{ fd: number; socket: Socket; origin: Socket }> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const accepted = once(server, "connection");
  const socket = createConnection((server.address() as { port: number }).port, "127.0.0.1");
  const [far] = (await accepted) as [Socket];
  far.on("error", () => {});
  await once(socket, "connect");
  socket.pause();
  const handle = (socket as unknown as { _handle: { fd: number; readStop(): void } })._handle;
  handle.readStop();
  t.teardown(() => {
    server.close();
    socket.destroy();
    far.destroy();
  });
  return { fd: handle.fd, socket, origin: far };
}

interface Client {
  connection: Connection;
  socket: Socket;
  received: Buffer[];
  length(): number;
}

async function client(t: ExecutionContext): Promise<Client> {
  let accept: (fd: number) => void;
  const accepted = new Promise<number>((resolve) => {
    accept = resolve;
  });
  const listener = native.listen({
    ...{ address: "127.0.0.1", port: 0, backlog: 8 },
    onAccept: ([one]) => accept(one!.fd),
  });
  const socket = createConnection(listener.port, "127.0.0.1");
  const received: Buffer[] = [];
  socket.on("data", (part) => received.push(part));
  const connection = native.connection(await accepted, {
    sendOffset: 0,
    handlers: SILENT,
  });
  listener.close();
  t.teardown(() => {
    if (connection.fd >= 0) connection.closeSilently();
    socket.destroy();
  });
  return { connection, socket, received, length: () => received.reduce((sum, part) => sum + part.length, 0) };
}

const until = (what: string, condition: () => boolean) => eventually(what, condition, 20_000, 1);

function send({ connection }: Client, spool: Spool, offset: number, length: number): void {
  connection.append([{ fd: spool.fd, offset, length, spool }]);
}

test("what an origin sends reaches the client, behind what had come with the head", async (t) => {
  const bytes = randomBytes(20 * MEGABYTE);
  const spool = native.spool({ start: 0, end: bytes.length, onBroken: (code) => t.fail(code) });
  const [from, to] = [await origin(t), await client(t)];
  spool.put(bytes.subarray(0, 1000));
  spool.attach(from.fd);
  from.socket.destroy(); // it is the spool's
  send(to, spool, 0, bytes.length);
  to.connection.setLimit(EVERYTHING);
  from.origin.write(bytes.subarray(1000));
  await until("all of it", () => to.length() === bytes.length);
  t.is(sha256(Buffer.concat(to.received)), sha256(bytes));
  t.is(spool.filled(), bytes.length);
  spool.close();
});

test("nothing is fetched that may not be sent yet", async (t) => {
  const bytes = randomBytes(8 * MEGABYTE);
  const spool = native.spool({ start: 0, end: bytes.length, onBroken: (code) => t.fail(code) });
  const [from, to] = [await origin(t), await client(t)];
  spool.attach(from.fd);
  send(to, spool, 0, bytes.length);
  from.origin.write(bytes);
  to.connection.setLimit(5_000);
  await until("up to the limit", () => to.length() === 5_000);
  t.is(spool.filled(), 5_000);
  to.connection.setLimit(EVERYTHING);
  await until("all of it", () => to.length() === bytes.length);
  t.is(sha256(Buffer.concat(to.received)), sha256(bytes));
});

test("an origin that ends early is replaced, as often as it does", async (t) => {
  const bytes = randomBytes(3 * MEGABYTE);
  const to = await client(t);
  const broken: string[] = [];
  const spool: Spool = native.spool({
    start: 0,
    end: bytes.length,
    onBroken: (code) => {
      broken.push(code);
      void another();
    },
  });
  const another = async () => {
    const from = await origin(t);
    spool.attach(from.fd);
    const at = spool.filled();
    from.origin.end(bytes.subarray(at, at + MEGABYTE));
  };
  send(to, spool, 0, bytes.length);
  to.connection.setLimit(EVERYTHING);
  await until("all of it", () => to.length() === bytes.length);
  t.is(sha256(Buffer.concat(to.received)), sha256(bytes));
  t.deepEqual(broken, ["EPIPE", "EPIPE", "EPIPE"], "at first it has none, then each gives a third");
});

test("an origin that is replaced by bytes alone, because all the rest came with its head", async (t) => {
  const bytes = randomBytes(50_000);
  for (const rest of [1, 1_000, 40_000, 50_000]) {
    const to = await client(t);
    const spool: Spool = native.spool({
      start: 0,
      end: bytes.length,
      onBroken: () => spool.put(bytes.subarray(spool.filled())),
    });
    if (rest < bytes.length) spool.put(bytes.subarray(0, bytes.length - rest));
    send(to, spool, 0, bytes.length);
    to.connection.setLimit(EVERYTHING);
    await until("all of it", () => to.length() === bytes.length);
    t.deepEqual(Buffer.concat(to.received), bytes);
    spool.close();
  }
});

test("an origin that stands still is replaced while it is waited for", async (t) => {
  const bytes = randomBytes(MEGABYTE);
  const spool = native.spool({ start: 0, end: bytes.length, onBroken: (code) => t.fail(code) });
  const [still, to] = [await origin(t), await client(t)];
  spool.attach(still.fd);
  send(to, spool, 0, bytes.length);
  to.connection.setLimit(EVERYTHING);
  still.origin.write(bytes.subarray(0, 1000));
  await until("what it sent", () => to.length() === 1000);
  const from = await origin(t);
  spool.attach(from.fd);
  from.origin.write(bytes.subarray(1000));
  await until("all of it", () => to.length() === bytes.length);
  t.deepEqual(Buffer.concat(to.received), bytes);
});

test("of what went through a byte is known every four mebibytes, and the last one", async (t) => {
  const start = 3 * MEGABYTE + 5;
  const bytes = randomBytes(10 * MEGABYTE);
  const end = start + bytes.length;
  const spool = native.spool({ start, end, onBroken: (code) => t.fail(code) });
  const [from, to] = [await origin(t), await client(t)];
  t.is(spool.known(end), -1);
  spool.put(bytes.subarray(0, 1000));
  t.is(spool.known(start + 1), start);
  t.is(spool.known(start), -1);
  t.is(spool.known(end), start + 999);
  spool.attach(from.fd);
  from.origin.write(bytes.subarray(1000));
  send(to, spool, start + 100, bytes.length - 100);
  to.connection.setLimit(EVERYTHING);
  await until("all of it", () => to.length() === bytes.length - 100);
  t.is(sha256(Buffer.concat(to.received)), sha256(bytes.subarray(100)), "what lies before the piece is skipped");
  const expected = [4 * MEGABYTE - 1, 8 * MEGABYTE - 1, 12 * MEGABYTE - 1, end - 1];
  const found: number[] = [];
  for (let at = spool.known(end); at > start + 999; at = spool.known(at)) found.unshift(at);
  t.deepEqual(found, expected);
  for (const position of found) t.is(spool.byteAt(position), bytes[position - start]!);
  t.throws(() => spool.byteAt(5 * MEGABYTE), { code: "ENODATA" });
  spool.release(9 * MEGABYTE);
  t.is(spool.known(8 * MEGABYTE), 8 * MEGABYTE - 1);
  t.true(spool.known(8 * MEGABYTE - 1) < 4 * MEGABYTE - 1, "what lies before is gone, but for what was put");
  spool.release(end);
  t.is(spool.known(end), end - 1);
});

test("what was put can be read by position; what is released gives its memory back", async (t) => {
  const start = 7 * MEGABYTE + 5;
  const bytes = randomBytes(4 * MEGABYTE);
  const spool = native.spool({ start, end: start + bytes.length, onBroken: (code) => t.fail(code) });
  spool.put(bytes);
  const read = (position: number) => {
    const byte = Buffer.alloc(1);
    readSync(spool.fd, byte, 0, 1, position);
    return byte[0];
  };
  t.is(read(start), bytes[0]);
  spool.release(start + 2 * MEGABYTE);
  t.is(read(start + 2 * MEGABYTE - 1), bytes[2 * MEGABYTE - 1]);
  t.is(read(start + 2 * MEGABYTE - 8192), 0, "a hole");
  t.is(spool.known(start + MEGABYTE), -1);
  t.is(spool.byteAt(start + 3 * MEGABYTE), bytes[3 * MEGABYTE]!);
  spool.close();
});

test("an origin that is replaced in the middle: what is in the pipe, what came with the head, and then the new one", async (t) => {
  const bytes = randomBytes(6 * MEGABYTE);
  const to = await client(t);
  const spool = native.spool({ start: 0, end: bytes.length, onBroken: (code) => t.fail(code) });
  const first = await origin(t);
  spool.attach(first.fd);
  send(to, spool, 0, bytes.length);
  to.socket.pause(); // what the pipe holds stays there
  to.connection.setLimit(EVERYTHING);
  first.origin.write(bytes);
  const at = await eventually("it is at a stand", async () => {
    const before = spool.filled();
    await new Promise((resolve) => setTimeout(resolve, 50));
    return spool.filled() === before && before > 0 && before;
  });
  t.true(at < bytes.length);
  const second = await origin(t);
  spool.put(bytes.subarray(at, at + 3_000));
  spool.attach(second.fd);
  second.origin.write(bytes.subarray(at + 3_000));
  to.socket.resume();
  await until("all of it", () => to.length() === bytes.length);
  t.is(sha256(Buffer.concat(to.received)), sha256(bytes));
});

test("a connection that goes on in another process' place fetches on from the same spool", async (t) => {
  const bytes = randomBytes(2 * MEGABYTE);
  const spool = native.spool({ start: 0, end: bytes.length, onBroken: (code) => t.fail(code) });
  const [from, first] = [await origin(t), await client(t)];
  spool.attach(from.fd);
  send(first, spool, 0, bytes.length);
  first.connection.setLimit(EVERYTHING);
  from.origin.write(bytes.subarray(0, MEGABYTE));
  await until("half of it", () => first.length() === MEGABYTE);
  const { fd, sentOffset } = first.connection.detach();
  const again = native.connection(fd, {
    sendOffset: sentOffset,
    handlers: SILENT,
  });
  t.teardown(() => again.closeSilently());
  again.append([{ fd: spool.fd, offset: sentOffset, length: bytes.length - sentOffset, spool }]);
  again.setLimit(EVERYTHING);
  from.origin.write(bytes.subarray(MEGABYTE));
  await until("all of it", () => first.length() === bytes.length);
  t.is(sha256(Buffer.concat(first.received)), sha256(bytes));
});

test("arguments of the wrong shape, and what is closed", (t) => {
  const spool = native.spool({ start: 0, end: 10, onBroken: () => {} });
  t.throws(() => spool.attach(999_999), { code: "EBADF" });
  t.throws(() => native.spool({ start: 11, end: 10, onBroken: () => {} }), { code: "EINVAL" });
  spool.close();
  spool.close();
  t.is(spool.fd, -1);
  t.throws(() => spool.filled(), { code: "EBADF" });
});
