import test from "ava";
import fc from "fast-check";
import {
  chooseFacts,
  type Entry,
  FACTS,
  factsFeature,
  factsLine,
  factsListing,
  longListing,
  nameListing,
  timeValue,
  withoutOptions,
} from "../../../agent/protocols/ftp/listing.js";

const NOW = Date.UTC(2024, 6, 15, 12, 0, 0);
const DAY = 86_400_000;

function file(name: string, more: Partial<Entry> = {}): Entry {
  return {
    name,
    isDirectory: false,
    size: 1234,
    mtimeMs: Date.UTC(2024, 1, 29, 12, 34, 56, 789),
    writable: true,
    ...more,
  };
}

const lines = (bytes: Buffer) => bytes.toString().split("\r\n").slice(0, -1);

test("LIST looks like ls", (t) => {
  const entries = [
    file("b.txt"),
    file("a dir", { isDirectory: true, size: 4096 }),
    file("old", { mtimeMs: Date.UTC(2019, 11, 3), writable: false, size: 0 }),
    file("ä", { isDirectory: true, writable: false, mtimeMs: NOW + DAY }),
    file("big", { size: 2 ** 45 }),
  ];
  t.deepEqual(lines(longListing(entries, NOW)), [
    "drwxr-xr-x 1 ftp ftp            0 Feb 29 12:34 a dir",
    "-rw-r--r-- 1 ftp ftp         1234 Feb 29 12:34 b.txt",
    "-rw-r--r-- 1 ftp ftp 35184372088832 Feb 29 12:34 big",
    "-r--r--r-- 1 ftp ftp            0 Dec  3  2019 old",
    "dr-xr-xr-x 1 ftp ftp            0 Jul 16  2024 ä",
  ]);
});

test("a date has its time of day for half a year", (t) => {
  const date = (mtimeMs: number) => /(\S+) a\r\n$/.exec(longListing([file("a", { mtimeMs })], NOW).toString())?.[1];
  t.is(date(NOW), "12:00");
  t.is(date(NOW + 1), "2024");
  t.is(date(NOW - 182 * DAY), "12:00");
  t.is(date(NOW - 183 * DAY), "2024");
});

test("an empty directory is an empty listing", (t) => {
  for (const bytes of [longListing([], NOW), nameListing([]), factsListing([])]) t.is(bytes.length, 0);
});

test("names alone, in order of their bytes", (t) => {
  // By UTF-16 units the emoji would come before U+FF5E.
  t.deepEqual(lines(nameListing(["b", "😀", "～", "B", "a.b", "a"].map((name) => file(name)))), [
    "B",
    "a",
    "a.b",
    "b",
    "～",
    "😀",
  ]);
});

test("facts", (t) => {
  t.is(factsLine(file("b c")), "type=file;size=1234;modify=20240229123456;perm=adfrw; b c");
  t.is(factsLine(file("b", { writable: false })), "type=file;size=1234;modify=20240229123456;perm=r; b");
  const directory = file("/a", { isDirectory: true });
  t.is(factsLine(directory), "type=dir;modify=20240229123456;perm=cdeflmp; /a");
  t.is(factsLine({ ...directory, writable: false }, ["perm", "type"]), "type=dir;perm=el; /a");
  t.is(factsLine(file("b"), []), " b");
  t.deepEqual(lines(factsListing([file("b"), file("a")], ["size"])), ["size=1234; a", "size=1234; b"]);
});

test("facts that are asked for", (t) => {
  t.deepEqual(chooseFacts("Type;SIZE;unix.mode;"), ["type", "size"]);
  t.deepEqual(chooseFacts("perm;type"), ["type", "perm"]);
  t.deepEqual(chooseFacts(""), []);
  t.is(factsFeature(), "MLST type*;size*;modify*;perm*;");
  t.is(factsFeature(["modify"]), "MLST type;size;modify*;perm;");
});

test("times are UTC with whole seconds, and always have 14 digits", (t) => {
  t.is(timeValue(0), "19700101000000");
  t.is(timeValue(1_700_000_000_999.5), "20231114221320");
  t.is(timeValue(-1), "19700101000000");
  t.is(timeValue(Number.MAX_SAFE_INTEGER), "99991231235959");
});

test("options of ls are left out", (t) => {
  for (const [argument, path] of [
    ["", ""],
    ["-la", ""],
    ["-l -a", ""],
    ["-1 a b", "a b"],
    ["-a  -l /x", "/x"],
    [" -l x", "x"],
    ["a -l", "a -l"],
    ["-", "-"],
    ["-a.txt", "-a.txt"],
    ["/-l", "/-l"],
  ] as const) {
    t.is(withoutOptions(argument), path, argument);
  }
});

const entry = fc.record({
  name: fc.string({ minLength: 1, maxLength: 8 }),
  isDirectory: fc.boolean(),
  size: fc.nat(),
  mtimeMs: fc.double({ noNaN: true, min: -1e13, max: 1e15 }),
  writable: fc.boolean(),
});

test("the same of the same entries, in whatever order they come", (t) => {
  fc.assert(
    fc.property(fc.uniqueArray(entry, { selector: ({ name }) => name }), fc.constantFrom(...FACTS), (entries, fact) => {
      const turned = [...entries].reverse();
      t.true(longListing(entries, NOW).equals(longListing(turned, NOW)));
      t.true(nameListing(entries).equals(nameListing(turned)));
      t.true(factsListing(entries, [fact]).equals(factsListing(turned, [fact])));
      const known = /^(type=(dir|file);)(size=\d+;)?(modify=\d{14};)perm=[a-z]+; /;
      t.true(entries.every((one) => known.test(factsLine(one))));
    }),
  );
});
