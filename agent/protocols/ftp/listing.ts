/** What is in a directory, or the directory itself. */
export interface Entry {
  /** One that `isName` takes. */
  name: string;
  isDirectory: boolean;
  /** Bytes. */
  size: number;
  /** Unix time, milliseconds. */
  mtimeMs: number;
  /** Whether this user may change it. */
  writable: boolean;
}

/** The facts of MLSD and MLST (RFC 3659 section 7.5), in their order in a line. */
export const FACTS = ["type", "size", "modify", "perm"] as const;
export type Fact = (typeof FACTS)[number];

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/** As ls has it: half a mean Gregorian year. Older dates have their year, younger ones their time of day. */
const RECENT_MS = (365.2425 / 2) * 86_400_000;
const TIME_MAX = Date.UTC(9999, 11, 31, 23, 59, 59);

// All of this is made of its parameters only, and in order of the names' bytes: another server makes the same of them.

/**
 * A directory as `ls -l` writes it, with one owner for all and times in UTC: no standard says how (RFC 959 section 4.1.3),
 * but clients read this.
 * @param nowMs Unix time, milliseconds: by it dates are written with their time or their year
 */
export function longListing(entries: readonly Entry[], nowMs: number): Buffer {
  return lines(entries, (entry) => longLine(entry, nowMs));
}

/** The answer to NLST: names alone (RFC 959 section 4.1.3). */
export function nameListing(entries: readonly Entry[]): Buffer {
  return lines(entries, (entry) => entry.name);
}

/** The answer to MLSD (RFC 3659 section 7.2). */
export function factsListing(entries: readonly Entry[], facts: readonly Fact[] = FACTS): Buffer {
  return lines(entries, (entry) => factsLine(entry, facts));
}

/** One line of MLSD's, or MLST's, which has the path for a name; without its end. */
export function factsLine(entry: Entry, facts: readonly Fact[] = FACTS): string {
  const values: Record<Fact, string | undefined> = {
    type: entry.isDirectory ? "dir" : "file",
    size: entry.isDirectory ? undefined : String(entry.size),
    modify: timeValue(entry.mtimeMs),
    perm: permissions(entry),
  };
  const known = FACTS.filter((fact) => facts.includes(fact) && values[fact] !== undefined);
  return `${known.map((fact) => `${fact}=${values[fact]};`).join("")} ${entry.name}`;
}

/** The line about facts in the answer to FEAT: those that are in use have a star (RFC 3659 section 7.8). */
export function factsFeature(facts: readonly Fact[] = FACTS): string {
  return `MLST ${FACTS.map((fact) => `${fact}${facts.includes(fact) ? "*" : ""};`).join("")}`;
}

/** The facts that "OPTS MLST" asks for: what is not known is left out (RFC 3659 section 7.9). */
export function chooseFacts(argument: string): Fact[] {
  const asked = argument.toLowerCase().split(";");
  return FACTS.filter((fact) => asked.includes(fact));
}

/** UTC with whole seconds, "20240229123456" (RFC 3659 section 2.3): MDTM's answer, and the fact. @param mtimeMs Unix time, milliseconds */
export function timeValue(mtimeMs: number): string {
  return dateOf(mtimeMs).toISOString().replace(/\..*$/, "").replace(/\D/g, "");
}

/** What LIST or NLST names. Many clients put options of ls before it, which no standard has: they are left out. */
export function withoutOptions(argument: string): string {
  return argument.replace(/^ *(?:-[A-Za-z1]+(?: +|$))+/, "");
}

function longLine(entry: Entry, nowMs: number): string {
  const mode = entry.isDirectory
    ? `d${entry.writable ? "rwx" : "r-x"}r-xr-x`
    : `-${entry.writable ? "rw-" : "r--"}r--r--`;
  const size = String(entry.isDirectory ? 0 : entry.size).padStart(12);
  return `${mode} 1 ftp ftp ${size} ${longDate(entry.mtimeMs, nowMs)} ${entry.name}`;
}

function longDate(mtimeMs: number, nowMs: number): string {
  const date = dateOf(mtimeMs);
  const day = `${MONTHS[date.getUTCMonth()]} ${String(date.getUTCDate()).padStart(2)}`;
  const isRecent = mtimeMs <= nowMs && mtimeMs > nowMs - RECENT_MS;
  return `${day} ${isRecent ? date.toISOString().slice(11, 16) : String(date.getUTCFullYear()).padStart(5)}`;
}

/** RFC 3659 section 7.5.5: what may be done with a file, or in and with a directory. */
function permissions({ isDirectory, writable }: Entry): string {
  if (isDirectory) return writable ? "cdeflmp" : "el";
  return writable ? "adfrw" : "r";
}

/** A file system may have times that no date of four digits has. */
function dateOf(mtimeMs: number): Date {
  return new Date(Math.min(Math.max(Math.floor(mtimeMs), 0), TIME_MAX));
}

function lines(entries: readonly Entry[], line: (entry: Entry) => string): Buffer {
  const keyed = entries.map((entry) => ({ entry, key: Buffer.from(entry.name) }));
  keyed.sort((a, b) => Buffer.compare(a.key, b.key));
  return Buffer.from(keyed.map(({ entry }) => `${line(entry)}\r\n`).join(""));
}
