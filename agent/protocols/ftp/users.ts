import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { parseUserLines, userFields } from "../user_lines.js";
import { isPath } from "./path.js";

/** What a password opens. */
export interface User {
  name: string;
  /** Absolute, without "." and "..". */
  directory: string;
  writable: boolean;
}

/** What a check costs (RFC 7914 section 2): memory is 128 * N * r bytes, time in proportion to N * r * p. */
interface Cost {
  N: number;
  r: number;
  p: number;
}

interface Secret {
  cost: Cost;
  salt: Buffer;
  hash: Buffer;
}

/** 16 MiB and about a fifth of a second: many may log in at the same time, and this server has other things to do. */
const COST: Cost = { N: 16_384, r: 8, p: 5 };
const MEMORY_MAX = 256 * 1_048_576;
const PARALLEL_MAX = 16;
const SALT_BYTES = 16;
const HASH_BYTES = 32;
const HASH_BYTES_MIN = 16;
const HASH_BYTES_MAX = 64;

const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

interface Entry {
  user: User;
  secret: Secret;
}

/** Users and their passwords, from lines `name:scrypt$N$r$p$salt$hash:directory:rw` (or `ro`; salt and hash in base64). */
export class Users {
  private readonly entries: Map<string, Entry>;
  /** What an unknown name is compared with. It has the cost of the first one: lines made with one cost cannot be told from it. */
  private readonly nobody: Secret;

  /**
   * @param text of the file
   * @param file its name, for errors. Throws CONFIG_INVALID, with file and line
   */
  constructor(text: string, file: string) {
    this.entries = parseUserLines(text, file, (line, where) => {
      const entry = parseLine(line, where);
      return [entry.user.name, entry];
    });
    const [first] = this.entries.values();
    this.nobody = {
      cost: first?.secret.cost ?? COST,
      salt: randomBytes(SALT_BYTES),
      hash: randomBytes(first?.secret.hash.length ?? HASH_BYTES),
    };
  }

  /** The user of that name, without a password: for a connection on which the password was right before. */
  find(name: string): User | undefined {
    return this.entries.get(name)?.user;
  }

  /**
   * The user, if the password is theirs. Takes as long for a name that does not exist. Runs in the thread pool. Rejects where
   * there is no memory for it.
   */
  async verify(name: string, password: string): Promise<User | undefined> {
    const entry = this.entries.get(name);
    const { cost, salt, hash } = entry?.secret ?? this.nobody;
    const isRight = timingSafeEqual(await derive(password, salt, cost, hash.length), hash);
    return isRight ? entry?.user : undefined;
  }
}

/** A line of the file, with a new salt. Throws CONFIG_INVALID for a name or directory that no line can have. */
export async function makeUserLine(user: User, password: string, cost: Cost = COST): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const line = lineOf(user, { cost, salt, hash: await derive(password, salt, cost, HASH_BYTES) });
  parseLine(line, "a new user");
  return line;
}

function parseLine(line: string, where: string): Entry {
  const { fields, wrong } = userFields(line, where, "name:password:directory:rw");
  const [name = "", password = "", directory = "", mode] = fields;
  const secret = parseSecret(password);
  if (typeof secret === "string") throw wrong(`the password of ${name}: ${secret}`);
  if (!isPath(directory)) throw wrong(`the directory of ${name} is not an absolute path, or has "." or ".." in it`);
  if (mode !== "rw" && mode !== "ro") throw wrong(`${name} has "${mode}" instead of rw or ro`);
  return { user: { name, directory, writable: mode === "rw" }, secret };
}

/** Or what is wrong with it; never the text itself, which may be a password that somebody has put there as it is. */
function parseSecret(text: string): Secret | string {
  const [scheme, N = "", r = "", p = "", salt = "", hash = "", ...rest] = text.split("$");
  if (scheme !== "scrypt" || rest.length > 0) return "it is not scrypt$N$r$p$salt$hash";
  const cost = { N: numberOf(N), r: numberOf(r), p: numberOf(p) };
  if (cost.N < 2 || !Number.isInteger(Math.log2(cost.N))) return "N is not a power of two";
  if (cost.r < 1 || cost.p < 1 || cost.p > PARALLEL_MAX)
    return `r and p are not from 1 on, or p is above ${PARALLEL_MAX}`;
  if (memoryOf(cost) > MEMORY_MAX) return "N * r is more than 2097152 (256 MiB)";
  if (!BASE64.test(salt) || !BASE64.test(hash)) return "salt or hash is not base64";
  const secret = { cost, salt: Buffer.from(salt, "base64"), hash: Buffer.from(hash, "base64") };
  if (secret.salt.length < 8) return "the salt has less than 8 bytes";
  if (secret.hash.length < HASH_BYTES_MIN || secret.hash.length > HASH_BYTES_MAX) {
    return `the hash does not have ${HASH_BYTES_MIN} to ${HASH_BYTES_MAX} bytes`;
  }
  return secret;
}

function lineOf(user: User, { cost, salt, hash }: Secret): string {
  const secret = `scrypt$${cost.N}$${cost.r}$${cost.p}$${salt.toString("base64")}$${hash.toString("base64")}`;
  return `${user.name}:${secret}:${user.directory}:${user.writable ? "rw" : "ro"}`;
}

/** 0 where it is none. */
function numberOf(digits: string): number {
  return /^[1-9]\d{0,8}$/.test(digits) ? Number(digits) : 0;
}

function memoryOf({ N, r }: Cost): number {
  return 128 * N * r;
}

function derive(password: string, salt: Buffer, cost: Cost, length: number): Promise<Buffer> {
  // Node counts some more than N * r: it asks for the blocks of p as well.
  const maxmem = memoryOf(cost) + 128 * cost.r * (cost.p + 2) + 65_536;
  return new Promise((resolve, reject) => {
    scrypt(password, salt, length, { ...cost, maxmem }, (error, key) => (error ? reject(error) : resolve(key)));
  });
}
