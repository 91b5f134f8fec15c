import { readFile, stat } from "node:fs/promises";
import { BatonError } from "../../proto/errors.js";

const NAME = /^[^\s:\p{C}#][^:\p{C}]{0,63}$/u;
/** Of a file's mode: whoever is not its owner. */
const OTHERS = 0o077;

/** Whose line says what is wrong with it. */
export type Wrong = (what: string) => BatonError;

export interface UserFileOptions {
  /** For errors: "FTP users". */
  what: string;
  /** Nobody but its owner may read it: what is in it is as good as the passwords. */
  secret: boolean;
}

/** The text of a file of users. Throws CONTENT_UNAVAILABLE, and CONFIG_INVALID where too many may read it. */
export async function readUserFile(file: string, { what, secret }: UserFileOptions): Promise<string> {
  try {
    const { mode } = await stat(file);
    if (secret && (mode & OTHERS) !== 0) {
      const octal = (mode & 0o777).toString(8).padStart(4, "0");
      throw new BatonError("CONFIG_INVALID", `the file of ${what} ${file} has mode ${octal} and must have 0600`);
    }
    return await readFile(file, "utf8");
  } catch (error) {
    if (error instanceof BatonError) throw error;
    throw new BatonError("CONTENT_UNAVAILABLE", `the file of ${what} ${file}: ${(error as Error).message}`, error);
  }
}

/**
 * What the lines of a file of users say, by the user's name: the first of fields separated by ":". Empty lines and those that begin
 * with "#" say nothing.
 * @param file its name, for errors. Throws CONFIG_INVALID, with file and line
 */
export function parseUserLines<T>(
  text: string,
  file: string,
  parse: (line: string, where: string) => [name: string, entry: T],
): Map<string, T> {
  const entries = new Map<string, T>();
  text.split(/\r?\n/).forEach((line, index) => {
    if (/^\s*(#|$)/.test(line)) return;
    const where = `${file}:${index + 1}`;
    const [name, entry] = parse(line, where);
    if (entries.has(name)) throw new BatonError("CONFIG_INVALID", `${where}: a second line for ${name}`);
    entries.set(name, entry);
  });
  return entries;
}

/** The fields of a line. Throws CONFIG_INVALID where there are others than `form` has, or the first is no name. */
export function userFields(line: string, where: string, form: string): { fields: string[]; wrong: Wrong } {
  const wrong: Wrong = (what) => new BatonError("CONFIG_INVALID", `${where}: ${what}`);
  const fields = line.split(":");
  if (fields.length !== form.split(":").length) throw wrong(`${fields.length} fields instead of ${form}`);
  if (!NAME.test(fields[0] ?? "")) {
    throw wrong("the name is empty, longer than 64 characters, or not of plain characters");
  }
  return { fields, wrong };
}
