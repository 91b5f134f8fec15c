import { createHash } from "node:crypto";
import { readFileSync, readSync } from "node:fs";
import { mkdir, mkdtemp, open, rename, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import type { HashFile } from "../../agent/content/digests.js";
import { DirectoryContent, type Found } from "../../agent/content/index.js";
import { RefusedError } from "../../proto/errors.js";

const sha256 = (content: string) => createHash("sha256").update(content).digest("hex");

/** As the addon's, in JavaScript; holds back while `gate` is set, counts its calls. */
function hasher() {
  const state = { calls: 0, gate: undefined as Promise<void> | undefined };
  const hashFile: HashFile = async (path) => {
    state.calls++;
    await state.gate;
    const stats = await stat(path, { bigint: true });
    return {
      sha256: createHash("sha256").update(readFileSync(path)).digest("hex"),
      device: stats.dev,
      inode: stats.ino,
      size: Number(stats.size),
      mtimeNs: stats.mtimeNs,
      ctimeNs: stats.ctimeNs,
    };
  };
  return { hashFile, state };
}

async function scene(t: ExecutionContext, validator: "sha256" | "mtime+size" = "sha256") {
  const folder = await mkdtemp(join(tmpdir(), "baton-content-"));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const directory = join(folder, "www");
  await mkdir(join(directory, "sub", "empty"), { recursive: true });
  await writeFile(join(directory, "a.txt"), "hello");
  await writeFile(join(directory, "sub", "index.html"), "<p>");
  await writeFile(join(folder, "secret"), "secret");
  const { hashFile, state } = hasher();
  const content = await DirectoryContent.open({ directory, validator, hashFile, digestWaitMs: 50 });
  return { folder, directory, content, state };
}

async function found(content: DirectoryContent, ...segments: string[]): Promise<Found> {
  const result = await content.find(segments, false);
  if (!result || result === "directory") throw new Error(`nothing at ${segments.join("/")}`);
  return result;
}

function read(file: { fd: number; size: number }): string {
  const bytes = Buffer.alloc(file.size);
  readSync(file.fd, bytes, 0, file.size, 0);
  return bytes.toString();
}

async function reasonOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "none",
    (error) => (error instanceof RefusedError ? error.reason : `unexpected: ${error}`),
  );
}

test("files and directories", async (t) => {
  const { content } = await scene(t);
  const file = await found(content, "a.txt");
  t.is(file.objectId, "/a.txt");
  t.is(read(file.file), "hello");
  t.is(await content.find(["sub"], false), "directory");
  const index = await content.find(["sub"], true);
  t.true(typeof index === "object" && index.objectId === "/sub/index.html");
  t.is(await content.find(["sub", "empty"], true), undefined);
  t.is(await content.find(["a.txt"], true), undefined, "a file is no directory");
  t.is(await content.find(["a.txt", "b"], false), undefined);
  t.is(await content.find(["nothing"], false), undefined);
  t.is(await content.find([], true), undefined);
  t.is(await content.find(["x".repeat(5000)], false), undefined);
});

test("symbolic links lead nowhere outside", async (t) => {
  const { folder, directory, content } = await scene(t);
  await symlink("../secret", join(directory, "out"));
  await symlink(folder, join(directory, "up"));
  await symlink("a.txt", join(directory, "in"));
  await symlink("loop", join(directory, "loop"));
  t.is(await content.find(["out"], false), undefined);
  t.is(await content.find(["up", "secret"], false), undefined);
  t.is(await content.find(["loop"], false), undefined);
  t.is(read((await found(content, "in")).file), "hello");
  // Also not when somebody has the same file open under a name inside: it is then the same file.
  t.is(await content.find(["up", "www", "a.txt"], false).then((f) => typeof f), "object");
});

test("a neighbour whose name begins alike is outside", async (t) => {
  const { folder, directory, content } = await scene(t);
  await mkdir(join(folder, "www-other"));
  await writeFile(join(folder, "www-other", "x"), "x");
  await symlink("../www-other/x", join(directory, "x"));
  t.is(await content.find(["x"], false), undefined);
});

test("what is no regular file is not there", async (t) => {
  const content = await DirectoryContent.open({
    directory: "/dev",
    validator: "mtime+size",
    hashFile: hasher().hashFile,
  });
  t.is(await content.find(["zero"], false), undefined);
  t.is(content.openCount, 0);
});

test("one descriptor for one content, closed with its last user", async (t) => {
  const { content } = await scene(t, "mtime+size");
  const files = await Promise.all(Array.from({ length: 20 }, () => found(content, "a.txt")));
  t.is(new Set(files.map((f) => f.file.fd)).size, 1);
  t.is(content.openCount, 1);
  for (const { file } of files.slice(1)) {
    file.close();
    file.close();
  }
  t.is(content.openCount, 1);
  t.is(read(files[0]!.file), "hello");
  files[0]!.file.close();
  t.is(content.openCount, 0);
});

test("a digest is pending, then known, and made once", async (t) => {
  const { content, state } = await scene(t);
  let open = () => {};
  state.gate = new Promise((resolve) => {
    open = resolve;
  });
  const first = await found(content, "a.txt");
  const second = await found(content, "a.txt");
  t.is(first.validator, "");
  open();
  t.is(await first.pending, `sha256:${sha256("hello")}`);
  t.is(await second.pending, `sha256:${sha256("hello")}`);
  t.is((await found(content, "a.txt")).validator, `sha256:${sha256("hello")}`);
  t.is(state.calls, 1);
});

