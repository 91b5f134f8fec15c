import { setTimeout as delay } from "node:timers/promises";
import { Capture, factsOf } from "../support/capture.js";
import { Control } from "../support/control.js";
import { Download } from "../support/download.js";
import { cutLink, killAgent, limitClientCable } from "../support/fault.js";
import { API, labDown, labHeal, labUp } from "../support/lab.js";
import { sha256Of } from "../support/sha256.js";
import { BenchContent } from "./files.js";
import { quantile, type Report } from "./report.js";

const MIB = 1024 * 1024;
const KILLS = Number(process.env.BENCH_KILLS ?? 50);
const CABLE_MBIT = 200;

interface Kill {
  kind: string;
  gapMs: number;
  serverRetransmissions: number;
  clientRetransmissions: number;
  resets: number;
  right: boolean;
  phases: Record<string, number>;
}

/** One download, one fault at a random moment of it; the longest time without a new byte on the client's wire. */
async function oneKill(control: Control, file: string, kind: string, fault: (owner: string) => unknown): Promise<Kill> {
  const capture = await Capture.start();
  const events = control.follow();
  const download = new Download("/large.bin");
  await download.reached(2 * MIB);
  const before = await control.connectionOf(download.port, (one) => one.protected);
  await delay(Math.random() * 300);
  await fault(before.owner);
  const event = await events.next("takeover", (one) => one.kind === "takeover" && one.connection === before.id, 20_000);
  const resumedAt = download.bytes;
  await download.reached(resumedAt + 4 * MIB);
  download.abort();
  const result = await download.done;
  events.close();
  const facts = factsOf(await capture.stop(), download.port);
  return {
    kind,
    gapMs: facts.longestGapUs / 1000,
    serverRetransmissions: facts.serverRetransmissions,
    clientRetransmissions: facts.clientRetransmissions,
    resets: facts.resets.filter((one) => !one.fromClient).length,
    right: event.result === "ok" && result.sha256 === (await sha256Of(file, 0, result.bytes)),
    phases: event.phases,
  };
}

/** The gap that a downloading client sees: agent killed, host cut off; idle lab, one at a time. */
export async function gap(): Promise<Report> {
  const content = new BenchContent({ "large.bin": 1024 * MIB });
  const kills: Kill[] = [];
  try {
    await labUp({ content: content.directory });
    await limitClientCable(CABLE_MBIT);
    const control = new Control(API);
    for (const [kind, fault] of Object.entries({ agent: killAgent, host: cutLink })) {
      for (let i = 0; i < KILLS; i++) {
        kills.push(await oneKill(control, `${content.directory}/large.bin`, kind, fault));
        await labHeal();
      }
    }
    control.close();
  } finally {
    await labDown();
    content.remove();
  }
  const gaps = (kind: string) => kills.filter((one) => one.kind === kind).map((one) => one.gapMs);
  return {
    name: "gap",
    measures: [
      {
        what: "agent killed, longest gap at the client, p50",
        value: quantile(gaps("agent"), 0.5),
        unit: "ms",
        atMost: 60,
      },
      {
        what: "agent killed, longest gap at the client, p99",
        value: quantile(gaps("agent"), 0.99),
        unit: "ms",
        atMost: 200,
      },
      {
        what: "host cut off, longest gap at the client, p50",
        value: quantile(gaps("host"), 0.5),
        unit: "ms",
        atMost: 250,
      },
      {
        what: "host cut off, longest gap at the client, p99",
        value: quantile(gaps("host"), 0.99),
        unit: "ms",
        atMost: 400,
      },
      { what: "takeovers", value: kills.length, unit: "" },
      { what: "takeovers with a wrong byte", value: kills.filter((one) => !one.right).length, unit: "", atMost: 0 },
      { what: "resets that a client saw", value: kills.reduce((sum, one) => sum + one.resets, 0), unit: "", atMost: 0 },
    ],
    raw: kills,
  };
}
