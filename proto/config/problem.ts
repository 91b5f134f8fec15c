import { BatonError } from "../errors.js";

/** One thing that is wrong with a configuration file. Lines and columns count from 1. */
export interface ConfigProblem {
  file: string;
  line: number;
  column: number;
  /** One sentence. */
  message: string;
}

/** Keys and indexes from the root of the file to a value. */
export type Path = readonly PropertyKey[];

/** A complaint about what lies at `path`; `key` points at the name of the last key rather than at its value. */
export interface Complaint {
  path: Path;
  message: string;
  key?: boolean;
}

/** `FILE:LINE:COLUMN: sentence` */
export function formatProblem(problem: ConfigProblem): string {
  return `${problem.file}:${problem.line}:${problem.column}: ${problem.message}`;
}

/** Everything that is wrong with a configuration file, in the file's order; the message has one line for each. */
export class ConfigError extends BatonError {
  readonly problems: ConfigProblem[];

  constructor(problems: ConfigProblem[]) {
    super("CONFIG_INVALID", problems.map(formatProblem).join("\n"));
    this.problems = problems;
  }
}
