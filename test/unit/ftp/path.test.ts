import { posix } from "node:path";
import test from "ava";
import fc from "fast-check";
import {
  directoryOf,
  isName,
  isPath,
  nameOf,
  PATH_MAX,
  resolvePath,
  segmentsOf,
} from "../../../agent/protocols/ftp/path.js";

test("where pathnames lead", (t) => {
  for (const [cwd, pathname, path] of [
    ["/", "", "/"],
    ["/a/b", "", "/a/b"],
    ["/a/b", ".", "/a/b"],
    ["/a/b", "c", "/a/b/c"],
    ["/a/b", "c/", "/a/b/c"],
    ["/a/b", "/c", "/c"],
    ["/a/b", "//c///d//", "/c/d"],
    ["/a/b", "..", "/a"],
    ["/a/b", "../../../../c", "/c"],
    ["/a/b", "/../../c", "/c"],
    ["/a/b", "./c/./../d/.", "/a/b/d"],
    ["/", "..", "/"],
    ["/", "...", "/..."],
    ["/", "..a/.b", "/..a/.b"],
    ["/", " a ", "/ a "],
    ["/", "~", "/~"],
    ["/", "a\\..\\b", "/a\\..\\b"],
    ["/", "%2e%2e/ä", "/%2e%2e/ä"],
  ] as const) {
    t.is(resolvePath(cwd, pathname), path, `${pathname} in ${cwd}`);
  }
});

test("what is no pathname", (t) => {
  for (const bad of ["\0", "a\0b", "a\r", "a\nb", "/a/\0/..", "\ud800", "a\udc00"]) {
    t.is(resolvePath("/", bad), undefined, JSON.stringify(bad));
  }
  t.is(resolvePath("/", "😀"), "/😀");
});

test("a path has PATH_MAX bytes at most", (t) => {
  const longest = `/${"ä".repeat((PATH_MAX - 2) / 2)}x`;
  t.is(resolvePath("/", longest), longest);
  t.is(resolvePath("/", `${longest}x`), undefined);
  t.is(resolvePath(longest, "x"), undefined);
  t.is(resolvePath(longest, "../x"), "/x");
});

test("paths and names are told from what is none", (t) => {
  for (const good of ["/", "/a", "/a/b c"]) t.true(isPath(good), good);
  for (const bad of ["", "a", "/a/", "//", "/.", "/a/..", "/a//b", "/\0", `/${"x".repeat(PATH_MAX)}`]) {
    t.false(isPath(bad), bad);
  }
  for (const good of ["a", " ", "...", "-rf"]) t.true(isName(good), good);
  for (const bad of ["", ".", "..", "/", "a/b", "a\nb", "a\0", "\ud800"]) t.false(isName(bad), JSON.stringify(bad));
});

test("the parts of a path", (t) => {
  t.deepEqual(segmentsOf("/"), []);
  t.deepEqual(segmentsOf("/a/b"), ["a", "b"]);
  t.is(nameOf("/"), "/");
  t.is(nameOf("/a/b"), "b");
  t.is(directoryOf("/a"), "/");
  t.is(directoryOf("/"), "/");
  t.is(directoryOf("/a/b"), "/a");
});

const segment = fc.oneof(
  fc.constantFrom("", ".", "..", "...", "a", "\0", "\n", "/", "\\", "~"),
  fc.string({ unit: "binary", maxLength: 6 }),
);
const pathname = fc.array(segment, { maxLength: 12 }).map((segments) => segments.join("/"));

test("no walk leaves the root, and every path is in its one form", (t) => {
  fc.assert(
    fc.property(fc.array(pathname, { maxLength: 6 }), (walk) => {
      let cwd = "/";
      for (const step of walk) {
        const next = resolvePath(cwd, step);
        if (next === undefined) continue;
        t.true(isPath(next));
        t.true(segmentsOf(next).every(isName));
        t.is(posix.normalize(next), next);
        t.true(posix.join("/srv/ftp", next).startsWith("/srv/ftp"));
        t.is(next, posix.resolve("/", cwd, step));
        cwd = next;
      }
    }),
    { numRuns: 300 },
  );
});
