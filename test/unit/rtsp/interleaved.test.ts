import test from "ava";
import { frameOf } from "../../../agent/protocols/rtsp/interleaved.js";

test("frames", (t) => {
  t.is(frameOf(3, Buffer.from("ab")).toString("hex"), "240300026162");
  t.is(frameOf(255, Buffer.alloc(65_535)).toString("hex", 0, 5), "24ffffff00");
});
