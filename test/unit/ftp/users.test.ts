import test from "ava";
import { makeUserLine, Users } from "../../../agent/protocols/ftp/users.js";
import { BatonError } from "../../../proto/errors.js";

const CHEAP = { N: 2, r: 1, p: 1 };
const SALT = Buffer.alloc(8).toString("base64");
const HASH = Buffer.alloc(16).toString("base64");
const SECRET = `scrypt$2$1$1$${SALT}$${HASH}`;

const anna = { name: "anna", directory: "/", writable: true };
const ben = { name: "ben b", directory: "/b/c d", writable: false };

test("a line that was made opens with its password only", async (t) => {
  const text = `# users\n\n${await makeUserLine(anna, "pässword: $1#", CHEAP)}\r\n  # more\n${await makeUserLine(ben, "", CHEAP)}`;
  const users = new Users(text, "users");
  t.deepEqual(await users.verify("anna", "pässword: $1#"), anna);
  t.deepEqual(await users.verify("ben b", ""), ben);
  for (const wrong of ["", "password: $1#", "pässword: $1# ", "PÄSSWORD: $1#"]) {
    t.is(await users.verify("anna", wrong), undefined, wrong);
  }
  t.is(await users.verify("ben b", "pässword: $1#"), undefined);
  t.is(await users.verify("Anna", "pässword: $1#"), undefined);
  t.is(await users.verify("__proto__", ""), undefined);
  t.deepEqual(users.find("anna"), anna);
  t.is(users.find("nobody"), undefined);
});

test("two lines of one password differ", async (t) => {
  t.not(await makeUserLine(anna, "x", CHEAP), await makeUserLine(anna, "x", CHEAP));
});

test("a line is what RFC 7914 has", async (t) => {
  // Section 12, the third vector.
  const hash =
    "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2" +
    "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887";
  const [salt64, hash64] = [Buffer.from("SodiumChloride"), Buffer.from(hash, "hex")].map((one) =>
    one.toString("base64"),
  );
  const users = new Users(`a:scrypt$16384$8$1$${salt64}$${hash64}:/:ro`, "users");
  t.deepEqual(await users.verify("a", "pleaseletmein"), { name: "a", directory: "/", writable: false });
});

test("nobody can log in where there are no users", async (t) => {
  const users = new Users("# none\n", "users");
  t.is(await users.verify("anna", ""), undefined);
});

// Alone, or what others cost would be counted.
test.serial("the usual cost works, and an unknown name costs as much", async (t) => {
  const users = new Users(await makeUserLine(anna, "secret"), "users");
  t.deepEqual(await users.verify("anna", "secret"), anna);
  const time = async (name: string) => {
    const start = process.cpuUsage();
    await users.verify(name, "wrong");
    const { user, system } = process.cpuUsage(start);
    return user + system;
  };
  const [known, unknown] = [await time("anna"), await time("nobody")];
  t.true(unknown > known / 4, `${unknown} us of processor time for an unknown name, ${known} for a known one`);
});

test("costs of any shape can be checked", async (t) => {
  const users = new Users(`a:scrypt$16384$32$1$${SALT}$${HASH}:/:ro`, "users");
  t.is(await users.verify("a", "x"), undefined);
  const many = new Users(`a:scrypt$2$1$16$${SALT}$${HASH}:/:ro`, "users");
  t.is(await many.verify("a", "x"), undefined);
});

test("what is wrong is told with file and line, and never the password", (t) => {
  const wrong: Array<[string, RegExp]> = [
    ["anna", /^u:2: 1 fields instead of/],
    [`anna:${SECRET}:/`, /^u:2: 3 fields/],
    [`anna:${SECRET}:/:rw:`, /^u:2: 5 fields/],
    [`:${SECRET}:/:rw`, /^u:2: the name/],
    [` anna:${SECRET}:/:rw`, /^u:2: the name/],
    [`an\0na:${SECRET}:/:rw`, /^u:2: the name/],
    [`${"x".repeat(65)}:${SECRET}:/:rw`, /^u:2: the name/],
    ["anna:secret:/:rw", /^u:2: the password of anna: it is not scrypt/],
    [`anna:bcrypt$2$1$1$${SALT}$${HASH}:/:rw`, /^u:2: .*it is not scrypt/],
    [`anna:${SECRET}$secret:/:rw`, /^u:2: .*it is not scrypt/],
    [`anna:scrypt$3$1$1$${SALT}$${HASH}:/:rw`, /^u:2: .*N is not a power of two/],
    [`anna:scrypt$1$1$1$${SALT}$${HASH}:/:rw`, /N is not a power of two/],
    [`anna:scrypt$$1$1$${SALT}$${HASH}:/:rw`, /N is not a power of two/],
    [`anna:scrypt$0x10$1$1$${SALT}$${HASH}:/:rw`, /N is not a power of two/],
    [`anna:scrypt$1e3$1$1$${SALT}$${HASH}:/:rw`, /N is not a power of two/],
    [`anna:scrypt$2$0$1$${SALT}$${HASH}:/:rw`, /r and p/],
    [`anna:scrypt$2$1$17$${SALT}$${HASH}:/:rw`, /r and p/],
    [`anna:scrypt$2097152$8$1$${SALT}$${HASH}:/:rw`, /256 MiB/],
    [`anna:scrypt$2$1$1$se*cret$${HASH}:/:rw`, /not base64/],
    [`anna:scrypt$2$1$1$${SALT}$:/:rw`, /not base64/],
    [`anna:scrypt$2$1$1$AAAA$${HASH}:/:rw`, /salt has less than 8 bytes/],
    [`anna:scrypt$2$1$1$${SALT}$AAAA:/:rw`, /hash does not have/],
    [`anna:${SECRET}:pub:rw`, /directory of anna/],
    [`anna:${SECRET}:/../etc:rw`, /directory of anna/],
    [`anna:${SECRET}:/a/:rw`, /directory of anna/],
    [`anna:${SECRET}::rw`, /directory of anna/],
    [`anna:${SECRET}:/:RW`, /anna has "RW" instead of rw or ro/],
    [`anna:${SECRET}:/:rw `, /instead of rw or ro/],
  ];
  for (const [line, message] of wrong) {
    const error = t.throws(() => new Users(`# a file\n${line}\n`, "u"), { instanceOf: BatonError, message }, line);
    t.is(error?.code, "CONFIG_INVALID");
    t.false(error?.message.includes("secret"), line);
  }
  const twice = `anna:${SECRET}:/:rw\nben:${SECRET}:/:ro\nanna:${SECRET}:/a:ro\n`;
  t.throws(() => new Users(twice, "u"), { message: "u:3: a second line for anna" });
});

test("no line is made that could not be read", async (t) => {
  for (const user of [
    { ...anna, name: "" },
    { ...anna, name: "a:b" },
    { ...anna, name: "a\nb" },
    { ...anna, name: "#a" },
    { ...anna, directory: "a" },
    { ...anna, directory: "/a:b" },
    { ...anna, directory: "/.." },
  ]) {
    await t.throwsAsync(makeUserLine(user, "x", CHEAP), { instanceOf: BatonError }, JSON.stringify(user));
  }
});
