import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../support/eventually.js";
import { makeFilm, soundOf } from "../support/film.js";
import { labTest } from "../support/fixture.js";
import { type Kept, receiveByGstreamer, receiveByMpv, type Transport } from "../support/receivers.js";
import { takeOver } from "../support/takeover.js";

const directory = mkdtempSync(join(tmpdir(), "baton-receivers-"));
const FILM = "film.mp4";
/** As test/lab/config.ts has it. Its description names the group, and GStreamer takes it from there alone. */
const GROUPS_FILM = "broadcast.mp4";
/** Of an AAC access unit, and more. */
const UNIT_BYTES = 1_024;
const pictures = makeFilm(directory, FILM, 8);
const sound = soundOf(join(directory, FILM));
copyFileSync(join(directory, FILM), join(directory, GROUPS_FILM));
const { test, lab } = labTest({ content: directory }, () => rmSync(directory, { recursive: true }));

const receivers: Record<string, (directory: string, name: string, transport: Transport) => Promise<Kept>> = {
  mpv: receiveByMpv,
  GStreamer: receiveByGstreamer,
};

for (const [name, receive] of Object.entries(receivers)) {
  for (const transport of ["tcp", "udp", "udp_multicast"] as const) {
    test(`${name} receives a film whose server dies: ${transport}`, async (t) => {
      const received = receive(directory, transport === "udp_multicast" ? GROUPS_FILM : FILM, transport);
      const connection = await eventually("it plays", async () => {
        const all = await lab.control.connections({ protocol: "rtsp" });
        const plays = all.some(({ bytesSent }) => Number(bytesSent) > 300_000);
        return plays && all.find(({ bundle, id }) => bundle === id);
      });
      await takeOver(t, lab.control, connection.id);
      const kept = await received;
      t.true(kept.whole, kept.said);
      // Not the lists: two hundred hashes say nothing where they differ.
      t.is(kept.pictures.length, pictures.length, kept.said);
      t.is(
        kept.pictures.findIndex((picture, at) => picture !== pictures[at]),
        -1,
      );
      if (receive === receiveByMpv) return;
      // What is heard before the first picture, an access unit that a decoder begins with, is not sent.
      t.true(kept.sound.length > sound.length - UNIT_BYTES, `${kept.sound.length} of ${sound.length} bytes`);
      t.true(kept.sound.equals(sound.subarray(-kept.sound.length)), "it is the end of what is sent");
    });
  }
}
