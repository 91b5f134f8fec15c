/** A worker that does as argv[2] says; it has no sockets. */
import { appendFileSync } from "node:fs";
import { linkToSupervisor } from "../../../agent/supervisor/link.js";

const [, , mode, file = "/dev/null"] = process.argv;
const { incarnation } = linkToSupervisor({
  onFenced: (reason) => {
    appendFileSync(file, `fenced ${incarnation} ${reason}\n`);
    if (mode !== "stubborn") process.exit(0);
  },
});
appendFileSync(file, `started ${incarnation}\n`);
if (mode === "dies") process.exit(7);
if (mode === "blocks") setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0), 150);
