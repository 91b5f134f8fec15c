import "../support/quiet.js";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import test, { type ExecutionContext } from "ava";
import { native } from "../../agent/native/index.js";
import type { OpenObject } from "../../agent/protocols/application.js";
import type { MadeBody } from "../../agent/protocols/http/answer.js";
import type { Asked } from "../../agent/protocols/http/handler.js";
import { requestOf } from "../../agent/protocols/http/request.js";
import { UpstreamHandler } from "../../agent/protocols/http/upstream.js";
import { Origin } from "../../agent/upstream/index.js";
import { RefusedError } from "../../proto/errors.js";

const OBJECT = randomBytes(300_000);

type Answering = (request: IncomingMessage, response: ServerResponse) => void;

/** A handler before an origin of the test's own. */
async function scene(t: ExecutionContext, answer: Answering, literalBytes = 65_536) {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await once(server, "listening");
  const origin = new Origin(`http://127.0.0.1:${(server.address() as { port: number }).port}`);
  const end = () => {
    server.close();
    server.closeAllConnections();
  };
  t.teardown(() => {
    origin.close();
    end();
  });
  const handler = new UpstreamHandler(origin, native, { repeat: "idempotent", literalBytes }, 30_000);
  return { handler, origin, end };
}

function asked(target = "/o", method = "GET", ...lines: string[]): Asked {
  const head = `${method} ${target} HTTP/1.1\r\nHost: h\r\n${lines.map((line) => `${line}\r\n`).join("")}\r\n`;
  return {
    request: requestOf(Buffer.from(head))!,
    client: "10.77.0.10",
    nowSeconds: 0,
    gone: new AbortController().signal,
  };
}

/** Serves OBJECT with this ETag, and ranges of it. */
function ranges(etag: () => string): Answering {
  return ({ headers }, response) => {
    response.setHeader("ETag", etag());
    response.setHeader("Accept-Ranges", "bytes");
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? "") ?? [];
    if (from === undefined || headers["if-range"] !== etag()) {
      response.setHeader("Content-Length", OBJECT.length);
      response.end(OBJECT);
      return;
    }
    const part = OBJECT.subarray(Number(from), Number(to) + 1);
    const range = `bytes ${from}-${to}/${OBJECT.length}`;
    response.writeHead(206, { "Content-Range": range, "Content-Length": part.length });
    response.end(part);
  };
}

async function bytesOf(file: OpenObject, from: number, to: number): Promise<Buffer> {
  await file.stream!.fetch(from, to);
  const bytes = Buffer.alloc(to - from);
  for (let done = 0; done < bytes.length; ) {
    const length = readSync(file.fd, bytes, done, bytes.length - done, from + done);
    if (length === 0) break;
    done += length;
  }
  return bytes;
}

async function wholeOf({ parts }: MadeBody): Promise<Buffer> {
  const got: Buffer[] = [];
  for (;;) {
    const { done, value } = await parts.next();
    if (done) return Buffer.concat(got);
    got.push(value);
  }
}

async function refusal(attempt: Promise<unknown>): Promise<string> {
  try {
    await attempt;
  } catch (error) {
    if (error instanceof RefusedError) return error.reason;
    throw error;
  }
  return "not refused";
}

test("a small answer is part of the record, whether its length was said or not", async (t) => {
  const { handler } = await scene(t, ({ url }, response) => {
    response.statusMessage = "Fine";
    if (url === "/chunked") response.write("a");
    response.end("bc");
  });
  const stated = await handler.answer(asked("/stated"));
  t.like(stated, { status: 200, reason: "Fine", body: Buffer.from("bc"), object: undefined });
  const chunked = await handler.answer(asked("/chunked"));
  t.deepEqual(chunked.body, Buffer.from("abc"));
  for (const { headers, body } of [stated, chunked]) {
    t.deepEqual(
      headers.filter(([name]) => /^(content-length|transfer-encoding|connection)$/i.test(name)),
      [["Content-Length", String(body.length)]],
    );
  }
});

const TRAILERS = { "X-Checksum": "abc", "Set-Cookie": "a=b", Host: "other" };
const named = (headers: Array<[string, string]>) =>
  headers.filter(([name]) => /^(content-length|transfer-encoding|trailer)$/i.test(name));

