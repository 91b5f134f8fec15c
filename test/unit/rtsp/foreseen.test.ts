import "../../support/quiet.js";
import test from "ava";
import { ForeseenFilms } from "../../../agent/protocols/rtsp/foreseen.js";
import { encodeRtspSection, type RtspSession } from "../../../proto/sections.js";
import { eventually } from "../../support/eventually.js";

function scene(heldMs = 60_000) {
  const open: string[] = [];
  const uses = (name: string) => {
    open.push(name);
    let isOpen = true;
    return {
      fd: 3,
      close: () => {
        if (isOpen) open.splice(open.indexOf(name), 1);
        isOpen = false;
      },
    };
  };
  const films = {
    again: async (objectId: string, validator: string) => {
      if (objectId === "/gone.mp4") throw new Error("no such film");
      const { close } = uses(objectId);
      const movie = { tracks: [], durationUs: 0 };
      return { objectId, validator, movie, read: async () => Buffer.of(), hold: () => uses(objectId), close };
    },
  };
  const foreseen = new ForeseenFilms(films, heldMs);
  const session = (objectId: string, validator: string): RtspSession => ({
    ...{ id: "1", base: "rtsp://baton.test/", objectId, validator, cname: "c", tracks: [] },
    ...{ playing: true, ended: false, leads: false },
  });
  const section = { requests: 0, framed: 0, past: [], user: "", failures: 0 };
  const foresee = (objectId?: string, validator = "sha256:1") =>
    foreseen.foresee(encodeRtspSection({ ...section, ...(objectId ? { session: session(objectId, validator) } : {}) }));
  return { open, foresee };
}

test("a film that another server plays is open until nobody plays it any more", async (t) => {
  const { open, foresee } = scene(200);
  t.is(await foresee("/a.mp4"), "ready");
  t.is(await foresee("/a.mp4"), "ready");
  t.is(await foresee("/b.mp4"), "ready");
  t.deepEqual(open, ["/a.mp4", "/b.mp4"]);
  await eventually("they are closed", () => open.length === 0);
});

test("of many films those seen last are open", async (t) => {
  const { open, foresee } = scene();
  for (let at = 0; at < 300; at++) t.is(await foresee(`/${at}.mp4`), "ready");
  t.is(open.length, 256);
  t.is(open[0], "/44.mp4");
});

test("what cannot be gone on with here is not ready; where there is no film nothing has to be", async (t) => {
  const { open, foresee } = scene();
  t.is(await foresee("/gone.mp4"), "unready");
  t.is(await foresee("/a.mp4", ""), "unready");
  t.is(await foresee(), "nothing");
  t.deepEqual(open, []);
});
