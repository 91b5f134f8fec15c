import { createHash } from "node:crypto";
import test from "ava";
import fc from "fast-check";
import { type Algorithm, challenges, checkDigest } from "../../../agent/protocols/rtsp/digest.js";
import { makeUserLine, Users } from "../../../agent/protocols/rtsp/users.js";

const NOW = 1_790_000_000_000;
const PASSWORDS = { Mufasa: "Circle of Life", 'a"b': "x", Jäsøn: "pässwörd" };
const lines = Object.entries(PASSWORDS).map(([name, password]) => makeUserLine({ name, realm: "films" }, password));
const settings = new Users(lines.join("\n"), "users", "films");
/** The same but for a comment. */
const changed = new Users(["# changed", ...lines].join("\n"), "users", "films");
const request = { method: "DESCRIBE", target: "rtsp://h/a.mp4" };

function nonceIn(challenge: string): string {
  return /nonce="([^"]+)"/.exec(challenge)?.[1] ?? "";
}

/** An Authorization header, as RFC 7616 says it is made. */
function authorize(
  options: Partial<Record<string, string>> = {},
  algorithm: Algorithm = "MD5",
  withQop = true,
): string {
  const nonce = nonceIn(challenges(settings, NOW)[0] ?? "");
  const fields: Record<string, string> = { username: "Mufasa", realm: "films", nonce, uri: request.target };
  const { password = "Circle of Life", method = request.method, ...more } = options;
  Object.assign(fields, withQop ? { qop: "auth", nc: "00000001", cnonce: "abc" } : {}, more);
  const hash = (text: string) =>
    createHash(algorithm === "MD5" ? "md5" : "sha256")
      .update(text)
      .digest("hex");
  const ha1 = hash(`${fields.username}:${fields.realm}:${password}`);
  const ha2 = hash(`${method}:${fields.uri}`);
  const middle = withQop ? `${fields.nc}:${fields.cnonce}:${fields.qop}:` : "";
  fields.response ??= hash(`${ha1}:${fields.nonce}:${middle}${ha2}`);
  const list = Object.entries(fields).map(([name, value]) => `${name}="${value.replace(/["\\]/g, "\\$&")}"`);
  return Buffer.from(`Digest ${list.join(", ")}, algorithm=${algorithm}`).toString("latin1"); // as the reader has it
}

const check = (header: string | undefined, nowMs = NOW, others = settings) =>
  checkDigest(header, request, others, nowMs).kind;

test("challenges", (t) => {
  const [first = "", second = ""] = challenges(settings, NOW);
  t.regex(first, /^Digest realm="films", nonce="[\w-]{30}", algorithm=SHA-256, qop="auth"$/);
  t.regex(second, /algorithm=MD5, qop="auth"$/);
  t.regex(challenges(settings, NOW, true)[1] ?? "", /, nonce="[^"]*", stale=true, /);
});

test("whoever knows the password is granted, on any server", (t) => {
  for (const algorithm of ["MD5", "SHA-256"] as const) {
    for (const withQop of [true, false]) {
      const other = new Users(lines.join("\n"), "elsewhere", "films");
      const verdict = checkDigest(authorize({}, algorithm, withQop), request, other, NOW + 1_000);
      t.deepEqual(verdict, { kind: "granted", user: "Mufasa" });
    }
  }
  t.is(check(authorize({ username: 'a"b', password: "x" })), "granted");
  const umlauts = authorize({ username: "Jäsøn", password: "pässwörd" }, "SHA-256");
  t.deepEqual(checkDigest(umlauts, request, settings, NOW), { kind: "granted", user: "Jäsøn" });
  t.is(
    check(authorize({}, "MD5", false).replace(", algorithm=MD5", "")),
    "granted",
    "MD5 is meant where nothing is said",
  );
  t.is(check(authorize().replace('qop="auth"', "qop=auth").replace('nc="00000001"', "nc=00000001")), "granted");
});

test("an old nonce is stale for who knows the password, and no good for others", (t) => {
  t.is(check(authorize(), NOW + 300_000), "granted");
  t.is(check(authorize(), NOW + 300_001), "stale");
  t.is(check(authorize({ password: "wrong" }), NOW + 300_001), "refused");
  t.is(check(authorize(), NOW - 9_000), "granted", "clocks differ");
  t.is(check(authorize(), NOW - 11_000), "stale", "no nonce of this server's");
  t.is(check(authorize(), NOW, changed), "stale", "the file has changed since");
  t.is(check(authorize({ password: "wrong" }), NOW, changed), "refused");
  const nonce = nonceIn(challenges(settings, NOW)[0] ?? "");
  t.is(check(authorize({ nonce: `${nonce}=` })), "stale");
  t.is(check(authorize({ nonce: "" })), "stale");
});

test("what is refused", (t) => {
  const rows: Array<[string, string | undefined]> = [
    ["none", undefined],
    ["empty", ""],
    ["another scheme", "Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZl"],
    ["nothing in it", "Digest "],
    ["a wrong password", authorize({ password: "x" })],
    ["nobody", authorize({ username: "Scar", password: "" })],
    ["another realm", authorize({ realm: "other" })],
    ["another target", authorize({ uri: "rtsp://h/b.mp4" })],
    ["another method", authorize({ method: "PLAY" })],
    ["another qop", authorize({ qop: "auth-int" })],
    ["no count", authorize({ nc: "" })],
    ["no client's nonce", authorize({ cnonce: "" })],
    ["a response too short", authorize({ response: "00" })],
    ["an algorithm that is not offered", authorize().replace("algorithm=MD5", "algorithm=MD5-sess")],
    ["twice the same name", `${authorize()}, username="Mufasa"`],
    ["no end of a quote", `${authorize()}, x="`],
    ["too long", `${authorize()}, x="${"a".repeat(4_096)}"`],
  ];
  for (const [what, header] of rows) t.is(check(header), "refused", what);
});

test("no header throws", (t) => {
  const part = fc.oneof(
    fc.constantFrom("Digest ", "username=", '"', "\\", ",", "nonce=", "uri=", "response="),
    fc.string({ maxLength: 6 }),
  );
  fc.assert(fc.property(fc.array(part, { maxLength: 30 }), (parts) => check(`Digest ${parts.join("")}`) === "refused"));
  t.pass();
});
