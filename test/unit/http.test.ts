import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import fc from "fast-check";
import { DirectoryContent } from "../../agent/content/index.js";
import type { Response } from "../../agent/protocols/application.js";
import { DirectoryHandler } from "../../agent/protocols/http/directory.js";
import { HttpLayer } from "../../agent/protocols/http/layer.js";
import type { LayerSection, ObjectReference } from "../../proto/record.js";
import { decodeHttpSection } from "../../proto/sections.js";
import { toSequence } from "../../proto/sequence.js";
import { FakePort, SERVER_ISN } from "../support/port.js";

const MTIME = 1_700_000_000;
const NOW_MS = 1_790_000_000_000;
const BIG = "0123456789".repeat(20_000);

interface Reply {
  status: number;
  headers: Map<string, string>;
  body: string;
}

/** Cuts a stream of responses apart. `heads`: which of them answer a HEAD. */
function replies(stream: Buffer, heads: number[] = []): Reply[] {
  const list: Reply[] = [];
  let rest = stream.toString("latin1");
  while (rest !== "") {
    const end = rest.indexOf("\r\n\r\n");
    if (end < 0) throw new Error(`half a response: ${rest}`);
    const [line = "", ...lines] = rest.slice(0, end).split("\r\n");
    const headers = new Map(lines.map((l) => [l.slice(0, l.indexOf(":")).toLowerCase(), l.slice(l.indexOf(":") + 2)]));
    const status = Number(/^HTTP\/1\.1 (\d{3}) [A-Z][A-Za-z ]+$/.exec(line)?.[1]);
    const bodiless = status === 304 || heads.includes(list.length);
    const length = bodiless ? 0 : Number(headers.get("content-length"));
    list.push({ status, headers, body: rest.slice(end + 4, end + 4 + length) });
    rest = rest.slice(end + 4 + length);
  }
  return list;
}

async function website(t: ExecutionContext, hold?: Promise<void>): Promise<DirectoryContent> {
  const directory = await mkdtemp(join(tmpdir(), "baton-http-"));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  await mkdir(join(directory, "sub dir"));
  const files = { "a.txt": "hello", "big.bin": BIG, "empty.css": "", "sub dir/index.html": "<p>", "ä.svg": "<svg/>" };
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(directory, name), content);
    await utimes(join(directory, name), MTIME, MTIME);
  }
  return DirectoryContent.open({
    directory,
    validator: hold ? "sha256" : "mtime+size",
    hashFile: async (path) => {
      await hold;
      const s = await stat(path, { bigint: true });
      const sha256 = createHash("sha256").update(readFileSync(path)).digest("hex");
      return { sha256, device: s.dev, inode: s.ino, size: Number(s.size), mtimeNs: s.mtimeNs, ctimeNs: s.ctimeNs };
    },
  });
}

function connection(content: DirectoryContent, port = new FakePort(), inputOffset = 0) {
  port.processedTo = inputOffset;
  const layer = new HttpLayer(port, inputOffset, new DirectoryHandler(content), () => NOW_MS);
  return { port, layer };
}

/** Until `done`, or a second. */
async function until(done: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !done(); i++) await new Promise((resolve) => setTimeout(resolve, 1));
  if (!done()) throw new Error("it did not happen");
}

/** Sends everything, in chunks of the given sizes, acknowledges as it comes, and ends. */
async function converse(content: DirectoryContent, text: string | Buffer, cut?: (rest: Buffer) => number) {
  const { port, layer } = connection(content);
  let rest = Buffer.from(text as string, "latin1");
  while (rest.length > 0) {
    const size = cut ? Math.max(1, cut(rest)) : rest.length;
    layer.input(rest.subarray(0, size));
    rest = rest.subarray(size);
  }
  layer.inputEnd();
  await until(() => {
    layer.acknowledged(port.tail());
    return port.fin;
  });
  layer.closed();
  return port;
}

