import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { makeContent, writeRandomFile } from "../lab/content.js";
import { Browser } from "../support/browser.js";
import { Capture, factsOf } from "../support/capture.js";
import { eventually } from "../support/eventually.js";
import { cutLink, killAgent, limitClientCable } from "../support/fault.js";
import { assertOneConnection, labTest } from "../support/fixture.js";
import { hostOf, runOn, VIP } from "../support/host.js";

const PORT = 8080;
const SECONDS = 30;
const FRAMES_A_SECOND = 25;
const MEGABITS = 24;
/** Of the client's cable: so the film is fetched nearly as long as it plays. Where it comes faster the browser itself breaks off and asks anew. */
const CABLE_MEGABITS = 36;
/** The client's receive buffer at most: what is on its way to it is not seconds. */
const BUFFER = 2 * 1024 * 1024;
const SIZE = { width: 384, height: 216 };
const IMAGES = 20;
/** How long the picture may stand still for want of bytes. For want of a core it may do so for longer. */
const STARVED_MS_MAX = 500;

const content = mkdtempSync("/var/tmp/baton-browser-");

/** Noise, of which nothing can be spared: the browser cannot hold all of it, and fetches it while it plays. */
function makeFilm(): number {
  const raw = `${content}/raw.yuv`;
  const film = `${content}/film.mp4`;
  const ffmpeg = (...words: string[]) => {
    const from = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", `${SIZE.width}x${SIZE.height}`];
    execFileSync("ffmpeg", ["-v", "error", ...from, "-r", `${FRAMES_A_SECOND}`, "-i", raw, ...words]);
  };
  writeRandomFile(raw, "film", SIZE.width * SIZE.height * 1.5 * FRAMES_A_SECOND * SECONDS);
  const rate = `${MEGABITS}M`;
  const constant = ["-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", rate];
  ffmpeg("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", ...constant, "-movflags", "+faststart", film);
  mkdirSync(`${content}/images`);
  ffmpeg("-frames:v", `${IMAGES}`, `${content}/images/%d.png`);
  rmSync(raw);
  return statSync(film).size;
}

/** Plays the film, and fetches an image a second meanwhile. What the page noticed is in `seen`. */
const PAGE = `<!doctype html><title>film</title>
<video muted autoplay src="film.mp4" width="${SIZE.width}"></video>
<script>
  const video = document.querySelector("video");
  const seen = { troubles: [], waitedMs: 0, starvedMs: 0 };
  let waitingSince, isStarved;
  for (const kind of ["error", "abort", "emptied"]) video.addEventListener(kind, () => seen.troubles.push(kind));
  video.addEventListener("waiting", () => {
    waitingSince ??= performance.now();
    isStarved = buffered() - video.currentTime < 1;
  });
  video.addEventListener("playing", () => {
    const waited = waitingSince === undefined || seen.begun === undefined ? 0 : performance.now() - waitingSince;
    seen.begun ??= performance.now();
    waitingSince = undefined;
    seen.waitedMs += waited;
    if (isStarved) seen.starvedMs += waited;
  });
  const buffered = () => video.buffered.length === 0 ? 0 : video.buffered.end(video.buffered.length - 1);
  const frames = () => video.getVideoPlaybackQuality().totalVideoFrames;
  const reached = (seconds) => new Promise((resolve) => {
    const look = () => { if (video.currentTime >= seconds) resolve({ at: video.currentTime, buffered: buffered() }); };
    video.addEventListener("timeupdate", look);
    look();
  });
  const ended = new Promise((resolve) => video.addEventListener("ended", resolve));
  let shown = 0;
  const showing = setInterval(() => {
    if (++shown === ${IMAGES}) clearInterval(showing);
    const image = document.body.appendChild(new Image(80));
    image.src = "images/" + shown + ".png";
  }, 1000);
  const images = () => Promise.all([...document.images].map(async (image) => {
    await image.decode();
    return image.naturalWidth;
  }));
</script>
`;

makeContent(content, { "1k.bin": 1024 });
const FILM_BYTES = makeFilm();
writeFileSync(`${content}/film.html`, PAGE);

const { test, lab } = labTest({ content }, () => rmSync(content, { recursive: true, force: true }));

for (const [what, fault] of Object.entries({ "agent is killed": killAgent, "host is cut off": cutLink })) {
  test(`a browser plays on when its server's ${what}`, async (t) => {
    await limitClientCable(CABLE_MEGABITS);
    await runOn("client", "sysctl", "-q", `net.ipv4.tcp_rmem=4096 131072 ${BUFFER}`);
    const capture = await Capture.start(`tcp port ${PORT}`);
    const browser = await Browser.start();
    await browser.open(`http://${VIP}:${PORT}/film.html`);
    await browser.evaluate("reached(5)");
    const film = await eventually("the film's connection", async () => {
      const found = (await lab.control.connections()).filter(({ object }) => object === "/film.mp4");
      return found.length === 1 && found[0];
    });
    t.true(film.protected, film.reason);
    t.true(film.bytesSent < FILM_BYTES * 0.75, `${film.bytesSent} of ${FILM_BYTES} bytes are sent already`);
    const port = Number(film.client.split(":").at(-1));
    await fault(film.owner);
    const died = await browser.evaluate<{ at: number; buffered: number }>("reached(0)");
    const heir = await lab.control.connectionOf(port, ({ owner, phase }) => owner !== film.owner && phase === "LIVE");
    t.is(heir.id, film.id);
    t.true(died.buffered < SECONDS - 5, `the browser has no more than ${died.buffered} s at ${died.at} s`);

    await browser.evaluate("ended.then(() => true)", (SECONDS + 20) * 1000);
    const seen = await browser.evaluate<{ troubles: string[]; waitedMs: number; starvedMs: number }>("seen");
    t.deepEqual(seen.troubles, []);
    t.true(seen.starvedMs <= STARVED_MS_MAX, `the picture stood still for ${seen.starvedMs} ms`);
    t.true((await browser.evaluate<number>("video.currentTime")) > SECONDS - 0.1, "to its end");
    const frames = await browser.evaluate<number>("frames()");
    t.is(frames, SECONDS * FRAMES_A_SECOND, "every frame was decoded");
    t.deepEqual(await browser.evaluate("images()"), Array(IMAGES).fill(SIZE.width), "every image is there");
    const fetches = [...browser.fetches.values()];
    const films = fetches.filter(({ url }) => url.endsWith("/film.mp4"));
    t.is(films.length, 1, JSON.stringify(films));
    t.deepEqual(
      fetches.filter(({ failure }) => failure !== undefined),
      [],
      "no request failed",
    );
    await browser.stop();

    const segments = await capture.stop();
    const facts = factsOf(segments, port);
    // The overload policy may move it on.
    t.deepEqual(facts.senders.slice(0, 2).map(hostOf), [film.owner, heir.owner]);
    const begun = segments.filter(({ fromClient, syn }) => fromClient && syn).map(({ client }) => client.port);
    for (const one of new Set(begun)) assertOneConnection(t, factsOf(segments, one));
    t.log(
      `lost at ${died.at.toFixed(1)} s, ${died.buffered.toFixed(1)} s fetched and ${(film.bytesSent / 1e6).toFixed()} of ${(FILM_BYTES / 1e6).toFixed()} MB sent; ` +
        `stood still for ${seen.waitedMs.toFixed()} ms, ${seen.starvedMs.toFixed()} of them for want of bytes; longest gap on the wire ${(facts.longestGapUs / 1000).toFixed()} ms`,
    );
  });
}
