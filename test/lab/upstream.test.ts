import { createHash } from "node:crypto";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import type { ExecutionContext } from "ava";
import { Dialer } from "../support/dialer.js";
import { Download } from "../support/download.js";
import { eventually } from "../support/eventually.js";
import { cutLink, killAgent, signal } from "../support/fault.js";
import { assertSurvived, labTest, type Outcome, watchedDownload } from "../support/fixture.js";
import { lives, pidOf } from "../support/host.js";
import { get, ResponseReader } from "../support/http.js";
import { labHeal } from "../support/lab.js";
import { Replacement } from "../support/replacement.js";
import { Witness } from "../support/witness.js";
import { digestOfGenerated } from "./generated.js";

const { test, lab } = labTest();
const PORT = 8080;
const FILE = "100m.bin";
const BYTES = 100 * 1024 * 1024;

function killUpstream(server: string): void {
  signal(pidOf(server, "upstream"), "SIGKILL");
}

const protectedOne = (download: Download) =>
  lab.control.connectionOf(download.port, (one) => one.protected && one.phase === "LIVE");

/** A download through an agent and the nginx behind it, with `parts` of it between each step of what happens. */
async function throughNginx(
  t: ExecutionContext,
  steps: Array<(owner: string, id: string, download: Download) => Promise<unknown>>,
  options: { ipv6?: boolean; rate?: string } = {},
): Promise<Outcome> {
  const outcome = await watchedDownload(FILE, { rate: "25M", servicePort: PORT, ...options }, async (download) => {
    for (const [index, step] of steps.entries()) {
      await download.reached((BYTES * (index + 1)) / (steps.length + 2));
      const { owner, id } = await protectedOne(download);
      await step(owner, id, download);
    }
  });
  assertSurvived(t, outcome, await lab.digestOf(FILE));
  return outcome;
}

const another = async (owner: string) =>
  (await lab.control.servers()).find((one) => one.id !== owner && one.state === "UP")!.id;

const takenFrom = (owner: string, download: Download) =>
  lab.control.connectionOf(download.port, (one) => one.owner !== owner && one.phase === "LIVE", 10_000);

for (const ipv6 of [false, true]) {
  test(`an object of nginx outlives its server twice: IPv${ipv6 ? 6 : 4}`, async (t) => {
    const kill = async (owner: string, _id: string, download: Download) => {
      killAgent(owner);
      await takenFrom(owner, download);
    };
    const cut = async (owner: string, _id: string, download: Download) => {
      await cutLink(owner);
      await takenFrom(owner, download);
    };
    await throughNginx(t, [kill, cut], { ipv6 });
  });
}

test("an object of nginx moves, and moves back", async (t) => {
  const move = async (owner: string, id: string) => {
    const event = await lab.control.move(id, await another(owner));
    t.is(event.result, "ok", event.reason);
  };
  const witness = await Witness.start();
  await throughNginx(
    t,
    Array.from({ length: 8 }, () => move),
  );
  await witness.assertUndisturbed(t);
});

test("the nginx behind a living agent is killed in mid-download", async (t) => {
  await throughNginx(t, [
    async (owner, _id, download) => {
      const nginx = pidOf(owner, "upstream");
      killUpstream(owner);
      await eventually("it is gone", () => !lives(nginx));
      await download.reached(BYTES / 2);
    },
  ]);
});

test("an agent is replaced under an object of nginx", async (t) => {
  await throughNginx(t, [(owner) => new Replacement(owner).done()], { rate: "12M" });
});

for (const [what, bytes, ms] of [
  ["fast", 20_000_000, 0],
  ["slow", 3_000_000, 2],
] as const) {
  test(`a response without a length outlives its server: ${what}`, async (t) => {
    const options = { servicePort: PORT, ...(ms === 0 ? { rate: "4M" } : {}) };
    const outcome = await watchedDownload(`app/stream?bytes=${bytes}&seed=7&ms=${ms}`, options, async (download) => {
      await download.reached(bytes / 4);
      const { owner, id } = await protectedOne(download);
      const event = await lab.control.move(id, await another(owner));
      t.like(event, { result: "refused", reason: "a response is being made that could only be made again" });
      killAgent(owner);
      await takenFrom(owner, download);
    });
    assertSurvived(t, outcome, digestOfGenerated(bytes, "7"));
  });
}