test("trailers of a small answer follow it in the record, where the client knows chunks", async (t) => {
  const { handler } = await scene(t, ({ url }, response) => {
    response.setHeader("Trailer", Object.keys(TRAILERS).join(", "));
    response.write(url === "/empty" ? "" : "abc");
    response.addTrailers(TRAILERS);
    response.end();
  });
  const { headers, body, made } = await handler.answer(asked("/abc"));
  t.is(made, undefined);
  t.deepEqual(named(headers), [
    ["Trailer", "X-Checksum"],
    ["Transfer-Encoding", "chunked"],
  ]);
  t.is(body.toString(), "3\r\nabc\r\n0\r\nX-Checksum: abc\r\n\r\n");
  t.is((await handler.answer(asked("/empty"))).body.toString(), "0\r\nX-Checksum: abc\r\n\r\n");

  const old = asked("/abc");
  old.request.minorVersion = 0;
  const dropped = await handler.answer(old);
  t.deepEqual(named(dropped.headers), [["Content-Length", "3"]]);
  t.is(dropped.body.toString(), "abc");
});

test("trailers of an answer in the making are known at its end, also when it is made again", async (t) => {
  const { handler } = await scene(t, (_request, response) => {
    response.setHeader("Trailer", "X-Checksum");
    response.write(OBJECT);
    setTimeout(() => {
      response.addTrailers(TRAILERS);
      response.end();
    }, 50);
  });
  const { headers, made } = await handler.answer(asked());
  t.deepEqual(named(headers), [["Trailer", "X-Checksum"]]);
  for (const one of [made!, await handler.repeat(asked(), 200)]) {
    t.deepEqual(await wholeOf(one), OBJECT);
    t.deepEqual(one.trailers?.(), [["X-Checksum", "abc"]]);
  }
});

test("too many trailers are dropped, and the body is whole", async (t) => {
  for (const body of ["abc", "x".repeat(100_000)]) {
    const { handler } = await scene(t, ({ socket }) => {
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      socket.write(`${body.length.toString(16)}\r\n${body}\r\n0\r\nX-Long: ${"y".repeat(200_000)}\r\n\r\n`);
    });
    for (let i = 0; i < 3; i++) {
      const answer = await handler.answer(asked());
      t.is(answer.status, 200);
      const { made } = answer;
      t.is((made ? await wholeOf(made) : answer.body).toString(), body);
      t.deepEqual(made?.trailers?.() ?? [], []);
      if (!made) t.deepEqual(named(answer.headers), [["Content-Length", "3"]]);
    }
  }
});

test("trailers of an upload in chunks go on behind it; without chunks nothing is announced", async (t) => {
  const { handler } = await scene(t, (request, response) => {
    request.resume().on("end", () => response.end(JSON.stringify([request.headers.trailer, request.rawTrailers])));
  });
  const upload = async (line: string) => {
    const question = asked("/o", "PUT", line, "Trailer: X-Checksum, Host");
    const sent = handler.upload(question);
    sent.write(Buffer.from("hello"));
    sent.end(Object.entries(TRAILERS));
    return JSON.parse((await sent.answer).body.toString()) as unknown;
  };
  t.deepEqual(await upload("Transfer-Encoding: chunked"), ["X-Checksum", ["X-Checksum", "abc"]]);
  t.deepEqual(await upload("Content-Length: 5"), [null, []]);
  const collected = await handler.answer(asked("/o", "GET", "Trailer: X-Checksum"));
  t.deepEqual(JSON.parse(collected.body.toString()), [null, []]);
});

test("how large an answer may be in the record is the service's own", async (t) => {
  const answer: Answering = ({ url }, response) => {
    const body = Buffer.alloc(Number(url!.slice(2)), "x");
    if (url!.startsWith("/s")) response.setHeader("Content-Length", body.length);
    response.end(body);
  };
  for (const max of [0, 1_000, 200_000]) {
    const { handler } = await scene(t, answer, max);
    for (const kind of ["s", "c"]) {
      const literal = await handler.answer(asked(`/${kind}${max}`));
      t.is(literal.body.length, max);
      t.is(literal.made, undefined);
      const { made, body } = await handler.answer(asked(`/${kind}${max + 1}`));
      t.is(body.length, 0);
      t.is((await wholeOf(made!)).length, max + 1);
    }
  }
});

