import type { BigIntStats } from "node:fs";

/** What tells one content of a file from the next without reading it. */
export interface FileIdentity {
  device: bigint;
  inode: bigint;
  size: number;
  mtimeNs: bigint;
  ctimeNs: bigint;
}

export function identityOf(stats: BigIntStats): FileIdentity {
  return {
    device: stats.dev,
    inode: stats.ino,
    size: Number(stats.size),
    mtimeNs: stats.mtimeNs,
    ctimeNs: stats.ctimeNs,
  };
}

/** Equal for equal identities. */
export function identityKey(identity: FileIdentity): string {
  const { device, inode, size, mtimeNs, ctimeNs } = identity;
  return `${device}:${inode}:${size}:${mtimeNs}:${ctimeNs}`;
}
