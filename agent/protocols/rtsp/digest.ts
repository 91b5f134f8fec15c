import { createHash, createHmac, timingSafeEqual } from "node:crypto";

/** How a response is hashed, by its name in the header. */
export const HASHES = { "SHA-256": { name: "sha256", digits: 64 }, MD5: { name: "md5", digits: 32 } } as const;
export type Algorithm = keyof typeof HASHES;
/** HA1 of RFC 7616 section 3.4.2 by each of them, in hexadecimal digits. */
export type Hashes = Record<Algorithm, string>;

/** What the servers of a service share. */
export interface DigestSettings {
  /** Free of quotes and backslashes: not every client undoes their escapes. */
  realm: string;
  /** Known to all servers, to nobody else; 32 bytes or more. */
  secret: Buffer;
  /** A user's HA1; undefined: there is no such user. */
  hash(user: string, algorithm: Algorithm): string | undefined;
}

/** Clients take the last one that they know, or that is written last: most know MD5 alone (RFC 2617), and take anything for it. */
const ALGORITHMS: readonly Algorithm[] = ["SHA-256", "MD5"];

export type Verdict =
  | { kind: "granted"; user: string }
  /** The password was right, the nonce too old or another file's: challenge anew with `stale`, and nobody is asked for it again. */
  | { kind: "stale" }
  | { kind: "refused" };

const REFUSED: Verdict = { kind: "refused" };
/** A nonce: the time when it was made, milliseconds, and a MAC of it. */
const TIME_BYTES = 6;
const MAC_BYTES = 16;
/** How long a nonce serves. */
const LIFETIME_MS = 300_000;
/** By so much may clocks of servers differ. */
const SKEW_MS = 10_000;
/** Of an Authorization header. */
const HEADER_MAX = 4_096;

/**
 * Values for WWW-Authenticate headers, one each (RFC 7616 section 3.3, RFC 2326 section 14). Any server with the same settings knows
 * the nonce for one of its own: nothing is kept.
 */
export function challenges(settings: DigestSettings, nowMs: number, stale = false): string[] {
  const { realm, secret } = settings;
  const nonce = nonceAt(nowMs, realm, secret);
  return ALGORITHMS.map((algorithm) => {
    // In this order: live555 looks for the third where it stands.
    const fields = [`realm="${realm}"`, `nonce="${nonce}"`, ...(stale ? ["stale=true"] : [])];
    return `Digest ${[...fields, `algorithm=${algorithm}`, 'qop="auth"'].join(", ")}`;
  });
}

/**
 * Whether an Authorization header grants a request (RFC 7616 section 3.4; without qop as RFC 2069 has it, which many RTSP clients do).
 * What was overheard can be said again for the same method and target while its nonce lives: counting requests would need a memory
 * that all servers share.
 * @param request as it was sent
 */
export function checkDigest(
  header: string | undefined,
  request: { method: string; target: string },
  settings: DigestSettings,
  nowMs: number,
): Verdict {
  const fields = parseFields(header ?? "");
  if (!fields) return REFUSED;
  const { username, realm, nonce, uri, response } = Object.fromEntries(fields);
  if (username === undefined || nonce === undefined || response === undefined) return REFUSED;
  if (realm !== settings.realm || uri !== request.target) return REFUSED;
  const algorithm = ALGORITHMS.find((name) => name.toLowerCase() === (fields.get("algorithm") ?? "MD5").toLowerCase());
  if (!algorithm) return REFUSED;
  const user = Buffer.from(username, "latin1").toString("utf8");
  const known = settings.hash(user, algorithm);
  // Computed also where there is no such user, so that the time it takes says nothing.
  const expected = responseOf(algorithm, fields, request, known ?? "");
  if (expected === undefined || !isEqual(expected, response.toLowerCase()) || known === undefined) return REFUSED;
  const age = ageOf(nonce, settings, nowMs);
  return age === undefined || age > LIFETIME_MS ? { kind: "stale" } : { kind: "granted", user };
}

/** @param bytes hashed as they are, in hexadecimal digits */
export function hashOf(algorithm: Algorithm, bytes: Buffer): string {
  return createHash(HASHES[algorithm].name).update(bytes).digest("hex");
}

function responseOf(
  algorithm: Algorithm,
  fields: Map<string, string>,
  { method, target }: { method: string; target: string },
  known: string,
): string | undefined {
  const hash = (...parts: string[]) => hashOf(algorithm, Buffer.from(parts.join(":"), "latin1")); // as headers are read
  const field = (name: string) => fields.get(name) ?? "";
  const what = hash(method, target);
  const qop = fields.get("qop");
  if (qop === undefined) return hash(known, field("nonce"), what);
  if (qop !== "auth" || !/^[0-9a-f]{8}$/i.test(field("nc")) || field("cnonce") === "") return undefined;
  return hash(known, field("nonce"), field("nc"), field("cnonce"), qop, what);
}

function nonceAt(ms: number, realm: string, secret: Buffer): string {
  const time = Buffer.alloc(TIME_BYTES);
  time.writeUIntBE(ms, 0, TIME_BYTES);
  return Buffer.concat([time, macOf(time, realm, secret)]).toString("base64url");
}

/** Milliseconds; undefined: the nonce is none of ours. */
function ageOf(nonce: string, { realm, secret }: DigestSettings, nowMs: number): number | undefined {
  const bytes = Buffer.from(nonce, "base64url");
  if (bytes.length !== TIME_BYTES + MAC_BYTES || bytes.toString("base64url") !== nonce) return undefined;
  const time = bytes.subarray(0, TIME_BYTES);
  if (!timingSafeEqual(macOf(time, realm, secret), bytes.subarray(TIME_BYTES))) return undefined;
  const age = nowMs - time.readUIntBE(0, TIME_BYTES);
  return age < -SKEW_MS ? undefined : age;
}

function macOf(time: Buffer, realm: string, secret: Buffer): Buffer {
  return createHmac("sha256", secret).update(time).update(realm).digest().subarray(0, MAC_BYTES);
}

function isEqual(a: string, b: string): boolean {
  const [one, other] = [Buffer.from(a), Buffer.from(b)];
  return one.length === other.length && timingSafeEqual(one, other);
}

/** name=token or name="quoted", separated by commas. undefined: not Digest, malformed, or a name comes twice. */
function parseFields(header: string): Map<string, string> | undefined {
  const scheme = /^Digest[ \t]+/i.exec(header);
  if (!scheme || header.length > HEADER_MAX) return undefined;
  const fields = new Map<string, string>();
  const field = /[ \t]*([\w*-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))[ \t]*(?:,|$)/y;
  field.lastIndex = scheme[0].length;
  while (field.lastIndex < header.length) {
    const match = field.exec(header);
    if (!match) return undefined;
    const name = (match[1] as string).toLowerCase();
    if (fields.has(name)) return undefined;
    fields.set(name, match[3] ?? (match[2] as string).replace(/\\(.)/g, "$1"));
  }
  return fields;
}