test("the application behind a living agent dies in the middle of its response", async (t) => {
  const outcome = await watchedDownload(
    "app/stream?bytes=2000000&seed=8&ms=2",
    { servicePort: PORT },
    async (download) => {
      await download.reached(500_000);
      const { owner } = await protectedOne(download);
      const application = signal(pidOf(owner, "application"), "SIGKILL");
      await eventually("it is gone", () => !lives(application));
      await labHeal();
    },
  );
  assertSurvived(t, outcome, digestOfGenerated(2_000_000, "8"));
});

test("a response that is another one when it is made again: its client is reset", async (t) => {
  // What is made before the gate is made again at once: a heir waits a moment only to see whether it is the same.
  const download = new Download("/app/stream?bytes=3000000&open=50000&gate=shut", { servicePort: PORT });
  await download.reached(50_000);
  const { owner, id } = await protectedOne(download);
  const events = lab.control.follow();
  killAgent(owner);
  const event = await events.next("its takeover", (one) => one.kind === "takeover" && one.connection === id);
  t.like(event, { result: "refused", reason: "response changed" });
  t.is((await download.done).exit, 56);
});

test("what nginx answers is what the client gets", async (t) => {
  const { socket } = await (await Dialer.start()).connect({ port: PORT });
  const reader = new ResponseReader(socket);
  const ask = (request: string, head = false) => {
    socket.write(request);
    return reader.next(head);
  };
  const small = await ask(get("/100k.bin"));
  t.like(small, { status: 200, bytes: 100 * 1024, sha256: await lab.digestOf("100k.bin") });
  t.regex(small.headers.server ?? "", /^nginx/);
  const etag = small.headers.etag ?? "";
  t.like(await ask(get("/100k.bin", { "If-None-Match": etag })), { status: 304, bytes: 0 });
  t.is((await ask(get("/100k.bin").replace("GET", "HEAD"), true)).headers["content-length"], String(100 * 1024));
  t.is((await ask(get("/nothing"))).status, 404);
  const part = await ask(get("/1m.bin", { Range: "bytes=100000-899999" }));
  t.like(part, { status: 206, sha256: await lab.digestOf("1m.bin", 100_000, 900_000) });
  t.is((await ask(get("/1m.bin", { Range: "bytes=2000000-" }))).status, 416);
  const many = ["/1m.bin", "/100k.bin", "/1m.bin"];
  socket.write(many.map((path) => get(path)).join(""));
  for (const path of many) t.is((await reader.next()).sha256, await lab.digestOf(path.slice(1)), path);
  t.is((await ask(get("/100k.bin").replace("GET", "POST"))).status, 405, "as nginx says");
});

test("with nginx gone a request is answered 502, and the server's connections go where one is", async (t) => {
  const { socket, localPort } = await (await Dialer.start()).connect({ port: PORT });
  const reader = new ResponseReader(socket);
  socket.write(get("/100k.bin"));
  t.is((await reader.next()).status, 200);
  const { owner } = await lab.control.connectionOf(localPort, (one) => one.protected);
  killUpstream(owner);
  socket.write(get("/100k.bin"));
  t.is((await reader.next()).status, 502);
  await lab.control.connectionOf(localPort, (one) => one.owner !== owner && one.phase === "LIVE", 20_000);
  socket.write(get("/100k.bin"));
  t.is((await reader.next()).sha256, await lab.digestOf("100k.bin"));
  await labHeal();
});

test("trailers come behind a response that was made again", async (t) => {
  const dialer = await Dialer.start();
  const { socket, localPort } = await dialer.connect({ port: PORT });
  const asked = request({ createConnection: () => socket, path: `/trailed/${FILE}`, headers: { host: "baton.test" } });
  asked.end();
  socket.resume();
  const [message] = (await once(asked, "response")) as [IncomingMessage];
  t.is(message.headers["transfer-encoding"], "chunked");
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const part of message as AsyncIterable<Buffer>) {
    hash.update(part);
    const isHalf = bytes < BYTES / 2 && bytes + part.length >= BYTES / 2;
    bytes += part.length;
    if (isHalf) killAgent((await lab.control.connectionOf(localPort, (one) => one.protected)).owner);
  }
  t.is(hash.digest("hex"), await lab.digestOf(FILE));
  t.deepEqual(message.rawTrailers, ["X-Checksum", `of /trailed/${FILE}`]);
  dialer.close();
});
