import { mkdirSync, writeFileSync } from "node:fs";
import { relative } from "node:path";
import test from "ava";
import { root } from "../../proto/paths.js";
import { testDirectory } from "../support/directory.js";
import { isAlone, labFiles, labsAtOnce } from "../support/labs.js";

const GIB = 1024 ** 3;

test("a lab for every two cores that have its memory, and one at least", (t) => {
  t.is(labsAtOnce(undefined, 2, 16 * GIB), 1);
  t.is(labsAtOnce(undefined, 7, 16 * GIB), 3);
  t.is(labsAtOnce(undefined, 8, 5 * GIB), 2);
  t.is(labsAtOnce("", 8, GIB), 1);
  t.is(labsAtOnce("3", 2, GIB), 3, "as wanted");
  for (const wanted of ["0", "two", "-1", "1.5"]) t.throws(() => labsAtOnce(wanted, 2, GIB), { message: /LABS/ });
});

test("files begin with the largest; those in a folder `alone` are known", (t) => {
  const directory = testDirectory(t);
  mkdirSync(`${directory}/alone`);
  writeFileSync(`${directory}/small.test.js`, "1");
  writeFileSync(`${directory}/large.test.js`, "333");
  writeFileSync(`${directory}/alone/middle.test.js`, "22");
  writeFileSync(`${directory}/no_test.js`, "4444");
  const files = labFiles(relative(root, directory));
  t.deepEqual(
    files.map((file) => file.slice(file.lastIndexOf("/") + 1)),
    ["large.test.js", "middle.test.js", "small.test.js"],
  );
  t.deepEqual(files.map(isAlone), [false, true, false]);
});
