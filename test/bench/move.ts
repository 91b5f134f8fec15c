import { Control } from "../support/control.js";
import { Dialer } from "../support/dialer.js";
import { Download } from "../support/download.js";
import { halfReadOn } from "../support/half_read.js";
import { countersOf } from "../support/host.js";
import { API, labDown, labUp } from "../support/lab.js";
import { BenchContent } from "./files.js";
import { quantile, type Report } from "./report.js";

const MIB = 1024 * 1024;
const MOVES = Number(process.env.BENCH_MOVES ?? 1000);
const WARM_UP = 100;
const DRAINED = Number(process.env.BENCH_DRAINED ?? 1000);

/** How long packets are held by a move, one at a time under a download; how long a server with many active connections is drained. */
export async function move(): Promise<Report> {
  const content = new BenchContent({ "large.bin": 4096 * MIB });
  try {
    await labUp({ content: content.directory });
    const control = new Control(API);
    const { heldUs, totalUs, notOk, timeouts } = await oneByOne(control);
    const drained = await drain(control);
    control.close();
    return {
      name: "move",
      measures: [
        { what: "moves, one at a time, under a download", value: heldUs.length, unit: "" },
        { what: "moves that did not end ok", value: notOk, unit: "", atMost: 0 },
        { what: "packets held, p50", value: quantile(heldUs, 0.5) / 1000, unit: "ms", atMost: 1 },
        { what: "packets held, p99", value: quantile(heldUs, 0.99) / 1000, unit: "ms", atMost: 5 },
        { what: "a move from question to answer, p50", value: quantile(totalUs, 0.5) / 1000, unit: "ms" },
        { what: "retransmission timeouts of the client", value: timeouts, unit: "", atMost: 0 },
        { what: "active connections of a server that is drained", value: drained.connections, unit: "" },
        { what: "its drain", value: drained.seconds, unit: "s", atMost: 5 },
        { what: "connections that remained", value: drained.remaining, unit: "", atMost: 0 },
      ],
      raw: { heldUs, totalUs },
    };
  } finally {
    await labDown();
    content.remove();
  }
}

async function oneByOne(control: Control) {
  const download = new Download("/large.bin", { rate: "10M" });
  await download.reached(MIB);
  const before = await countersOf("client");
  const { id, owner } = await control.connectionOf(download.port, (one) => one.protected);
  const servers = ["s1", "s2", "s3"];
  let at = servers.indexOf(owner);
  const events = [];
  for (let n = 0; n < MOVES + WARM_UP; n++) {
    at = (at + 1) % servers.length;
    events.push(await control.move(id, servers[at]!));
  }
  const after = await countersOf("client");
  download.abort();
  await download.done;
  const measured = events.slice(WARM_UP);
  return {
    heldUs: measured.map((event) => event.heldUs),
    totalUs: measured.map((event) => event.phases.released ?? 0),
    notOk: events.filter((event) => event.result !== "ok").length,
    timeouts: (after["TcpExt.TCPTimeouts"] ?? 0) - (before["TcpExt.TCPTimeouts"] ?? 0),
  };
}

/** Every connection is in the middle of a response that its client does not read on. */
async function drain(control: Control) {
  const dialer = await Dialer.start();
  const connections = (await halfReadOn("s1", DRAINED, dialer, control)).length;
  const begun = performance.now();
  const { remaining } = await control.drain("s1", 60_000);
  const seconds = (performance.now() - begun) / 1000;
  dialer.close();
  return { connections, seconds, remaining };
}
