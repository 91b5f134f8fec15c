import { Control } from "../support/control.js";
import { Dialer } from "../support/dialer.js";
import { eventually } from "../support/eventually.js";
import { killAgent } from "../support/fault.js";
import { halfReadOn } from "../support/half_read.js";
import { pidOf } from "../support/host.js";
import { API, labDown, labUp } from "../support/lab.js";
import { sha256Of } from "../support/sha256.js";
import { BenchContent } from "./files.js";
import { residentMb } from "./memory.js";
import { quantile, type Report } from "./report.js";

const WANTED = Number(process.env.BENCH_CONNECTIONS ?? 2000);
/** Every connection of one dead server is in the middle of a response; how long until the last one has its heir. */
export async function mass(): Promise<Report> {
  const content = new BenchContent();
  try {
    await labUp({ content: content.directory });
    const control = new Control(API);
    const dialer = await Dialer.start();
    const half = await halfReadOn("s1", WANTED, dialer, control);
    const dead = new Set(half.map(({ id }) => id));
    const agentMb = residentMb(pidOf("s1", "agent"));

    const events = control.follow();
    const killedMs = Date.now();
    killAgent("s1");
    const taken = () => events.seen.filter((one) => one.kind === "takeover" && dead.has(one.connection));
    await eventually("an event for every connection", () => taken().length >= dead.size, 60_000, 50);
    const ok = taken().filter((one) => one.result === "ok");
    const times = ok.map((one) => Date.parse(one.time) - killedMs);

    const wanted = await sha256Of(`${content.directory}/100k.bin`);
    let right = 0;
    for (const one of half) if ((await one.finish()) === wanted) right++;
    events.close();
    dialer.close();
    control.close();
    return {
      name: "mass",
      measures: [
        { what: "connections of the dead server", value: dead.size, unit: "" },
        { what: "taken over", value: ok.length, unit: "", atLeast: dead.size },
        { what: "bodies that were right in the end", value: right, unit: "", atLeast: dead.size },
        { what: "from the kill to the last takeover", value: Math.max(...times) / 1000, unit: "s", atMost: 1 },
        { what: "from the kill to half of the takeovers", value: quantile(times, 0.5) / 1000, unit: "s" },
        { what: "agent's resident memory with those connections", value: agentMb, unit: "MB", atMost: 150 },
      ],
      raw: { times, notOk: taken().filter((one) => one.result !== "ok") },
    };
  } finally {
    await labDown();
    content.remove();
  }
}
