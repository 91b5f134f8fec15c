import { randomBytes } from "node:crypto";
import { Dialer } from "../support/dialer.js";
import { Download } from "../support/download.js";
import { killAgent } from "../support/fault.js";
import { labTest } from "../support/fixture.js";
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
  t.is((await download.done).sha256, await lab.digestOf("100m.bin"));
  dialer.close();
});
