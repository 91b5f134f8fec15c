import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Control } from "../support/control.js";
import { eventually } from "../support/eventually.js";
import { killAgent } from "../support/fault.js";
import { makeFilm, repeatFilm } from "../support/film.js";
import { spawnOn, VIP } from "../support/host.js";
import { API, labDown, labHeal, labUp } from "../support/lab.js";
import { RtpCapture, type RtpFacts, type RtpHandover } from "../support/rtp_capture.js";
import { quantile, type Report } from "./report.js";

const KILLS = Number(process.env.BENCH_KILLS ?? 20);
const FILM = "film.mp4";
/** Twenty seconds of it again and again: longer than the kills can take. */
const SECONDS = 20;
const TIMES = 180;

/** The pause in a film by UDP when its agent is killed: one receiver, one kill after the other. */
export async function media(): Promise<Report> {
  const directory = mkdtempSync(join(tmpdir(), "baton-media-"));
  const seen: { flows: RtpFacts[]; handovers: RtpHandover[] } = { flows: [], handovers: [] };
  try {
    makeFilm(directory, "part.mp4", SECONDS);
    repeatFilm(directory, "part.mp4", TIMES, FILM);
    await labUp({ content: directory });
    const control = new Control(API);
    const capture = await RtpCapture.start();
    const command = ["ffmpeg", "-v", "error", "-rtsp_transport", "udp", "-i", `rtsp://${VIP}/${FILM}`];
    const receiver = spawnOn("client", [...command, "-c", "copy", "-f", "null", "-"], { stdio: "ignore" });
    for (let kills = 0; kills < KILLS; kills++) {
      const { id, owner } = await eventually("it plays", async () => {
        const all = await control.connections({ protocol: "rtsp" });
        const plays = all.some(({ transport, bytesSent }) => transport === "udp" && Number(bytesSent) > 100_000);
        return plays && all.find(({ bundle, id: one, phase }) => bundle === one && phase === "LIVE");
      });
      await delay(500 + Math.random() * 500);
      const events = control.follow();
      killAgent(owner);
      await events.next("takeover", (one) => one.kind === "takeover" && one.connection === id, 20_000);
      events.close();
      await labHeal();
    }
    receiver.kill("SIGKILL");
    Object.assign(seen, await capture.stop());
    control.close();
  } finally {
    await labDown();
    rmSync(directory, { recursive: true });
  }
  const gaps = seen.handovers.map(({ gapMs }) => gapMs);
  const sum = (count: (flow: RtpFacts) => number) => seen.flows.reduce((total, flow) => total + count(flow), 0);
  return {
    name: "media",
    measures: [
      { what: "agent killed, pause in a film by UDP, p50", value: quantile(gaps, 0.5), unit: "ms", atMost: 100 },
      { what: "agent killed, pause in a film by UDP, longest", value: quantile(gaps, 1), unit: "ms" },
      { what: "takeovers", value: gaps.length, unit: "", atLeast: KILLS },
      { what: "RTP packets", value: sum(({ packets }) => packets), unit: "" },
      { what: "RTP packets that never came", value: sum(({ missing }) => missing.length), unit: "", atMost: 0 },
      {
        what: "RTP packets that came again, for a takeover",
        value: sum(({ duplicates }) => duplicates) / gaps.length,
        unit: "",
      },
      {
        what: "sources for a track",
        value: Math.max(...seen.flows.map(({ ssrcs }) => ssrcs.length)),
        unit: "",
        atMost: 1,
      },
    ],
    raw: { handovers: seen.handovers, flows: seen.flows },
  };
}