function get(target: string, headers: Record<string, string> = {}, method = "GET"): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${target} HTTP/1.1\r\nHost: x\r\n${lines.join("")}\r\n`;
}

async function ask(content: DirectoryContent, request: string, isHead = false): Promise<Reply & { fin: boolean }> {
  const port = await converse(content, request);
  const list = replies(port.out, isHead ? [0] : []);
  if (list.length !== 1) throw new Error(`${list.length} responses`);
  return { ...(list[0] as Reply), fin: port.responses[0]?.fin ?? false };
}

test("a file", async (t) => {
  const reply = await ask(await website(t), get("/a.txt"));
  t.is(reply.status, 200);
  t.is(reply.body, "hello");
  t.deepEqual(Object.fromEntries(reply.headers), {
    date: "Mon, 21 Sep 2026 14:13:20 GMT",
    "content-type": "text/plain",
    "content-length": "5",
    "last-modified": "Tue, 14 Nov 2023 22:13:20 GMT",
    etag: `"5-${(BigInt(MTIME) * 1_000_000_000n).toString(16)}"`,
    "accept-ranges": "bytes",
  });
  t.false(reply.fin, "it stays open");
});

test("targets", async (t) => {
  const content = await website(t);
  const rows: Array<[string, number, string?]> = [
    ["/a.txt?x=/../y", 200, "hello"],
    ["//a.txt", 200, "hello"],
    ["/./sub%20dir/../a%2etxt", 200, "hello"],
    ["http://x/a.txt", 200, "hello"],
    ["http://x", 404],
    ["/sub%20dir/", 200, "<p>"],
    ["/sub%20dir/.", 200, "<p>"],
    ["/sub%20dir", 301],
    ["/%C3%A4.svg", 200, "<svg/>"],
    ["/\xc3\xa4.svg", 400], // not as it is
    ["/", 404],
    ["/nothing", 404],
    ["/a.txt/", 404],
    ["/../a.txt", 400],
    ["/%2e%2e/a.txt", 400],
    ["/..%2fa.txt", 400],
    ["/sub%20dir/%2e%2e/%2e%2e/etc/passwd", 400],
    ["/%00", 400],
    ["/%zz", 400],
    ["/%ff", 400],
    ["*", 400],
    [`/${"x".repeat(300)}`, 404],
    [`/${"x".repeat(8192)}`, 414],
  ];
  for (const [target, status, body] of rows) {
    const reply = await ask(content, get(target));
    t.is(reply.status, status, target);
    if (body !== undefined) t.is(reply.body, body, target);
  }
  t.is((await ask(content, get("//evil/../sub%20dir"))).headers.get("location"), "/sub%20dir/");
});

test("MIME types", async (t) => {
  const content = await website(t);
  t.is((await ask(content, get("/sub%20dir/"))).headers.get("content-type"), "text/html");
  t.is((await ask(content, get("/big.bin"))).headers.get("content-type"), "application/octet-stream");
  t.is((await ask(content, get("/empty.css"))).headers.get("content-type"), "text/css");
});

test("an empty file is a head alone", async (t) => {
  const reply = await ask(await website(t), get("/empty.css"));
  t.is(reply.status, 200);
  t.is(reply.headers.get("content-length"), "0");
});

test("HEAD", async (t) => {
  const content = await website(t);
  const whole = await ask(content, get("/big.bin", { Range: "bytes=0-4" }, "HEAD"), true);
  t.is(whole.status, 200, "Range is for GET");
  t.is(whole.headers.get("content-length"), String(BIG.length));
  t.is((await ask(content, get("/nothing", {}, "HEAD"), true)).status, 404);
  t.is(content.openCount, 0);
});

test("ranges", async (t) => {
  const content = await website(t);
  const size = BIG.length;
  const rows: Array<[string, number, string?]> = [
    ["bytes=0-0", 206, "0"],
    ["bytes=5-9", 206, "56789"],
    ["BYTES=5-9", 206, "56789"],
    [`bytes=${size - 3}-`, 206, "789"],
    [`bytes=${size - 3}-${size * 10}`, 206, "789"],
    ["bytes=199999-99999999999999999999999", 206, "9"],
    ["bytes=-2", 206, "89"],
    [`bytes=-${size * 2}`, 206, BIG],
    [`bytes=${size}-`, 416],
    ["bytes=-0", 416],
    ["bytes=9-5", 200],
    ["bytes=0-0,2-2", 200],
    ["bytes=", 200],
    ["bytes=-", 200],
    ["bytes=a-b", 200],
    ["lines=0-1", 200],
    ["bytes 0-1", 200],
  ];
  for (const [range, status, body] of rows) {
    const reply = await ask(content, get("/big.bin", { Range: range }));
    t.is(reply.status, status, range);
    if (status === 200) t.is(reply.body, BIG, range);
    if (status === 416) t.is(reply.headers.get("content-range"), `bytes */${size}`, range);
    if (status !== 206) continue;
    t.is(reply.body, body as string, range);
    const [, first, last] = /^bytes (\d+)-(\d+)\/200000$/.exec(reply.headers.get("content-range") ?? "") ?? [];
    t.is(BIG.slice(Number(first), Number(last) + 1), body as string, range);
  }
  t.is((await ask(content, get("/empty.css", { Range: "bytes=0-" }))).status, 416);
  t.is((await ask(content, get("/empty.css", { Range: "bytes=-1" }))).status, 416);
});

test("conditional requests", async (t) => {
  const content = await website(t);
  const etag = `"5-${(BigInt(MTIME) * 1_000_000_000n).toString(16)}"`;
  const at = "Tue, 14 Nov 2023 22:13:20 GMT";
  const before = "Tue, 14 Nov 2023 22:13:19 GMT";
  const after = "Tue, 14 Nov 2023 22:13:21 GMT";
  const rows: Array<[Record<string, string>, number]> = [
    [{ "If-None-Match": etag }, 304],
    [{ "If-None-Match": `W/${etag}` }, 304],
    [{ "If-None-Match": `"a", ${etag}` }, 304],
    [{ "If-None-Match": "*" }, 304],
    [{ "If-None-Match": '"a"' }, 200],
    [{ "If-None-Match": '"a"', "If-Modified-Since": after }, 200], // the date does not count then
    [{ "If-Modified-Since": at }, 304],
    [{ "If-Modified-Since": after }, 304],
    [{ "If-Modified-Since": before }, 200],
    [{ "If-Modified-Since": "Tuesday, 14-Nov-23 22:13:20 GMT" }, 304],
    [{ "If-Modified-Since": "Tue Nov 14 22:13:20 2023" }, 304],
    [{ "If-Modified-Since": "Tuesday, 14-Nov-77 22:13:20 GMT" }, 200], // 1977
    [{ "If-Modified-Since": "2023-11-14T22:13:20Z" }, 200],
    [{ "If-Modified-Since": "Tue, 32 Nov 2023 22:13:20 GMT" }, 200],
    [{ "If-Match": etag }, 200],
    [{ "If-Match": "*" }, 200],
    [{ "If-Match": `"a",${etag}` }, 200],
    [{ "If-Match": `W/${etag}` }, 412],
    [{ "If-Match": '"a"' }, 412],
    [{ "If-Match": etag, "If-Unmodified-Since": before }, 200], // the date does not count then
    [{ "If-Unmodified-Since": at }, 200],
    [{ "If-Unmodified-Since": before }, 412],
    [{ "If-Unmodified-Since": "nonsense" }, 200],
    [{ "If-Match": '"a"', "If-None-Match": etag }, 412],
    [{ "If-Match": etag, "If-None-Match": etag }, 304],
    [{ "If-None-Match": '"a"', Range: "bytes=0-0" }, 206],
    [{ "If-None-Match": etag, Range: "bytes=0-0" }, 304],
    [{ "If-Range": etag, Range: "bytes=0-0" }, 206],
    [{ "If-Range": `W/${etag}`, Range: "bytes=0-0" }, 200],
    [{ "If-Range": '"a"', Range: "bytes=0-0" }, 200],
    [{ "If-Range": '"a"', Range: "bytes=9-" }, 200],
    [{ "If-Range": at, Range: "bytes=0-0" }, 206],
    [{ "If-Range": before, Range: "bytes=0-0" }, 200],
    [{ "If-Range": after, Range: "bytes=0-0" }, 200],
  ];
  for (const [headers, status] of rows) {
    const reply = await ask(content, get("/a.txt", headers));
    t.is(reply.status, status, JSON.stringify(headers));
    if (status === 304) {
      t.is(reply.headers.get("etag"), etag);
      t.false(reply.headers.has("content-length"));
    }
  }
  t.is((await ask(content, get("/nothing", { "If-None-Match": "*" }))).status, 404);
  t.is(content.openCount, 0);
});

test("methods, versions, bad requests", async (t) => {
  const content = await website(t);
  const rows: Array<[string, number, boolean]> = [
    [get("/a.txt", {}, "DELETE"), 405, false],
    [get("/a.txt", {}, "OPTIONS"), 405, false],
    [get("*", {}, "OPTIONS"), 405, false],
    [get("/a.txt", { "Content-Length": "5" }, "POST"), 405, true],
    [get("/a.txt", { "Transfer-Encoding": "chunked" }, "PUT"), 405, true],
    ["CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 405, true],
    [get("/a.txt", {}, "FOO"), 501, true],
    ["get /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 501, true],
    ["GET /a.txt HTTP/1.2\r\nHost: x\r\n\r\n", 505, true],
    ["GET /a.txt HTTP/2.0\r\nHost: x\r\n\r\n", 505, true],
    ["GET /a.txt HTTP/3\r\nHost: x\r\n\r\n", 505, true],
    ["GET /a.txt\r\n\r\n", 505, true],
    ["GET /a.txt RTSP/1.0\r\nHost: x\r\n\r\n", 400, true],
    ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, true],
    ["GET /a.txt HTTP/1.1\r\n\r\n", 400, true],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400, true],
    ["GET /a.txt HTTP/1.1\nHost: x\n\n", 400, true],
    ["GET /a.txt HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400, true],
    ["GET /a.txt HTTP/1.1\r\nHost : x\r\n\r\n", 400, true],
    ["GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, true],
    ["NOT HTTP AT ALL\r\n\r\n", 400, true],
    ["garbage", 400, true],
    ["GET /a.t", 400, true],
    ["\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, true],
    ["\0\0\0\0", 400, true],
    [get("/a.txt", { "Content-Length": "5", "Transfer-Encoding": "chunked" }), 400, true],
    [get("/a.txt", { "Content-Length": "-1" }), 400, true],
    [`${get("/a.txt", { "Transfer-Encoding": "chunked" })}zz\r\n`, 400, true],
    [get("/a.txt", { "Content-Length": "65537" }), 413, true],
    [get("/a.txt", { "Transfer-Encoding": "gzip, chunked" }), 501, true],
    ['GET /a.txt HTTP/1.1\r\nHost: x";for=1\r\n\r\n', 400, true],
    [`${get("/a.txt", { "Transfer-Encoding": "chunked" })}20000\r\n${"x".repeat(70_000)}`, 413, true],
    [get("/a.txt", { X: "y".repeat(16_384) }), 431, true],
    [get("/a.txt", Object.fromEntries(Array.from({ length: 2_000 }, (_, i) => [`X${i}`, "1"]))), 431, true],
    [get("/a.txt", { Expect: "100-continue", "Content-Length": "1" }), 417, true],
    [get("/a.txt", { Expect: "more" }), 417, false],
    [get("/a.txt", { Expect: "100-continue" }), 200, false],
  ];
  for (const [request, status, fin] of rows) {
    const reply = await ask(content, request);
    t.is(reply.status, status, request.slice(0, 100));
    t.is(reply.fin, fin, request.slice(0, 100));
    t.is(reply.headers.get("connection"), fin ? "close" : undefined, request.slice(0, 100));
    if (status === 405) t.is(reply.headers.get("allow"), "GET, HEAD");
  }
});

test("a request's bad end is said at its first wrong byte, without waiting for more", async (t) => {
  const content = await website(t);
  for (const bytes of ["\x16", "GET /a.txt HTTP/1.1\r\nHost: x\r\n\0", "GET /a.txt HTTP/9.0\r", "FOO \x01"]) {
    const { port, layer } = connection(content);
    layer.input(Buffer.from(bytes, "latin1"));
    t.is(replies(port.out).length, 1, bytes);
    t.true(port.fin);
    layer.input(Buffer.from("more of it"));
    t.is(port.processedTo, bytes.length + 10, "input behind the FIN is used up");
    layer.closed();
  }
});

test("keep-alive and its end", async (t) => {
  const content = await website(t);
  const rows: Array<[string, string | undefined, boolean]> = [
    [get("/a.txt"), undefined, false],
    [get("/a.txt", { Connection: "close" }), "close", true],
    [get("/a.txt", { Connection: "Keep-Alive, Close" }), "close", true],
    ["GET /a.txt HTTP/1.0\r\n\r\n", "close", true],
    ["GET /a.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive", false],
    [get("/a.txt", { Connection: "Upgrade", Upgrade: "h2c" }), undefined, false],
  ];
  for (const [request, header, fin] of rows) {
    const reply = await ask(content, request);
    t.is(reply.headers.get("connection"), header, request);
    t.is(reply.fin, fin, request);
  }
  const port = await converse(content, get("/a.txt", { Connection: "close" }) + get("/a.txt"));
  t.is(replies(port.out).length, 1, "nothing is answered behind the last response");
});

test("fields of framing behind a body change nothing of what comes next", async (t) => {
  const content = await website(t);
  for (const trailer of ["Content-Length: 5", "Transfer-Encoding: chunked", "Connection: close", "Host: other"]) {
    const request = `${get("/a.txt", { "Transfer-Encoding": "chunked" })}0\r\n${trailer}\r\n\r\n`;
    const port = await converse(content, request + get("/nothing"));
    const statuses = replies(port.out).map(({ status }) => status);
    t.true(["400", "200,404"].includes(String(statuses)), `${trailer}: ${statuses}`);
  }
});

const pipeline = [
  get("/a.txt"),
  "\r\n\r\n",
  get("/big.bin", { Range: "bytes=10-19" }),
  get("/nothing"),
  `${get("/a.txt", { "Content-Length": "5" })}abcde`,
  `${get("/a.txt", { "Transfer-Encoding": "chunked" })}5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nTrailer: x\r\n\r\n`,
  get("/a.txt", { "Content-Length": "5" }).replace("GET", "HEAD"),
  "abcde",
  get("/sub%20dir/", { Upgrade: "h2c", Connection: "Upgrade" }),
  get("/a.txt", {}, "OPTIONS"),
  get("/empty.css"),
].join("");
const pipelineReplies = [
  "200 hello",
  "206 0123456789",
  "404 404 Not Found\n",
  "200 hello",
  "200 hello",
  "200 ",
  "200 <p>",
  "405 405 Method Not Allowed\n",
  "200 ",
];

function summary(port: FakePort): string[] {
  return replies(port.out, [5]).map((reply) => `${reply.status} ${reply.body}`);
}

test("a pipeline, cut at every byte", async (t) => {
  const content = await website(t);
  const whole = await converse(content, pipeline);
  t.deepEqual(summary(whole), pipelineReplies);
  t.deepEqual(summary(await converse(content, pipeline, () => 1)), pipelineReplies);
  for (let at = 1; at < pipeline.length; at++) {
    const port = await converse(content, pipeline, (rest) => (rest.length === pipeline.length ? at : rest.length));
    t.true(port.out.equals(whole.out), `cut at ${at}`);
  }
  t.is(content.openCount, 0);
});

test("the input is used up exactly to each request's end", async (t) => {
  const content = await website(t);
  const requests = [get("/a.txt"), `${get("/a.txt", { "Content-Length": "3" })}abc`, get("/big.bin")];
  const { port, layer } = connection(content, new FakePort(), 1_000);
  layer.input(Buffer.from(`${requests.join("")}GET /hal`));
  await until(() => port.responses.length === 3);
  let end = 1_000;
  t.deepEqual(
    port.responses.map((response) => response.processed),
    requests.map((request) => {
      end += request.length;
      return end;
    }),
  );
  layer.closed();
});

test("no more than 16 responses are ahead of the client", async (t) => {
  const content = await website(t);
  const { port, layer } = connection(content);
  layer.input(Buffer.from(get("/a.txt").repeat(40)));
  await until(() => port.responses.length === 16);
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.is(port.responses.length, 16);
  t.is(port.processedTo, 16 * get("/a.txt").length);
  const one = port.out.length / 16;
  layer.acknowledged(one - 1);
  await new Promise((resolve) => setTimeout(resolve, 10));
  t.is(port.responses.length, 16, "not before a whole one has arrived");
  layer.acknowledged(one * 3);
  await until(() => port.responses.length === 19);
  layer.acknowledged(port.tail());
  await until(() => port.responses.length === 35);
  layer.acknowledged(port.tail());
  await until(() => port.responses.length === 40);
  layer.closed();
});

test("whatever comes: answers in order, an end, no exception", async (t) => {
  const content = await website(t);
  const piece = fc.oneof(
    fc.constantFrom(
      get("/a.txt"),
      get("/big.bin", { Range: "bytes=0-9" }),
      get("/x"),
      "\r\n",
      "GET ",
      "\0",
      "0\r\n\r\n",
    ),
    fc.string({ maxLength: 20, unit: "binary" }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 8 }), fc.integer({ min: 1, max: 50 }), async (parts, size) => {
      const text = Buffer.from(parts.join(""), "utf8");
      const port = await converse(content, text.toString("latin1"), () => size);
      for (const reply of replies(port.out)) t.true([200, 206, 400, 404, 405, 501, 505].includes(reply.status));
      t.is(port.processedTo, text.length);
    }),
    { numRuns: 300 },
  );
  t.is(content.openCount, 0);
});

function headOf(port: FakePort, index: number): Buffer {
  const piece = port.responses[index]?.pieces[0];
  if (!piece || !("literal" in piece)) throw new Error("no head");
  return piece.literal;
}

function section(layer: HttpLayer) {
  const block: LayerSection[] = [];
  layer.checkpoint(block);
  return { raw: block[0] as LayerSection, ...decodeHttpSection(block[0] as LayerSection) };
}

test("the section names the response that the client is receiving", async (t) => {
  const content = await website(t);
  const { port, layer } = connection(content);
  t.is(section(layer).current, undefined);
  const second = get("/big.bin", { Range: "bytes=100-" });
  layer.input(Buffer.from(get("/a.txt") + second));
  await until(() => port.responses.length === 2);
  const first = section(layer);
  t.is(first.requests, 2);
  t.is(first.current?.objectId, "/a.txt");
  t.is(first.queued.length, 1);

  const startOfSecond = headOf(port, 0).length + 5;
  layer.acknowledged(startOfSecond);
  const { current, queued } = section(layer);
  t.is(queued.length, 0);
  t.is(current?.requestHead.toString(), second);
  const head = headOf(port, 1);
  t.deepEqual(current?.responseHead, head);
  t.is(current?.objectId, "/big.bin");
  t.is(current?.validator, port.objects[1]?.validator);
  t.is(current?.firstByteOffset, startOfSecond + head.length);
  t.is(current?.firstByteSeq, toSequence(SERVER_ISN, startOfSecond + head.length));
  t.is(current?.objectOffset, 100);
  t.is(current?.length, BIG.length - 100);
  t.true(current?.keepAlive);

  t.deepEqual(layer.describe(startOfSecond + head.length + 50), {
    object: "/big.bin",
    objectOffset: 150,
    firstByteSequence: current?.firstByteSeq as number,
    requests: 2,
  });
  t.is(layer.describe(startOfSecond).objectOffset, 100, "still in the head");
  layer.acknowledged(port.tail());
  t.is(section(layer).current?.objectId, "/big.bin", "the last one stays");
  layer.closed();
});

test("a takeover between any two bytes of a pipeline changes nothing", async (t) => {
  const content = await website(t);
  const input = Buffer.from(pipeline, "latin1");
  const expected = (await converse(content, pipeline)).out;
  for (let at = 0; at <= input.length; at += 13) {
    const { port, layer } = connection(content);
    layer.input(input.subarray(0, at));
    await new Promise((resolve) => setTimeout(resolve, 3));
    const acknowledged = Math.floor(port.tail() * 0.7);
    layer.acknowledged(acknowledged);
    await new Promise((resolve) => setTimeout(resolve, 3));
    const { raw } = section(layer);
    const { tail, processedTo, out } = { tail: port.tail(), processedTo: port.processedTo, out: port.out };
    layer.closed();

    const heir = connection(content, new FakePort(tail), processedTo);
    heir.layer.unready(raw);
    heir.layer.ready(acknowledged);
    const { raw: again } = section(heir.layer);
    t.deepEqual(again, raw, `the section is handed on, at ${at}`);
    if (processedTo < at) heir.layer.input(input.subarray(processedTo, at));
    heir.layer.input(input.subarray(at));
    heir.layer.inputEnd();
    await until(() => {
      heir.layer.acknowledged(heir.port.tail());
      return heir.port.fin;
    });
    t.true(Buffer.concat([out, heir.port.out]).equals(expected), `taken over at ${at}`);
    heir.layer.closed();
  }
  t.is(content.openCount, 0);
});

test("an heir keeps the bound of promised responses", async (t) => {
  const content = await website(t);
  const { port, layer } = connection(content);
  layer.input(Buffer.from(get("/a.txt").repeat(16)));
  await until(() => port.responses.length === 16);
  const heir = connection(content, new FakePort(port.tail()), port.processedTo);
  heir.layer.unready(section(layer).raw);
  heir.layer.ready(0);
  heir.layer.input(Buffer.from(get("/a.txt")));
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.is(heir.port.responses.length, 0);
  heir.layer.acknowledged(port.tail());
  await until(() => heir.port.responses.length === 1);
  t.is(section(heir.layer).requests, 17);
  layer.closed();
  heir.layer.closed();
});

test("an heir of a connection that is to end answers nothing more", async (t) => {
  const content = await website(t);
  const { port, layer } = connection(content);
  layer.input(Buffer.from(get("/a.txt", { Connection: "close" })));
  await until(() => port.fin);
  const ended = new FakePort(port.tail());
  ended.fin = true;
  const heir = connection(content, ended, port.processedTo);
  heir.layer.unready(section(layer).raw);
  heir.layer.ready(10);
  heir.layer.input(Buffer.from(get("/a.txt")));
  heir.layer.inputEnd();
  await new Promise((resolve) => setTimeout(resolve, 10));
  t.is(ended.responses.length, 0);
  t.is(ended.processedTo, port.processedTo + get("/a.txt").length);
});

test("a digest that is pending: unprotected at first, protected by a second commit", async (t) => {
  let release = () => {};
  const content = await website(
    t,
    new Promise((resolve) => {
      release = resolve;
    }),
  );
  const { port, layer } = connection(content);
  layer.input(Buffer.from(get("/big.bin", { Range: "bytes=5-" })));
  await until(() => port.responses.length === 1);
  const response = port.responses[0] as Response;
  t.is(response.unprotected, "digest pending");
  const about = { method: "GET", target: "/big.bin" };
  t.deepEqual(port.exposures, [{ reason: "digest pending", about, passes: true }]);
  t.is(port.objects[0]?.validator, "");
  t.is(section(layer).current?.validator, "");
  release();
  const reference = (await response.protect) as ObjectReference;
  const validator = `sha256:${createHash("sha256").update(BIG).digest("hex")}`;
  t.deepEqual(reference, { objectId: "/big.bin", validator, objectOffset: 5, length: BIG.length - 5 });
  t.is(section(layer).current?.validator, validator);
  (await layer.open(reference, true)).close();
  await t.throwsAsync(layer.open({ ...reference, validator: "sha256:0" }, true), {
    code: "REFUSED",
    message: /big\.bin/,
  });

  layer.input(Buffer.from(get("/big.bin")));
  await until(() => port.responses.length === 2);
  t.is(port.responses[1]?.unprotected, undefined);
  t.is(port.objects[1]?.validator, validator);
  t.is(port.exposures.length, 1);
  layer.closed();
  t.is(content.openCount, 0);
});

test("a digest that cannot be made: said where the response is not at its client yet", async (t) => {
  for (const isHolding of [true, false]) {
    let fail = () => {};
    const content = await website(
      t,
      new Promise((_, reject) => {
        fail = () => reject(new Error("no such luck"));
      }),
    );
    const { port, layer } = connection(content);
    port.isHolding = isHolding;
    layer.input(Buffer.from(get("/big.bin")));
    await until(() => port.responses.length === 1);
    fail();
    await t.throwsAsync(port.responses[0]?.protect as Promise<unknown>);
    const reasons = port.exposures.map(({ reason, passes }) => `${reason}${passes ? ", passes" : ""}`);
    t.deepEqual(reasons, ["digest pending, passes", ...(isHolding ? ["its file's digest cannot be made"] : [])]);
    layer.closed();
  }
});

test("a connection that ends while a file is looked up", async (t) => {
  const content = await website(t);
  const { port, layer } = connection(content);
  layer.input(Buffer.from(get("/a.txt")));
  layer.closed();
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.is(port.responses.length, 0);
  t.is(content.openCount, 0);
});

test("the end of the client's stream", async (t) => {
  const content = await website(t);
  const idle = connection(content);
  idle.layer.inputEnd();
  t.true(idle.port.fin);
  t.is(idle.port.out.length, 0);
  const blank = connection(content);
  blank.layer.input(Buffer.from("\r\n"));
  blank.layer.inputEnd();
  t.true(blank.port.fin);
  t.is(blank.port.out.length, 0, "an empty line is no request");
  t.is(blank.port.processedTo, 2);
});
