import { createHash } from "node:crypto";
import { parseUserLines, readUserFile, userFields } from "../user_lines.js";
import { type Algorithm, type DigestSettings, HASHES, type Hashes, hashOf } from "./digest.js";

const FORM = "name:realm:md5:sha256";

/**
 * Who may play, from lines `name:realm:md5:sha256`: the hashes of `name:realm:password` (HA1 of RFC 7616) in hexadecimal digits. Whoever
 * has read them needs no password.
 */
export class Users implements DigestSettings {
  private readonly entries: Map<string, Hashes>;
  /** By which servers with the same file know each other's nonces, and nobody else can make one. */
  readonly secret: Buffer;

  /**
   * @param file its name, for errors. Throws CONFIG_INVALID, with file and line
   * @param realm of the service, for which every line has to be made
   */
  constructor(
    text: string,
    file: string,
    readonly realm: string,
  ) {
    this.entries = parseUserLines(text, file, (line, where) => parseLine(line, where, realm));
    this.secret = createHash("sha256").update(`nonces of ${realm}\n`).update(text).digest();
  }

  /** Throws as the constructor, and CONTENT_UNAVAILABLE. */
  static async open(file: string, realm: string): Promise<Users> {
    return new Users(await readUserFile(file, { what: "RTSP users", secret: true }), file, realm);
  }

  /** HA1; undefined: there is no such user. */
  hash(name: string, algorithm: Algorithm): string | undefined {
    return this.entries.get(name)?.[algorithm];
  }
}

/** A line of the file. Throws CONFIG_INVALID for a name or realm that no line can have. */
export function makeUserLine({ name, realm }: { name: string; realm: string }, password: string): string {
  const hash = (algorithm: Algorithm) => hashOf(algorithm, Buffer.from(`${name}:${realm}:${password}`));
  const line = [name, realm, hash("MD5"), hash("SHA-256")].join(":");
  parseLine(line, "a new user", realm);
  return line;
}

function parseLine(line: string, where: string, wanted: string): [string, Hashes] {
  const { fields, wrong } = userFields(line, where, FORM);
  const [name = "", realm = "", md5 = "", sha256 = ""] = fields;
  const hashes: Hashes = { MD5: md5, "SHA-256": sha256 };
  for (const [algorithm, { digits }] of Object.entries(HASHES)) {
    // Never the text itself, which may be a password that somebody has put there as it is.
    const isHash = new RegExp(`^[0-9a-f]{${digits}}$`).test(hashes[algorithm as Algorithm]);
    if (!isHash) throw wrong(`the ${algorithm} hash of ${name} does not have ${digits} hexadecimal digits`);
  }
  if (realm !== wanted) throw wrong(`the hashes of ${name} are of realm "${realm}", the service has "${wanted}"`);
  return [name, hashes];
}
