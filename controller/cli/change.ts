import { BatonError } from "../../proto/errors.js";
import type { DrainProgressMessage, EventMessage } from "../../proto/rpc/index.js";
import { ask, deadlineMs, readAll, withController } from "./client.js";
import { formatEvent } from "./format.js";
import { eventJson } from "./json.js";
import { print } from "./print.js";

interface Options {
  json?: boolean;
  dryRun?: boolean;
}

/** Exit status 1 where the connection did not move. */
export async function move(id: string, { to, json, dryRun = false }: Options & { to: string }): Promise<void> {
  const { event } = await withController((client) => ask(client.move.bind(client), { id, to, dryRun }));
  if (json) print(JSON.stringify(eventJson(event), null, 2));
  else print(dryRun ? `${id} would move from ${event.from} to ${event.to}.` : formatMove(event));
  if (event.result !== "ok") process.exitCode = 1;
}

function formatMove(event: EventMessage): string {
  const phases = Object.entries(event.phases).sort(([, a], [, b]) => a - b);
  return [formatEvent(event), ...phases.map(([phase, us]) => `  ${String(us).padStart(9)} us  ${phase}`)].join("\n");
}

/** Exit status 1 where connections remain. */
export async function drain(server: string, options: Options & { timeout: number }): Promise<void> {
  const { json, dryRun = false, timeout } = options;
  let last: DrainProgressMessage | undefined;
  // Connections that are on the move when the time is over are waited for.
  const waitMs = timeout + deadlineMs;
  await withController(async (client) => {
    const stream = client.drain({ server, timeoutMs: timeout, dryRun }, { deadline: Date.now() + waitMs });
    await readAll(stream, (progress) => {
      last = progress;
      if (json) print(JSON.stringify(progress));
      else if (!dryRun) print(`${server}: ${progress.moved} moved, ${progress.remaining} remain`);
    });
  }, waitMs);
  if (!last) throw new BatonError("CONTROLLER_UNAVAILABLE", "The controller ended the drain without a word.");
  if (!json) {
    for (const [id, reason] of Object.entries(last.reasons)) print(`  ${id}: ${dryRun ? `to ${reason}` : reason}`);
  }
  if (!dryRun && last.remaining > 0) process.exitCode = 1;
}

export async function undrain(server: string): Promise<void> {
  await withController((client) => ask(client.undrain.bind(client), { server }));
  print(`${server} is back in rotation.`);
}
