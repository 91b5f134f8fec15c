import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { makeUserLine, Users } from "../../../agent/protocols/rtsp/users.js";
import { BatonError } from "../../../proto/errors.js";

const [MD5, SHA256] = ["0".repeat(32), "0".repeat(64)];

test("a line has what RFC 7616 has", (t) => {
  // The account of its section 3.9.1; the MD5 is the one of RFC 2617 section 3.5's example.
  const line = makeUserLine({ name: "Mufasa", realm: "testrealm@host.com" }, "Circle Of Life");
  const users = new Users(`# users\n\n${line}\r\n`, "users", "testrealm@host.com");
  t.is(users.hash("Mufasa", "MD5"), "939e7578ed9e3c518a452acee763bce9");
  t.is(users.hash("Mufasa", "SHA-256"), line.split(":")[3]);
  t.is(users.hash("mufasa", "MD5"), undefined);
  t.is(users.hash("__proto__", "MD5"), undefined);
});

test("what is wrong is told with file and line, and never what may be a password", (t) => {
  const wrong: Array<[string, RegExp]> = [
    ["anna", /^u:2: 1 fields instead of name:realm:md5:sha256/],
    [`:films:${MD5}:${SHA256}`, /^u:2: the name/],
    [`anna:films:secret:${SHA256}`, /^u:2: the MD5 hash of anna does not have 32 /],
    [`anna:films:${MD5}:secret`, /^u:2: the SHA-256 hash of anna does not have 64 /],
    [`anna:films:${MD5}:${SHA256.replace("0", "A")}`, /SHA-256/],
    [`anna:other:${MD5}:${SHA256}`, /^u:2: the hashes of anna are of realm "other", the service has "films"/],
  ];
  for (const [line, message] of wrong) {
    const error = t.throws(() => new Users(`# a file\n${line}\n`, "u", "films"), { instanceOf: BatonError, message });
    t.is(error?.code, "CONFIG_INVALID");
    t.false(error?.message.includes("secret"), line);
  }
  const twice = `anna:films:${MD5}:${SHA256}\nanna:films:${MD5}:${SHA256}\n`;
  t.throws(() => new Users(twice, "u", "films"), { message: "u:2: a second line for anna" });
  t.throws(() => makeUserLine({ name: "a:b", realm: "films" }, "x"), { instanceOf: BatonError });
  t.throws(() => makeUserLine({ name: "a", realm: "fi:lms" }, "x"), { instanceOf: BatonError });
});

test("a file that others may read is refused", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "baton-test-"));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "users");
  await t.throwsAsync(Users.open(file, "films"), { code: "CONTENT_UNAVAILABLE", message: /^the file of RTSP users/ });
  writeFileSync(file, `${makeUserLine({ name: "anna", realm: "films" }, "x")}\n`);
  chmodSync(file, 0o640);
  await t.throwsAsync(Users.open(file, "films"), {
    code: "CONFIG_INVALID",
    message: /has mode 0640 and must have 0600/,
  });
  chmodSync(file, 0o600);
  t.not((await Users.open(file, "films")).hash("anna", "MD5"), undefined);
});