test("a file replaced by rename while its digest is made: the open one's is made", async (t) => {
  const { directory, content, state } = await scene(t);
  let open = () => {};
  state.gate = new Promise((resolve) => {
    open = resolve;
  });
  const old = await found(content, "a.txt");
  await writeFile(join(directory, "new"), "other");
  await rename(join(directory, "new"), join(directory, "a.txt"));
  open();
  // The rename changed the old inode's ctime: whether that counts as a change or not, it is never the new content's digest.
  const result = await (old.pending as Promise<string>).catch((error) => error.code);
  t.true([`sha256:${sha256("hello")}`, "CONTENT_CHANGED"].includes(result), result);
  t.is(read(old.file), "hello");
  t.is(await (await found(content, "a.txt")).pending, `sha256:${sha256("other")}`);
});

test("a file changed while it is read has no digest", async (t) => {
  const { directory, content, state } = await scene(t);
  let open = () => {};
  state.gate = new Promise((resolve) => {
    open = resolve;
  });
  const file = await found(content, "a.txt");
  await utimes(join(directory, "a.txt"), 1, 1);
  open();
  await t.throwsAsync(file.pending as Promise<string>, { code: "CONTENT_CHANGED" });
});

test("objects of records", async (t) => {
  const { directory, content } = await scene(t);
  const validator = `sha256:${sha256("hello")}`;
  const reference = { objectId: "/a.txt", validator, objectOffset: 1, length: 4 };
  const file = await content.openObject(reference);
  t.is(read(file), "hello");
  file.close();
  t.is(content.openCount, 0);

  const reason = (change: object) => reasonOf(content.openObject({ ...reference, ...change }));
  t.is(await reason({ validator: `sha256:${sha256("hellO")}` }), "object changed");
  t.is(await reason({ length: 5 }), "object changed");
  t.is(await reason({ objectId: "/b.txt" }), "object missing");
  t.is(await reason({ objectId: "/sub" }), "object missing");
  t.is(await reason({ validator: "" }), "digest pending");
  t.is(await reason({ validator: "mtime+size:1-5" }), "validator not accepted");
  t.is(await reason({ validator: "md5:0" }), "validator not accepted");
  for (const objectId of ["", "a.txt", "/../secret", "/sub/../a.txt", "/./a.txt", "//a.txt", "/a.txt/", "/a\0", "/"]) {
    t.is(await reason({ objectId }), "object missing", objectId);
  }
  await writeFile(join(directory, "n"), "hellO");
  await rename(join(directory, "n"), join(directory, "a.txt"));
  t.is(await reason({}), "object changed");
  t.is(content.openCount, 0);
});

test("a takeover waits a little for a digest, not for ever", async (t) => {
  const { content, state } = await scene(t);
  const reference = { objectId: "/a.txt", validator: `sha256:${sha256("hello")}`, objectOffset: 0, length: 5 };
  let open = () => {};
  state.gate = new Promise((resolve) => {
    open = resolve;
  });
  t.is(await reasonOf(content.openObject(reference)), "digest pending");
  open();
  (await content.openObject(reference)).close();
  t.is(content.openCount, 0);
});

test("mtime and size as validator", async (t) => {
  const { directory, content, state } = await scene(t, "mtime+size");
  await utimes(join(directory, "a.txt"), 1_000, 1_000.5);
  const file = await found(content, "a.txt");
  t.is(file.validator, "mtime+size:1000500000000-5");
  const reference = { objectId: "/a.txt", validator: file.validator, objectOffset: 0, length: 5 };
  (await content.openObject(reference)).close();
  await utimes(join(directory, "a.txt"), 1_000, 1_001);
  t.is(await reasonOf(content.openObject(reference)), "object changed");
  t.is(state.calls, 0);
});

test("warm-up makes the digests ahead", async (t) => {
  const { directory, content, state } = await scene(t);
  await symlink("../secret", join(directory, "out"));
  await symlink(".", join(directory, "self"));
  await content.ready;
  t.deepEqual(content.progress, { files: 4, finished: 4, failed: 0, done: true });
  t.is(state.calls, 2);
  t.is((await found(content, "a.txt")).validator, `sha256:${sha256("hello")}`);
});

test("a failing digest does not stop the warm-up", async (t) => {
  const { directory } = await scene(t);
  const content = await DirectoryContent.open({
    directory,
    validator: "sha256",
    hashFile: () => Promise.reject(new Error("EIO")),
  });
  await content.ready;
  t.like(content.progress, { finished: 2, failed: 2, done: true });
});

test("objects over 4 GiB", async (t) => {
  const { directory, content } = await scene(t, "mtime+size");
  const handle = await open(join(directory, "big"), "w");
  await handle.truncate(6 * 2 ** 30);
  await handle.write("end", 6 * 2 ** 30 - 3);
  await handle.close();
  const { file, validator } = await found(content, "big");
  t.is(file.size, 6 * 2 ** 30);
  const again = await content.openObject({ objectId: "/big", validator, objectOffset: 5 * 2 ** 30, length: 2 ** 30 });
  const bytes = Buffer.alloc(3);
  readSync(again.fd, bytes, 0, 3, 6 * 2 ** 30 - 3);
  t.is(bytes.toString(), "end");
});

test("a directory that is not there", async (t) => {
  const options = { validator: "sha256" as const, hashFile: hasher().hashFile };
  await t.throwsAsync(DirectoryContent.open({ ...options, directory: "/nonexistent" }), {
    code: "CONTENT_UNAVAILABLE",
    message: /\/nonexistent: it does not exist/,
  });
  await t.throwsAsync(DirectoryContent.open({ ...options, directory: "/etc/hostname" }), {
    code: "CONTENT_UNAVAILABLE",
  });
});
