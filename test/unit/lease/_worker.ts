/** A worker that does as argv[2] says; it has no sockets. */
import { appendFileSync } from "node:fs";
import { linkToSupervisor } from "../../../agent/supervisor/link.js";

const [, , mode, file = "/dev/null"] = process.argv;
const { incarnation, successor, say } = linkToSupervisor({
  onFenced: (reason) => {
    appendFileSync(file, `fenced ${incarnation} ${reason}\n`);
    if (mode !== "stubborn") process.exit(0);
  },
  onPass: () => {
    if (mode === "keeps") say({ type: "kept", reason: "it is busy" });
    else say({ type: "passing" });
    if (mode === "breaks") say({ type: "broken", reason: "the way is gone" });
    else if (mode === "dies passing") process.exit(7);
    else if (mode !== "keeps") say({ type: "passed", connections: 3 });
  },
  onServe: () => say({ type: "serving" }),
  onRetire: () => {
    appendFileSync(file, `retired ${incarnation}\n`);
    process.exit(0);
  },
});
appendFileSync(file, `started ${incarnation}\n`);
if (mode === "dies") process.exit(7);
const nothing = new Int32Array(new SharedArrayBuffer(4));
if (mode === "starts slowly") Atomics.wait(nothing, 0, 0, 1_500);
if (!successor) say({ type: "serving" });
if (mode === "blocks") setTimeout(() => Atomics.wait(nothing, 0, 0), 150);