test("HEAD, 204 and 304 have heads alone", async (t) => {
  const { handler } = await scene(t, ({ url, method }, response) => {
    if (method === "HEAD") response.setHeader("Content-Length", 12345);
    response.writeHead(method === "HEAD" ? 200 : Number(url!.slice(1))).end();
  });
  const head = await handler.answer(asked("/200", "HEAD"));
  t.is(head.headers.find(([name]) => name === "Content-Length")?.[1], "12345");
  for (const status of [204, 304]) t.like(await handler.answer(asked(`/${status}`)), { status, body: Buffer.alloc(0) });
});

test("a large object with a strong validator is promised by it, and any part of it can be had again", async (t) => {
  const { handler } = await scene(
    t,
    ranges(() => '"v1"'),
  );
  const { object } = await handler.answer(asked());
  t.like(object, { offset: 0, length: OBJECT.length });
  t.like(object!.found, { objectId: "/o", validator: 'etag:"v1"' });
  object!.found.file.close();

  const reference = { objectId: "/o", validator: 'etag:"v1"', objectOffset: 0, length: OBJECT.length };
  const asking = new AbortController();
  const question = { ...asked("/o", "GET", "Range: bytes=0-5", 'If-None-Match: "v1"'), gone: asking.signal };
  const file = await handler.open(reference, question, true);
  asking.abort(); // who has opened it may be another one than who needs it
  t.deepEqual(await bytesOf(file, 100_000, 200_000), OBJECT.subarray(100_000, 200_000));
  t.is(file.stream!.known(100_000), undefined);
  t.deepEqual(file.stream!.known(OBJECT.length), { position: 199_999, byte: OBJECT[199_999] });
  file.close();
});

test("a client's own range is a part of the same object", async (t) => {
  const { handler } = await scene(t, (request, response) => {
    const etag = '"v1"';
    request.headers["if-range"] ??= etag;
    ranges(() => etag)(request, response);
  });
  const { status, object } = await handler.answer(asked("/o", "GET", "Range: bytes=1000-200999"));
  t.is(status, 206);
  t.like(object, { offset: 1000, length: 200_000 });
  object!.found.file.close();
});

test("without a strong validator or ranges it is made as it is sent, and made again", async (t) => {
  const with_ = (headers: Record<string, string>): Answering => {
    return (_request, response) => response.writeHead(200, { ...headers, "Content-Length": OBJECT.length }).end(OBJECT);
  };
  for (const headers of [{ ETag: 'W/"v"', "Accept-Ranges": "bytes" }, { ETag: '"v"' }, { "Accept-Ranges": "bytes" }]) {
    const { handler } = await scene(t, with_(headers as Record<string, string>));
    const { made, headers: lines } = await handler.answer(asked());
    t.is(made?.length, OBJECT.length);
    t.false(
      lines.some(([name]) => name.toLowerCase() === "content-length"),
      "the framing is the layer's",
    );
    t.deepEqual(await wholeOf(made!), OBJECT);
    t.deepEqual(await wholeOf(await handler.repeat(asked(), 200)), OBJECT);
    t.is(await refusal(handler.repeat(asked(), 206)), "response changed");
  }
});

test("what is made slowly is sent as it comes; what breaks off is no end", async (t) => {
  let go: () => void = () => {};
  const { handler } = await scene(t, ({ url, socket }, response) => {
    response.write("first");
    go = () => {
      if (url === "/breaks") socket.destroy();
      else response.end("last");
    };
  });
  for (const url of ["/ends", "/breaks"]) {
    const { made } = await handler.answer(asked(url));
    t.is(made?.length, undefined);
    t.deepEqual((await made!.parts.next()).value, Buffer.from("first"));
    go();
    if (url === "/breaks") await t.throwsAsync(wholeOf(made!));
    else t.deepEqual(await wholeOf(made!), Buffer.from("last"));
  }
});

