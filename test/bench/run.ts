import { cost } from "./cost.js";
import { gap } from "./gap.js";
import { mass } from "./mass.js";
import { media } from "./media.js";
import { memory } from "./memory.js";
import { move } from "./move.js";
import { publish, type Report } from "./report.js";
import { small } from "./small.js";
import { steer } from "./steer.js";

// usage: run.js [NAME]...   every benchmark without a name; BENCH_KILLS, BENCH_CONNECTIONS change the sizes
const benchmarks: Record<string, () => Promise<Report>> = { steer, cost, small, gap, media, mass, memory, move };
const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(benchmarks);

const unknown = names.filter((name) => !(name in benchmarks));
if (unknown.length > 0) {
  console.error(`bench: there is no ${unknown.join(", ")}; known: ${Object.keys(benchmarks).join(", ")}`);
  process.exit(2);
}
let allReached = true;
for (const name of names) allReached = publish(await benchmarks[name]!()) && allReached;
console.log(allReached ? "\nEvery bar was reached." : "\nA bar was not reached.");
