import { createHash } from "node:crypto";
import { join } from "node:path";
import { RefusedError } from "../../../proto/errors.js";
import { DirectoryContent } from "../../content/index.js";
import type { Native } from "../../native/api.js";
import { readUserFile } from "../user_lines.js";
import { Root } from "./root.js";
import { type User, Users } from "./users.js";

/** Who gives any password gets this, under either name. */
export const ANONYMOUS = "anonymous";
const ANONYMOUS_NAMES: readonly string[] = [ANONYMOUS, "ftp"];

/** Passwords that are checked at a time, and how many wait for that; a wrong one takes longer. */
const PARALLEL = 2;
const WAITING_MAX = 64;
const FAILURE_MS = 500;

/** The files of whoever is logged in. */
export interface Area {
  /** By which they are changed and listed. */
  root: Root;
  /** By which whole files are named, and known to be the same on another server. */
  content: DirectoryContent;
}

export interface AreasOptions {
  /** Of whoever logs in without a password; undefined: nobody may. */
  anonymous: DirectoryContent | undefined;
  anonymousDirectory: string | undefined;
  /** File of those who have one; see Users. */
  users: string | undefined;
  /** Directory for what is remembered of files. */
  state: string;
  native: Pick<Native, "hashFile">;
}

/** Who may log in, and what they get. */
export class Areas {
  private readonly checks: Array<() => void> = [];
  private checking = 0;
  private readonly byDirectory = new Map<string, Promise<Area>>();

  private constructor(
    private readonly options: AreasOptions,
    private readonly users: Users | undefined,
  ) {}

  /** Throws CONFIG_INVALID and CONTENT_UNAVAILABLE. */
  static async open(options: AreasOptions): Promise<Areas> {
    return new Areas(options, options.users === undefined ? undefined : await readUsers(options.users));
  }

  isAnonymous(name: string): boolean {
    return this.options.anonymous !== undefined && ANONYMOUS_NAMES.includes(name.toLowerCase());
  }

  /** @returns "busy" where too many wait for the same: each check costs a fifth of a second of a processor */
  async verify(name: string, password: string): Promise<boolean | "busy"> {
    if (this.checks.length >= WAITING_MAX) return "busy";
    await this.turn();
    try {
      const isRight = (await this.users?.verify(name, password)) !== undefined;
      if (!isRight) await new Promise((resolve) => setTimeout(resolve, FAILURE_MS));
      return isRight;
    } finally {
      this.checking--;
      this.checks.shift()?.();
    }
  }

  /** Resolves when a check may begin. */
  private async turn(): Promise<void> {
    if (this.checking >= PARALLEL) await new Promise<void>((resolve) => this.checks.push(resolve));
    this.checking++;
  }

  /** Of a user who has logged in, here or on another server. Throws RefusedError where there is none of that name, CONTENT_UNAVAILABLE. */
  of(user: string): Promise<Area> {
    const { anonymous, anonymousDirectory } = this.options;
    if (user === ANONYMOUS && anonymous && anonymousDirectory !== undefined) {
      return this.at(anonymousDirectory, async () => ({
        root: await Root.open(anonymousDirectory, false),
        content: anonymous,
      }));
    }
    const known = this.users?.find(user);
    if (!known) return Promise.reject(new RefusedError("no such user here", `nobody is called ${user}`));
    return this.at(`${known.directory} ${known.writable}`, () => this.open(known));
  }

  private at(key: string, open: () => Promise<Area>): Promise<Area> {
    const present = this.byDirectory.get(key);
    if (present) return present;
    const area = open();
    this.byDirectory.set(key, area);
    area.catch(() => this.byDirectory.delete(key)); // it may be there the next time
    return area;
  }

  private async open({ directory, writable }: User): Promise<Area> {
    const name = createHash("sha256").update(directory).digest("hex").slice(0, 16);
    const content = await DirectoryContent.open({
      directory,
      validator: "mtime+size", // it is one directory for all servers
      hashFile: (path) => this.options.native.hashFile(path),
      digestFile: join(this.options.state, `digests-ftp-${name}`),
    });
    return { root: await Root.open(directory, writable), content };
  }
}

async function readUsers(file: string): Promise<Users> {
  return new Users(await readUserFile(file, { what: "FTP users", secret: false }), file);
}