test("another object, none, or no answer: refused", async (t) => {
  let etag = '"v1"';
  const { handler, end } = await scene(t, (request, response) => {
    if (request.url === "/gone") response.writeHead(404).end();
    else ranges(() => etag)(request, response);
  });
  const reference = (objectId = "/o") => ({ objectId, validator: 'etag:"v1"', objectOffset: 0, length: OBJECT.length });
  t.is(await refusal(handler.open(reference("/gone"), asked("/gone"), false)), "object missing");
  etag = '"v2"';
  t.is(await refusal(handler.open(reference(), asked(), false)), "object changed");
  t.is(
    await refusal(handler.open(reference(), undefined, false)),
    "its upstream gives it no strong validator, or no ranges",
  );
  end();
  t.is(await refusal(handler.open(reference(), asked(), true)), "its upstream does not answer");
  const patient = await handler.open(reference(), asked(), false);
  patient.close(); // it may be back until it is needed
});

test("an origin that is not there, says nothing, or ends early: 502", async (t) => {
  const { handler, end, origin } = await scene(t, ({ url, socket }, response) => {
    if (url === "/early") {
      response.writeHead(200, { "Content-Length": 100 }).write("only this");
      setImmediate(() => socket.destroy());
    } else socket.destroy();
  });
  t.is((await handler.answer(asked("/early"))).status, 502);
  t.is((await handler.answer(asked("/nothing"))).status, 502);
  await t.notThrowsAsync(
    scene(t, (_request, response) => void response.writeHead(503).end()).then(({ origin }) => origin.health()),
  );
  end();
  t.is((await handler.answer(asked())).status, 502);
  await t.throwsAsync(origin.health(), {
    message: /^its upstream http:\/\/127\.0\.0\.1:\d+ does not answer \(ECONNREFUSED\)$/,
  });
});

test("a body is handed on with its length, and what the client expected is answered here", async (t) => {
  const { handler } = await scene(t, (request, response) => {
    const got: Buffer[] = [];
    request
      .on("data", (part) => got.push(part))
      .on("end", () => {
        response.end(JSON.stringify({ body: Buffer.concat(got).toString(), headers: request.rawHeaders }));
      });
  });
  const post = asked("/", "POST", "Transfer-Encoding: chunked", "Expect: 100-continue");
  post.request.body = Buffer.from("hello");
  const answer = JSON.parse((await handler.answer(post)).body.toString()) as { body: string; headers: string[] };
  t.is(answer.body, "hello");
  t.deepEqual(
    answer.headers.filter((_, at) => at % 2 === 0).filter((name) => /length|expect|encoding/i.test(name)),
    ["Content-Length"],
  );
});

test("what may be executed twice is the operator's word", (t) => {
  const origin = new Origin("unix:/nowhere");
  t.teardown(() => origin.close());
  const may = (repeat: "idempotent" | "all" | "none", method: string, ...lines: string[]) =>
    new UpstreamHandler(origin, native, { repeat, literalBytes: 0 }).mayRepeat(asked("/", method, ...lines).request);
  for (const method of ["GET", "HEAD", "OPTIONS"]) t.true(may("none", method), method);
  for (const method of ["PUT", "DELETE"]) t.deepEqual([may("idempotent", method), may("none", method)], [true, false]);
  for (const method of ["POST", "PATCH"]) {
    t.deepEqual([may("idempotent", method), may("all", method)], [false, true]);
    t.true(may("idempotent", method, "Idempotency-Key: 1"));
    t.false(may("none", method, "Idempotency-Key: 1"));
  }
});

test("what there is no way for is refused", async (t) => {
  const { handler } = await scene(t, (_request, response) => void response.end());
  const status = (method: string, ...lines: string[]) => handler.refusal(asked("/", method, ...lines).request)?.status;
  t.is(status("GET"), undefined);
  t.is(status("POST", "Content-Length: 1", "Expect: 100-continue"), undefined);
  t.is(status("CONNECT"), 501);
  t.is(status("GET", "Upgrade: websocket", "Connection: upgrade"), 501);
  t.is(status("GET", "Expect: miracles"), 417);
});
