import test from "ava";
import { forRange, toClient, toOrigin } from "../../agent/protocols/http/forwarding.js";
import { type Request, requestOf } from "../../agent/protocols/http/request.js";
import { announcement, passedTrailers } from "../../agent/protocols/http/trailers.js";

function request(...lines: string[]): Request {
  const made = requestOf(Buffer.from(`GET /a?b HTTP/1.1\r\n${lines.map((line) => `${line}\r\n`).join("")}\r\n`));
  if (!made) throw new Error("no request");
  return made;
}
const text = (lines: Array<[string, string]>) => lines.map(([name, value]) => `${name}: ${value}`);

test("what the client wrote goes on as it was, and who it is behind it", (t) => {
  const asked = request("Host: example:8080", "accept: a", "Cookie: x=1", "Accept: b", "COOKIE: y=2");
  t.deepEqual(text(toOrigin(asked, "10.77.0.10")), [
    "Host: example:8080",
    "accept: a",
    "Cookie: x=1",
    "Accept: b",
    "COOKIE: y=2",
    'Forwarded: for=10.77.0.10;proto=http;host="example:8080"',
    "X-Forwarded-For: 10.77.0.10",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Host: example:8080",
    "Via: 1.1 baton",
  ]);
});

test("what is of one hop only stays behind, also what Connection names", (t) => {
  const hops = ["Connection: close, X-Mine", "Keep-Alive: 5", "TE: trailers", "X-Mine: 1", "Proxy-Authorization: x"];
  const sent = text(toOrigin(request("Host: h", ...hops, "X-Yours: 2"), "fd77::10"));
  t.deepEqual(sent.slice(0, 3), ["Host: h", "X-Yours: 2", 'Forwarded: for="[fd77::10]";proto=http;host="h"']);
  t.deepEqual(
    text(
      toClient([
        ["Connection", "keep-alive, x-hop"],
        ["Transfer-Encoding", "chunked"],
        ["X-Hop", "1"],
        ["Set-Cookie", "a"],
        ["Set-Cookie", "b"],
      ]),
    ),
    ["Set-Cookie: a", "Set-Cookie: b"],
  );
});

test("who was there before is not forgotten", (t) => {
  const before = ["Forwarded: for=1.2.3.4", "X-Forwarded-For: 1.2.3.4", "Via: 1.0 old", "X-Forwarded-Proto: https"];
  const sent = text(toOrigin(request("Host: h", ...before), "10.77.0.10"));
  t.deepEqual(sent.slice(1), [
    'Forwarded: for=1.2.3.4, for=10.77.0.10;proto=http;host="h"',
    "X-Forwarded-For: 1.2.3.4, 10.77.0.10",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Host: h",
    "Via: 1.0 old, 1.1 baton",
  ]);
});

test("a part is asked for without the client's own conditions", (t) => {
  const lines = request("Host: h", "Range: bytes=5-", 'If-Range: "x"', 'If-None-Match: "y"', "Accept: */*").lines;
  t.deepEqual(text(forRange(lines, '"etag"', 10, 20)), [
    "Host: h",
    "Accept: */*",
    "Range: bytes=10-19",
    'If-Range: "etag"',
  ]);
});

test("behind a body nothing goes on that says where it ends, whom it is for, who asks or what it is", (t) => {
  const never =
    "Transfer-Encoding Content-Length Host Trailer Connection Keep-Alive Proxy-Connection Upgrade TE Authorization " +
    "Proxy-Authorization Proxy-Authenticate WWW-Authenticate Cookie Set-Cookie Content-Encoding Content-Type Content-Range " +
    "Content-Location Expect Range If-Match If-Range If-None-Match Cache-Control Max-Forwards Forwarded X-Forwarded-For Via " +
    "Idempotency-Key Age Date Expires Location Retry-After Vary X-Hop";
  const head: Array<[string, string]> = [["Connection", "close, x-hop"]];
  const lines = never.split(" ").map((name): [string, string] => [name, "x"]);
  t.deepEqual(passedTrailers(lines, head), []);
  t.deepEqual(
    passedTrailers(
      lines.map(([name, value]) => [name.toLowerCase(), value]),
      head,
    ),
    [],
  );
  const good: Array<[string, string]> = [
    ["X-Checksum", "abc"],
    ["content-digest", "sha-256=:x:"],
    ["Server-Timing", ""],
    ["X-Checksum", "d\u00e9f"],
  ];
  t.deepEqual(passedTrailers([...lines, ...good], head), good);
  t.deepEqual(passedTrailers([["X-Split", "a\r\nHost: x"], ["X Y", "1"], ["", "1"], ...good], head), good);
  t.deepEqual(passedTrailers([...good, ["X-Long", "x".repeat(16_384)]], head), [], "all or none");
});

test("what is announced is what goes on", (t) => {
  const head = [
    ["Trailer", "X-Checksum, Host,"],
    ["TRAILER", " Content-Digest"],
  ] as Array<[string, string]>;
  t.deepEqual(announcement(head), [["Trailer", "X-Checksum, Content-Digest"]]);
  t.deepEqual(announcement([["Trailer", "Host"]]), []);
  t.deepEqual(announcement([]), []);
});
