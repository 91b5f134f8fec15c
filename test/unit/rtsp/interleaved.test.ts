import test from "ava";
import { framedLength, frameHeader, frameOf } from "../../../agent/protocols/rtsp/interleaved.js";
import { laneOf, play, REPORTING } from "../media/playing.js";
import { audioOf, videoOf } from "../media/synthetic.js";

test("frames", (t) => {
  t.is(frameOf(3, Buffer.from("ab")).toString("hex"), "240300026162");
  t.is(frameHeader(255, 65_535).toString("hex"), "24ffffff");
});

test("positions say how far the stream is", async (t) => {
  const pictures = videoOf(Array.from({ length: 12 }, (_, i) => [Buffer.alloc(1 + i * 300, 0x41)]));
  const sound = audioOf(Array.from({ length: 20 }, (_, i) => Buffer.alloc(i * 99)));
  const lanes = [laneOf(pictures.track), laneOf(sound.track)];
  for (const cname of ["", "a", "ab@c", "ä".repeat(200)]) {
    const reporting = { ...REPORTING, cname, reportUs: 90_000 };
    const { items, positions } = await play(lanes, [pictures.read, sound.read], undefined, reporting);
    let length = 0;
    for (const [at, position] of positions.entries()) {
      t.is(framedLength(position, cname), length);
      length += frameOf(0, items[at]?.bytes ?? Buffer.alloc(0)).length;
    }
  }
});
