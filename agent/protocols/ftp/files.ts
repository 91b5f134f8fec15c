import type { Area } from "./areas.js";
import { type Fact, factsLine, timeValue } from "./listing.js";
import { directoryOf } from "./path.js";
import { factsReply, pathReply, replies, reply } from "./reply.js";
import { FileError } from "./root.js";

/** A command about one file or directory, by its path. @param facts that MLST tells */
type FileCommand = (area: Area, path: string, facts: Fact[]) => Promise<Buffer>;

/** Commands that change nothing. */
export const LOOKS: Record<string, FileCommand> = {
  SIZE: async ({ root }, path) => {
    const { isDirectory, size } = await root.stat(path);
    if (isDirectory) throw new FileError("is a directory", path);
    return reply(213, String(size));
  },
  MDTM: async ({ root }, path) => {
    const { isDirectory, mtimeMs } = await root.stat(path);
    if (isDirectory) throw new FileError("is a directory", path);
    return reply(213, timeValue(mtimeMs));
  },
  MLST: async ({ root }, path, facts) => factsReply(path, factsLine({ ...(await root.stat(path)), name: path }, facts)),
};

/**
 * Commands that change something. They may have been executed by a server that died before it said so: then `again` is true, and what
 * they would find done is their success.
 */
export const CHANGES: Record<string, (area: Area, path: string, again: boolean) => Promise<Buffer>> = {
  DELE: async ({ root }, path, again) => {
    await unless(again && "not found", root.unlink(path));
    return replies.fileDone;
  },
  MKD: async ({ root }, path, again) => {
    await unless(again && "exists", root.mkdir(path));
    await root.sync(directoryOf(path));
    return pathReply(path, "created.");
  },
  RMD: async ({ root }, path, again) => {
    await unless(again && "not found", root.rmdir(path));
    return replies.fileDone;
  },
};

/** RNFR and RNTO. @param again as for CHANGES */
export async function rename({ root }: Area, from: string, to: string, again: boolean): Promise<Buffer> {
  const isDone = again && (await isThere(root, to)) && !(await isThere(root, from));
  if (!isDone) await root.rename(from, to);
  await root.sync(directoryOf(to));
  return replies.fileDone;
}

export async function directoryAt({ root }: Area, path: string): Promise<string> {
  // A directory that can be entered and not listed is none to a client.
  if (path !== "/" && !(await root.stat(path)).isDirectory) throw new FileError("not a directory", path);
  return path;
}

async function isThere(root: Area["root"], path: string): Promise<boolean> {
  try {
    await root.stat(path);
    return true;
  } catch (error) {
    if (error instanceof FileError && error.failure === "not found") return false;
    throw error;
  }
}

async function unless(expected: string | false, done: Promise<void>): Promise<void> {
  try {
    await done;
  } catch (error) {
    if (!(error instanceof FileError) || error.failure !== expected) throw error;
  }
}
