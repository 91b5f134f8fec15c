import { createHash, createHmac, timingSafeEqual } from "node:crypto";

/** How a response is hashed, by its name in the header. */
const HASHES = { "SHA-256": "sha256", MD5: "md5" } as const;
export type Algorithm = keyof typeof HASHES;

/** What the servers of a service share. */
export interface DigestSettings {
  realm: string;
  /** Known to all servers, to nobody else; 32 bytes or more. */
  secret: Buffer;
  /** In the order of preference. Most RTSP clients know MD5 alone (RFC 2617), which is of no use with a weak password. */
  algorithms: readonly Algorithm[];
  /** How long a nonce serves, milliseconds. */
  lifetimeMs: number;
  /** A user's password; undefined: there is no such user. */
  passwordOf(user: string): string | undefined;
}

export type Verdict =
  | { kind: "granted"; user: string }
  /** The password was right, the nonce too old: challenge anew with `stale`, and nobody is asked for it again. */
  | { kind: "stale" }
  | { kind: "refused" };

const REFUSED: Verdict = { kind: "refused" };
/** A nonce: the time when it was made, milliseconds, and a MAC of it. */
const TIME_BYTES = 6;
const MAC_BYTES = 16;
/** By so much may clocks of servers differ. */
const SKEW_MS = 10_000;
/** Of an Authorization header. */
const HEADER_MAX = 4_096;

/**
 * Values for WWW-Authenticate headers, one each (RFC 7616 section 3.3, RFC 2326 section 14). Any server with the same settings knows
 * the nonce for one of its own: nothing is kept.
 */
export function challenges(settings: DigestSettings, nowMs: number, stale = false): string[] {
  const { realm, secret, algorithms } = settings;
  const nonce = nonceAt(nowMs, realm, secret);
  return algorithms.map((algorithm) => {
    const fields = [`realm="${quotable(realm)}"`, `nonce="${nonce}"`, `algorithm=${algorithm}`, 'qop="auth"'];
    return `Digest ${[...fields, ...(stale ? ["stale=true"] : [])].join(", ")}`;
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
  const algorithm = settings.algorithms.find(
    (name) => name.toLowerCase() === (fields.get("algorithm") ?? "MD5").toLowerCase(),
  );
  const age = ageOf(nonce, settings, nowMs);
  if (!algorithm || age === undefined) return REFUSED;
  const password = settings.passwordOf(username);
  // Computed also where there is no such user, so that the time it takes says nothing.
  const expected = responseOf(algorithm, fields, request, password ?? "");
  if (expected === undefined || !isEqual(expected, response.toLowerCase()) || password === undefined) return REFUSED;
  return age > settings.lifetimeMs ? { kind: "stale" } : { kind: "granted", user: username };
}

function responseOf(
  algorithm: Algorithm,
  fields: Map<string, string>,
  { method, target }: { method: string; target: string },
  password: string,
): string | undefined {
  const hash = (text: string) => createHash(HASHES[algorithm]).update(text, "utf8").digest("hex");
  const field = (name: string) => fields.get(name) ?? "";
  const key = hash(`${field("username")}:${field("realm")}:${password}`);
  const what = hash(`${method}:${target}`);
  const qop = fields.get("qop");
  if (qop === undefined) return hash(`${key}:${field("nonce")}:${what}`);
  if (qop !== "auth" || !/^[0-9a-f]{8}$/i.test(field("nc")) || field("cnonce") === "") return undefined;
  return hash(`${key}:${field("nonce")}:${field("nc")}:${field("cnonce")}:${qop}:${what}`);
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

function quotable(text: string): string {
  return text.replace(/["\\]/g, "\\$&");
}
