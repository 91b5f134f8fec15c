import { Control } from "../support/control.js";

/**
 * Waits until the controller at a target says that every server is UP and that nothing is wrong, and then, though not for
 * ever, until every server knows the digests of its content: so long it serves, but cannot take everything over. A server that
 * somebody has drained is put back into rotation.
 * usage: ready.js TARGET SERVERS SECONDS
 */
const CONTENT_MS = 30_000;
const [target, servers, seconds] = process.argv.slice(2);
const deadline = Date.now() + Number(seconds) * 1000;
let contentDeadline = Number.POSITIVE_INFINITY;
const control = new Control(target!);

let missing = "the controller does not answer";
while (Date.now() < deadline) {
  try {
    const status = await control.status();
    const up = status.servers.filter((server) => server.state === "UP");
    if (up.length === Number(servers) && status.problems.length === 0) {
      if (up.every((server) => server.contentReady)) process.exit(0);
      contentDeadline = Math.min(contentDeadline, Date.now() + CONTENT_MS);
      if (Date.now() > contentDeadline) {
        console.error("lab: it serves, but digests of its content are still being made: `baton servers` says so");
        process.exit(0);
      }
    }
    for (const server of status.servers) if (server.state === "DRAINING") await control.undrain(server.id);
    const others = status.servers.filter((server) => server.state !== "UP").map((one) => `${one.id} is ${one.state}`);
    missing = [...others, ...status.problems].join("; ") || `${up.length} of ${servers} servers are known`;
  } catch (error) {
    missing = `the controller does not answer: ${error instanceof Error ? error.message : String(error)}`;
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
}
console.error(`lab: not ready after ${seconds} s: ${missing}`);
process.exit(1);
