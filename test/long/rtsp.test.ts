import { linkSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { eventually } from "../support/eventually.js";
import { killAgent } from "../support/fault.js";
import { makeFilm, PICTURES_A_SECOND } from "../support/film.js";
import { labTest } from "../support/fixture.js";
import { labHeal } from "../support/lab.js";
import { assertUnbroken, RtpCapture } from "../support/rtp_capture.js";
import { Receiver } from "../support/rtsp.js";

const directory = mkdtempSync(join(tmpdir(), "baton-rtsp-"));
const FILM = "film.mp4";
/** The same by the name that has a group, as test/lab/config.ts has it. */
const BROADCAST = "broadcast.mp4";
const SECONDS = 60;
const DEATHS = 3;
/** Of the film, between one server's return and the next one's death. */
const BETWEEN_MS = 5_000;
const MINUTES = 10;

const pictures = makeFilm(directory, FILM, SECONDS);
linkSync(join(directory, FILM), join(directory, BROADCAST));
const { test, lab } = labTest({ content: directory }, () => rmSync(directory, { recursive: true }));
/** The sound as it comes where nothing happens. */
let sound: string[] = [];

test(
  "a film of a minute where nothing happens",
  async (t) => {
    const received = await new Receiver(directory, FILM, "tcp").done;
    t.is(received.exit, 0, received.error);
    t.is(pictures.length, SECONDS * PICTURES_A_SECOND);
    t.deepEqual(received.pictures, pictures);
    sound = received.sound;
  },
  MINUTES * 60_000,
);

for (const transport of ["tcp", "udp", "udp_multicast"] as const) {
  test(
    `a film of a minute through ${DEATHS} deaths: ${transport}`,
    async (t) => {
      const capture = await RtpCapture.start();
      const receiver = new Receiver(directory, transport === "udp_multicast" ? BROADCAST : FILM, transport);
      for (let deaths = 0; deaths < DEATHS; deaths++) {
        const { id, owner } = await eventually("it plays", async () => {
          const all = await lab.control.connections({ protocol: "rtsp" });
          return all.find(({ bundle, id: one, phase }) => bundle === one && phase === "LIVE");
        });
        await delay(BETWEEN_MS);
        killAgent(owner);
        await eventually("another server has it", async () => {
          const { connection } = await lab.control.connection(id);
          return connection?.owner !== owner && connection?.phase === "LIVE";
        });
        await labHeal();
      }
      const received = await receiver.done;
      t.is(received.exit, 0, received.error);
      t.deepEqual(received.pictures, pictures, "every picture");
      t.deepEqual(received.sound, sound, "every sound");
      const { flows, handovers } = await capture.stop();
      t.is(handovers.length, transport === "tcp" ? 0 : DEATHS);
      for (const flow of flows) assertUnbroken(t, flow);
      t.is(flows.length, transport === "tcp" ? 0 : 2);
      for (const { gapMs } of handovers) t.log(`${gapMs} ms from the last packet to the first`);
    },
    MINUTES * 60_000,
  );
}
