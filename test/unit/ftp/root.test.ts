import { execFileSync } from "node:child_process";
import {
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { FileError, fileError, Root, type RootFile } from "../../../agent/protocols/ftp/root.js";
import { BatonError } from "../../../proto/errors.js";
import { testDirectory } from "../../support/directory.js";

const MTIME = 1_700_000_000;

/** A directory with something in it, beside a secret, to which links in it lead. */
async function scene(t: ExecutionContext, writable = true) {
  const folder = testDirectory(t);
  const directory = join(folder, "ftp");
  mkdirSync(join(directory, "sub", "deep"), { recursive: true });
  mkdirSync(join(folder, "outside"));
  writeFileSync(join(folder, "outside", "secret"), "secret");
  writeFileSync(join(directory, "a.txt"), "hello");
  writeFileSync(join(directory, "sub", "b.txt"), "");
  utimesSync(join(directory, "a.txt"), MTIME, MTIME + 0.75);
  symlinkSync("../outside", join(directory, "out"));
  symlinkSync("../outside/secret", join(directory, "leak"));
  symlinkSync("../outside/made", join(directory, "dangling"));
  symlinkSync("sub", join(directory, "inner"));
  symlinkSync("inner", join(directory, "loop"));
  const root = await Root.open(directory, writable);
  t.teardown(() => root.close());
  return { folder, directory, outside: join(folder, "outside"), root };
}

async function failure(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "none",
    (error) => (error instanceof FileError ? error.failure : `unexpected: ${error}`),
  );
}

function content(file: RootFile): string {
  const bytes = Buffer.alloc(file.size);
  readSync(file.fd, bytes, 0, file.size, 0);
  file.close();
  return bytes.toString();
}

/** Descriptors of this process that lead below the folder. */
function descriptors(folder: string): number {
  const links = execFileSync("ls", ["-l", `/proc/${process.pid}/fd`])
    .toString()
    .split("\n");
  return links.filter((line) => line.includes(`-> ${folder}/`)).length;
}

test("files and directories are found and read", async (t) => {
  const { root, folder } = await scene(t);
  t.deepEqual(await root.stat("/a.txt"), {
    name: "a.txt",
    isDirectory: false,
    size: 5,
    mtimeMs: MTIME * 1000 + 750,
    writable: true,
  });
  t.like(await root.stat("/"), { name: "/", isDirectory: true });
  t.like(await root.stat("/sub/deep"), { name: "deep", isDirectory: true });
  t.is(content(await root.openRead("/a.txt")), "hello");
  const empty = await root.openRead("/sub/b.txt");
  t.is(empty.size, 0);
  t.is(empty.identity.inode, fstatSync(empty.fd, { bigint: true }).ino);
  empty.close();
  empty.close();
  t.is(await failure(root.stat("/none")), "not found");
  t.is(await failure(root.stat("/sub/none/x")), "not found");
  t.is(await failure(root.stat("/a.txt/x")), "not a directory");
  t.is(await failure(root.stat(`/${"x".repeat(300)}`)), "not found");
  t.is(await failure(root.openRead("/none")), "not found");
  t.is(await failure(root.openRead("/sub")), "is a directory");
  t.is(await failure(root.openRead("/")), "is a directory");
  t.is(descriptors(folder), 1);
});

test("a listing has what can be asked for, and nothing else", async (t) => {
  const { root, directory } = await scene(t);
  execFileSync("mkfifo", [join(directory, "fifo")]);
  writeFileSync(join(directory, "two\nlines"), "");
  writeFileSync(join(directory, "carriage\r"), "");
  writeFileSync(Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0xe4])]), "");
  writeFileSync(join(directory, "ä"), "");
  const list = (await root.list("/")).map(({ name }) => name).sort();
  t.deepEqual(list, ["a.txt", "sub", "ä"]);
  t.deepEqual(await root.list("/sub/deep"), []);
  t.is(await failure(root.list("/a.txt")), "not a directory");
  t.is(await failure(root.list("/none")), "not found");
});

test("a listing of many", async (t) => {
  const { root, directory } = await scene(t);
  for (let n = 0; n < 700; n++) writeFileSync(join(directory, "sub", "deep", String(n)), "");
  const list = await root.list("/sub/deep");
  t.is(new Set(list.map(({ name }) => name)).size, 700);
  t.true(list.every(({ isDirectory, size }) => !isDirectory && size === 0));
});

test("paths that are not in their one form are nowhere", async (t) => {
  const { root } = await scene(t);
  for (const path of [
    "",
    "a.txt",
    "/../outside/secret",
    "/sub/../a.txt",
    "/./a.txt",
    "/sub/",
    "//a.txt",
    "/a.txt\0",
    "/..",
  ]) {
    for (const call of [
      root.stat(path),
      root.openRead(path),
      root.openWrite(path, "made"),
      root.list(path),
      root.mkdir(path),
      root.unlink(path),
      root.rmdir(path),
      root.sync(path),
      root.rename(path, "/z"),
      root.rename("/a.txt", path),
    ]) {
      t.is(await failure(call), "not found", JSON.stringify(path));
    }
  }
});

