import { type DestinationStream, type Logger, pino } from "pino";

export type { Logger } from "pino";

// Not synchronous: a slow disk or a full pipe must not stop the event loop that renews leases.
let destination: DestinationStream | undefined;
const out: DestinationStream = {
  write: (line) => {
    destination ??= pino.destination({ dest: 1, sync: false });
    destination.write(line);
  },
};

/** BATON_LOG sets the level: trace, debug, info (the default), warn, error, silent. */
const root = pino(
  {
    level: process.env.BATON_LOG ?? "info",
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  },
  out,
);

/** Sends the lines of this process to `file` from now on (appended; its directory is made) rather than to stdout. */
export function logTo(file: string): void {
  destination = pino.destination({ dest: file, mkdir: true, append: true, sync: false });
}

/** A logger that writes one JSON object a line: `{"level":"info","time":"2026-...","pid":...,"name":...,"msg":...}`. */
export function logger(name: string): Logger {
  return root.child({ name });
}
