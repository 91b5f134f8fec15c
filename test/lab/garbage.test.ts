import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { Dialer } from "../support/dialer.js";
import { Download } from "../support/download.js";
import { killAgent } from "../support/fault.js";
import { labTest } from "../support/fixture.js";
import { LAB } from "../support/host.js";
import { get, ResponseReader } from "../support/http.js";

const { test, lab } = labTest();

const GARBAGE: Record<string, [request: string | Buffer, status: number]> = {
  "no HTTP at all": ["hello there\r\n\r\n", 400],
  "a TLS hello": [Buffer.from("16030100c8010000c40303", "hex"), 400],
  "random bytes": [Buffer.concat([Buffer.from([0xff]), randomBytes(4096)]), 400],
  "two different lengths": ["POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd", 400],
  "length and chunks": [
    "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    400,
  ],
  "a bare line feed in a name": ["GET / HTTP/1.1\r\nho\nst: x\r\n\r\n", 400],
  "no host": ["GET / HTTP/1.1\r\n\r\n", 400],
  "a head without end": [`GET / HTTP/1.1\r\nhost: x\r\nx: ${"y".repeat(200_000)}`, 431],
};

for (const [name, [request, status]] of Object.entries(GARBAGE)) {
  test(`HTTP garbage: ${name}: ${status} and closed, nothing else hurt`, async (t) => {
    const bystander = new Download("/10m.bin", { rate: "20M" });
    const dialer = await Dialer.start();
    const { socket } = await dialer.connect();
    socket.on("error", () => {});
    const reader = new ResponseReader(socket);
    socket.write(request);
    t.is((await reader.next()).status, status);
    t.true(await reader.ended(), "the server closes");
    dialer.close();
    t.is((await bystander.done).sha256, await lab.digestOf("10m.bin"));
  });
}

const POST = "POST /app/upload/smuggled HTTP/1.1\r\nhost: x\r\n";
const CHUNKED = `${POST}transfer-encoding: chunked\r\n\r\n`;
const NEXT = "GET /1k.bin HTTP/1.1\r\nhost: x\r\n\r\n";

/** What two servers in a row could read as different requests (RFC 9112 sections 2.2, 5.1, 5.2, 6.1, 6.3, 7.1, 11.2). */
const AMBIGUOUS: Record<string, [request: string, status: number]> = {
  "length, then chunks": [`${POST}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
  "chunks, then length": [`${POST}transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n`, 400],
  "one length twice": [`${POST}content-length: 4\r\ncontent-length: 4\r\n\r\nabcd`, 400],
  "a list of lengths": [`${POST}content-length: 4, 4\r\n\r\nabcd`, 400],
  "a length with a sign": [`${POST}content-length: +4\r\n\r\nabcd`, 400],
  "a length in hexadecimal": [`${POST}content-length: 0x4\r\n\r\nabcd`, 400],
  "a length beyond 64 bits": [`${POST}content-length: 99999999999999999999999\r\n\r\nabcd`, 400],
  "a folded line": [`${POST}a: b\r\n c\r\n\r\n`, 400],
  "a folded transfer coding": [`${POST}transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n`, 400],
  "bare line feeds": ["GET /1k.bin HTTP/1.1\nhost: x\n\n", 400],
  "a bare line feed between fields": [`GET /1k.bin HTTP/1.1\r\nhost: x\na: b\r\n\r\n`, 400],
  "a bare carriage return": ["GET /1k.bin HTTP/1.1\r\nhost: x\ra: b\r\n\r\n", 400],
  "a space before the colon": [`${POST}content-length : 4\r\n\r\nabcd`, 400],
  "a space before the first field": ["GET /1k.bin HTTP/1.1\r\n host: x\r\n\r\n", 400],
  "a zero byte": [`GET /1k.bin HTTP/1.1\r\nhost: x\r\na: b\0c\r\n\r\n`, 400],
  "two hosts": ["GET /1k.bin HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400],
  "an unknown transfer coding": [`${POST}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n`, 501],
  "chunked twice": [`${POST}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
  "a chunk without a size": [`${CHUNKED}zz\r\n\r\n`, 400],
  "a chunk's size with a prefix": [`${CHUNKED}0x1\r\na\r\n0\r\n\r\n`, 400],
  "a chunk's size beyond 64 bits": [`${CHUNKED}fffffffffffffffff\r\na\r\n0\r\n\r\n`, 400],
  "a chunk's size with a bare line feed": [`${CHUNKED}1\na\r\n0\r\n\r\n`, 400],
  "a chunk longer than its size": [`${CHUNKED}1\r\nab\r\n0\r\n\r\n`, 400],
  "huge trailers": [`${CHUNKED}0\r\n${"a: b\r\n".repeat(5_000)}\r\n`, 431],
  "a huge head": [`${POST}${"a: b\r\n".repeat(5_000)}\r\n`, 431],
};

test("what two servers could read as different requests is answered once, closed, and not handed on", async (t) => {
  const dialer = await Dialer.start();
  for (const [name, [request, status]] of Object.entries(AMBIGUOUS)) {
    const { socket } = await dialer.connect({ port: 8080 });
    socket.on("error", () => {});
    const reader = new ResponseReader(socket);
    socket.write(Buffer.from(request + NEXT, "latin1"));
    t.is((await reader.next()).status, status, name);
    t.true(await reader.ended(), `${name}: the server closes`);
  }
  t.false(existsSync(`${LAB}/uploads/smuggled`));
  const { socket } = await dialer.connect({ port: 8080 });
  const reader = new ResponseReader(socket);
  socket.write(
    `POST /app/upload/old HTTP/1.0\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${NEXT}`,
  );
  t.is((await reader.next()).status, 200, "HTTP/1.0 in chunks is taken at its word");
  t.true(await reader.ended(), "and nothing behind it is");
  dialer.close();
});

test("paths out of the directory are not served", async (t) => {
  const dialer = await Dialer.start();
  const { socket } = await dialer.connect();
  const reader = new ResponseReader(socket);
  for (const path of [
    "/../config.yaml",
    "/%2e%2e/config.yaml",
    "/..%2fconfig.yaml",
    "/./../../../../etc/passwd",
    "/a%00b",
  ]) {
    socket.write(get(path));
    const { status } = await reader.next();
    t.true(status === 404 || status === 400 || status === 403, `${path}: ${status}`);
    if (status === 400) return;
  }
  dialer.close();
});

test("garbage does not outlive its connection: a takeover right behind it", async (t) => {
  const dialer = await Dialer.start();
  const download = new Download("/100m.bin", { rate: "25M" });
  await download.reached(10_000_000);
  const { owner } = await lab.control.connectionOf(download.port, (one) => one.protected);
  for (let i = 0; i < 50; i++) {
    const { socket } = await dialer.connect();
    socket.on("error", () => {});
    socket.write(randomBytes(512));
    if (i % 2 === 0) socket.destroy();
  }
  killAgent(owner);
  t.is((await download.finish()).sha256, await lab.digestOf("100m.bin"));
  dialer.close();
});