test("no link is followed, wherever it leads", async (t) => {
  const { root, directory, outside } = await scene(t);
  for (const path of ["/leak", "/dangling"]) {
    t.is(await failure(root.stat(path)), "not found");
    t.is(await failure(root.openRead(path)), "not found");
    t.is(await failure(root.openWrite(path, "made")), "not found");
    t.is(await failure(root.openWrite(path, "made")), "not found");
    t.is(await failure(root.mkdir(path)), "exists");
  }
  for (const link of ["/out", "/inner", "/loop"]) {
    t.is(await failure(root.stat(link)), "not found");
    t.is(await failure(root.list(link)), "not a directory");
    t.is(await failure(root.sync(link)), "not a directory");
    t.is(await failure(root.rmdir(link)), "not a directory");
    for (const path of [`${link}/secret`, `${link}/b.txt`]) {
      t.is(await failure(root.stat(path)), "not a directory");
      t.is(await failure(root.openRead(path)), "not a directory");
      t.is(await failure(root.openWrite(path, "made")), "not a directory");
      t.is(await failure(root.mkdir(path)), "not a directory");
      t.is(await failure(root.unlink(path)), "not a directory");
      t.is(await failure(root.rename(path, "/x")), "not a directory");
      t.is(await failure(root.rename("/a.txt", path)), "not a directory");
    }
  }
  await root.unlink("/leak");
  await root.rename("/a.txt", "/out");
  t.deepEqual(readdirSync(outside), ["secret"]);
  t.is(readFileSync(join(outside, "secret"), "utf8"), "secret");
  t.true(lstatSync(join(directory, "out")).isFile());
});

test("what is no file is neither waited for nor opened", async (t) => {
  const { root, directory, folder } = await scene(t);
  execFileSync("mkfifo", [join(directory, "fifo")]);
  t.is(await failure(root.stat("/fifo")), "not found");
  t.is(await failure(root.openRead("/fifo")), "not found");
  t.is(await failure(root.openWrite("/fifo", "made")), "not found");
  t.is(descriptors(folder), 1);
});

test("files are made, and gone on with", async (t) => {
  const { root, directory } = await scene(t);
  t.is(await failure(root.openWrite("/sub/new", "there")), "not found");
  t.false(existsSync(join(directory, "sub", "new")));
  const made = await root.openWrite("/sub/new", "made");
  writeSync(made.fd, "12345", 0);
  made.close();
  const kept = await root.openWrite("/sub/new", "there");
  t.is(kept.size, 5);
  writeSync(kept.fd, "67", kept.size);
  kept.close();
  t.is(readFileSync(join(directory, "sub", "new"), "utf8"), "1234567");
  (await root.openWrite("/sub/other", "made")).close();
  t.true(existsSync(join(directory, "sub", "other")));
  t.is(await failure(root.openWrite("/none/x", "made")), "not found");
  t.is(await failure(root.openWrite("/sub", "made")), "is a directory");
  await root.sync("/sub");
  await root.sync("/");
});

test("directories are made and removed", async (t) => {
  const { root, directory } = await scene(t);
  await root.mkdir("/sub/x");
  t.true(lstatSync(join(directory, "sub", "x")).isDirectory());
  t.is(await failure(root.mkdir("/sub/x")), "exists");
  t.is(await failure(root.mkdir("/a.txt")), "exists");
  t.is(await failure(root.mkdir("/none/x")), "not found");
  t.is(await failure(root.rmdir("/sub")), "not empty");
  t.is(await failure(root.rmdir("/a.txt")), "not a directory");
  t.is(await failure(root.rmdir("/none")), "not found");
  await root.rmdir("/sub/x");
  t.false(existsSync(join(directory, "sub", "x")));
  t.is(await failure(root.unlink("/sub")), "is a directory");
  t.is(await failure(root.unlink("/none")), "not found");
  await root.unlink("/a.txt");
  t.false(existsSync(join(directory, "a.txt")));
});

