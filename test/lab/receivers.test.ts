import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../support/eventually.js";
import { makeFilm } from "../support/film.js";
import { labTest } from "../support/fixture.js";
import { receiveByMpv } from "../support/receivers.js";
import { takeOver } from "../support/takeover.js";

const directory = mkdtempSync(join(tmpdir(), "baton-receivers-"));
const FILM = "film.mp4";
const pictures = makeFilm(directory, FILM, 8);
const { test, lab } = labTest({ content: directory }, () => rmSync(directory, { recursive: true }));

for (const transport of ["tcp", "udp"] as const) {
  test(`mpv receives a film whose server dies: ${transport}`, async (t) => {
    const received = receiveByMpv(directory, FILM, transport);
    const connection = await eventually("it plays", async () => {
      const all = await lab.control.connections({ protocol: "rtsp" });
      const plays = all.some(({ bytesSent }) => Number(bytesSent) > 300_000);
      return plays && all.find(({ bundle, id }) => bundle === id);
    });
    await takeOver(t, lab.control, connection.id);
    const { exit, said, ...kept } = await received;
    t.is(exit, 0, said);
    t.deepEqual(kept.pictures, pictures, said);
  });
}
