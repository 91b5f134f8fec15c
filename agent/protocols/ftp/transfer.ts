import { createHash } from "node:crypto";
import { RefusedError } from "../../../proto/errors.js";
import type { FtpTransfer } from "../../../proto/sections.js";
import { identityKey } from "../../content/identity.js";
import type { Found } from "../../content/index.js";
import type { Area } from "./areas.js";
import { type Fact, factsListing, longListing, nameListing } from "./listing.js";
import { directoryOf, segmentsOf } from "./path.js";
import { FileError, type RootFile } from "./root.js";

/** What a transfer sends, found and open. */
type Source = { kind: "retrieve"; found: Found } | { kind: "list"; bytes: Buffer; sha256: Buffer };

/** What a transfer needs. A file that is not there is made when its data connection is. */
export type Prepared = Source | { kind: "store"; file: RootFile | undefined };
export type Opened = Source | { kind: "store"; file: RootFile };

/** What is called for by each of the commands that need a data connection (RFC 959 section 4.1.3, RFC 3659 section 7). */
export const TRANSFERS: Record<string, Prepared["kind"]> = {
  RETR: "retrieve",
  STOR: "store",
  APPE: "store",
  LIST: "list",
  NLST: "list",
  MLSD: "list",
};

/** Whether both are the same command's. */
export function isSame(a: FtpTransfer | undefined, b: FtpTransfer): boolean {
  if (a === undefined || a.verb !== b.verb || a.user !== b.user || a.path !== b.path) return false;
  return a.verb === "APPE" || a.start === b.start; // where it begins to append the data connection finds out
}

/** Throws FileError, or what is this server's matter. */
export async function prepare(transfer: FtpTransfer, area: Area): Promise<Prepared> {
  const { verb, path } = transfer;
  switch (TRANSFERS[verb]) {
    case "retrieve":
      return { kind: "retrieve", found: await find(transfer, area) };
    case "store":
      return { kind: "store", file: await present(path, area) };
    default: {
      const bytes = await list(transfer, area);
      return { kind: "list", bytes, sha256: createHash("sha256").update(bytes).digest() };
    }
  }
}

export function isOpen(prepared: Prepared): prepared is Opened {
  return prepared.kind !== "store" || prepared.file !== undefined;
}

/** Its data connection is there. Throws as `prepare`. */
export async function open(prepared: Prepared, { path }: FtpTransfer, { root }: Area): Promise<Opened> {
  return isOpen(prepared) ? prepared : { kind: "store", file: await root.openWrite(path, "made") };
}

/** The file; undefined where there is none, but may be one. */
async function present(path: string, { root }: Area): Promise<RootFile | undefined> {
  try {
    return await root.openWrite(path, "there");
  } catch (error) {
    if (!(error instanceof FileError) || error.failure !== "not found") throw error;
    await root.stat(directoryOf(path));
    return undefined;
  }
}

/** Nothing comes of it. */
export function letGo(prepared: Prepared): void {
  if (prepared.kind === "retrieve") prepared.found.file.close();
  else if (prepared.kind === "store") prepared.file?.close();
}

/** A listing that was begun, once more. Throws RefusedError where it has changed. */
export async function listAgain(transfer: FtpTransfer, area: Area, sha256: Buffer): Promise<Buffer> {
  const bytes = await list(transfer, area);
  if (!createHash("sha256").update(bytes).digest().equals(sha256)) {
    throw new RefusedError("listing changed", `${transfer.path} is not what it was when it was listed`);
  }
  return bytes;
}

/** The file as the content knows it, where it is the one to which the path leads without any link. */
async function find({ path }: FtpTransfer, { root, content }: Area): Promise<Found> {
  const file = await root.openRead(path);
  try {
    const found = await content.find(segmentsOf(path), false);
    if (found === undefined || found === "directory") throw new FileError("not found", path);
    if (identityKey(found.file.identity) === identityKey(file.identity)) return found;
    found.file.close();
    throw new FileError("not found", path);
  } finally {
    file.close();
  }
}

async function list({ verb, path, listedAtMs, facts }: FtpTransfer, { root }: Area): Promise<Buffer> {
  const entry = path === "/" ? undefined : await root.stat(path);
  if (entry && !entry.isDirectory && verb === "MLSD") throw new FileError("not a directory", path);
  const entries = entry && !entry.isDirectory ? [entry] : await root.list(path);
  if (verb === "MLSD") return factsListing(entries, facts as Fact[]);
  return verb === "NLST" ? nameListing(entries) : longListing(entries, listedAtMs);
}