test("files and directories are renamed", async (t) => {
  const { root, directory, folder } = await scene(t);
  await root.rename("/a.txt", "/sub/b.txt");
  t.is(readFileSync(join(directory, "sub", "b.txt"), "utf8"), "hello");
  t.is(await failure(root.rename("/a.txt", "/x")), "not found");
  t.is(await failure(root.rename("/sub/b.txt", "/none/x")), "not found");
  t.is(await failure(root.rename("/sub/b.txt", "/sub/deep")), "is a directory");
  t.is(await failure(root.rename("/sub/deep", "/sub/b.txt")), "not a directory");
  t.is(await failure(root.rename("/sub", "/sub/deep/x")), "denied");
  await root.mkdir("/other");
  t.is(await failure(root.rename("/other", "/sub")), "not empty");
  await root.rename("/sub", "/other");
  t.true(existsSync(join(directory, "other", "b.txt")));
  t.is(descriptors(folder), 1);
});

test("the root itself is neither made, removed nor renamed", async (t) => {
  const { root } = await scene(t);
  t.is(await failure(root.mkdir("/")), "denied");
  t.is(await failure(root.rmdir("/")), "denied");
  t.is(await failure(root.unlink("/")), "denied");
  t.is(await failure(root.openWrite("/", "made")), "denied");
  t.is(await failure(root.rename("/", "/x")), "denied");
  t.is(await failure(root.rename("/a.txt", "/")), "denied");
});

test("nothing is changed where nothing may be", async (t) => {
  const { root } = await scene(t, false);
  t.false((await root.stat("/a.txt")).writable);
  t.true((await root.list("/")).every(({ writable }) => !writable));
  t.is(await failure(root.openWrite("/new", "made")), "denied");
  t.is(await failure(root.openWrite("/a.txt", "made")), "denied");
  t.is(await failure(root.mkdir("/new")), "denied");
  t.is(await failure(root.rmdir("/sub/deep")), "denied");
  t.is(await failure(root.unlink("/a.txt")), "denied");
  t.is(await failure(root.rename("/a.txt", "/x")), "denied");
  t.is(content(await root.openRead("/a.txt")), "hello");
});

test("a root stays what it was opened as", async (t) => {
  const { root, directory, folder, outside } = await scene(t);
  renameSync(directory, join(folder, "moved"));
  symlinkSync(outside, directory);
  t.is(content(await root.openRead("/a.txt")), "hello");
  t.is(await failure(root.stat("/secret")), "not found");
});

test("no race between directories and links leads out", async (t) => {
  const { root, directory, outside, folder } = await scene(t);
  const target = join(directory, "race");
  mkdirSync(join(directory, "real"));
  writeFileSync(join(directory, "real", "secret"), "public");
  renameSync(join(directory, "real"), target);
  let stopped = false;
  const flip = (async () => {
    while (!stopped) {
      renameSync(target, join(directory, "real"));
      symlinkSync(outside, target);
      await new Promise(setImmediate);
      unlinkSync(target);
      renameSync(join(directory, "real"), target);
      await new Promise(setImmediate);
    }
  })();
  let read = 0;
  for (let n = 0; n < 400; n++) {
    const [file] = await Promise.all([
      root.openRead("/race/secret").catch(() => undefined),
      root.openWrite("/race/made", "made").then(
        (made) => made.close(),
        () => {},
      ),
      root.mkdir(`/race/d${n}`).catch(() => {}),
      root.unlink("/race/made").catch(() => {}),
    ]);
    if (!file) continue;
    read++;
    t.is(content(file), "public");
  }
  stopped = true;
  await flip;
  t.true(read > 0);
  t.deepEqual(readdirSync(outside), ["secret"]);
  t.is(descriptors(folder), 1);
});

test("a root that is closed ends what is under way, and begins nothing", async (t) => {
  const { directory } = await scene(t);
  const root = await Root.open(directory, true);
  const under = [root.list("/"), root.stat("/sub/b.txt"), root.mkdir("/late")];
  root.close();
  root.close();
  await t.notThrowsAsync(Promise.all(under));
  await t.throwsAsync(root.stat("/a.txt"), { instanceOf: BatonError });
  await t.throwsAsync(root.list("/sub"), { instanceOf: BatonError });
});

test("a directory that is none cannot be opened", async (t) => {
  const { directory, folder } = await scene(t);
  for (const path of [join(folder, "none"), join(directory, "a.txt")]) {
    const error = await t.throwsAsync(Root.open(path, true), { instanceOf: BatonError });
    t.is((error as BatonError).code, "CONTENT_UNAVAILABLE");
  }
});

test("what a system call says, in a client's terms", (t) => {
  const system = (code: string) => Object.assign(new Error(code), { code });
  for (const code of ["ENOSPC", "EDQUOT", "EFBIG"]) {
    t.like(fileError(system(code), "/a"), { failure: "no space", message: "/a: no space" });
  }
  t.like(fileError(system("EROFS"), "/a"), { failure: "denied" });
  const other = system("EIO");
  t.is(fileError(other, "/a"), other);
  t.is(fileError(undefined, "/a"), undefined);
  const known = new FileError("exists", "/a");
  t.is(fileError(known, "/b"), known);
});
