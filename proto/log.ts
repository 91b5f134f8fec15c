import { type DestinationStream, type Logger, pino } from "pino";

export type { Logger } from "pino";

/** One JSON object a line: `{"level":"info","time":"2026-...","name":...,"msg":...}`, to stdout until logTo() says otherwise. */
let destination: DestinationStream | undefined;
let root: Logger | undefined;

/** Sends the lines of this process to `file` (appended, made with its directory). Call it before the first logger(). */
export function logTo(file: string): void {
  destination = pino.destination({ dest: file, mkdir: true, append: true, sync: false });
  root = undefined;
}

/** A logger whose lines carry `name`. BATON_LOG sets the level (trace, debug, info, warn, error); default info. */
export function logger(name: string): Logger {
  root ??= pino(
    {
      level: process.env.BATON_LOG ?? "info",
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    // Not synchronous: a slow disk or a full pipe must not stop the event loop that renews leases.
    destination ?? pino.destination({ dest: 1, sync: false }),
  );
  return root.child({ name });
}
