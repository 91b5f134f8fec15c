import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { beginningOf, type Read, reportPacket, Schedule } from "../../../agent/media/index.js";
import { describe, payloadTypeOf } from "../../../agent/protocols/rtsp/sdp.js";
import { testDirectory } from "../../support/directory.js";
import { eventually } from "../../support/eventually.js";
import { elementary, ffmpeg, makeClip, openClip } from "../media/clip.js";
import { laneOf, REPORTING } from "../media/playing.js";
import { adts, annexB } from "../media/receiver.js";

const HOST = "127.0.0.1";
/** Faster than it is meant to be played. */
const SPEED = 3;

/** Four ports in a row that nobody has, the first one even. */
async function freePorts(): Promise<number> {
  for (;;) {
    const base = 20_000 + 2 * Math.floor(Math.random() * 5_000);
    const sockets = Array.from({ length: 4 }, () => createSocket("udp4"));
    const bound = await Promise.allSettled(
      sockets.map((socket, i) => {
        socket.bind(base + i, HOST);
        return once(socket, "listening");
      }),
    );
    for (const socket of sockets) socket.close();
    if (bound.every(({ status }) => status === "fulfilled")) return base;
  }
}

/** Whether somebody on this machine receives there. */
function isBound(port: number): boolean {
  return unread(port) !== undefined;
}

/** Bytes that lie unread at the port, as the kernel counts them; undefined: nobody receives there. */
function unread(port: number): number | undefined {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")} `;
  const line = readFileSync("/proc/net/udp", "latin1")
    .split("\n")
    .find((one) => one.includes(local));
  return line === undefined
    ? undefined
    : Number.parseInt(/ [0-9A-F]+:([0-9A-F]+) /.exec(line.split(local)[1]!.slice(16))![1]!, 16);
}

const slices = (stream: Buffer) => annexB(stream).filter((unit) => [1, 5].includes(unit.readUInt8(0) & 0x1f));

test("another receiver gets every picture and every sound by UDP, from the description alone", async (t) => {
  const directory = testDirectory(t);
  const at = (name: string) => join(directory, name);
  const path = await makeClip(directory, "a.mp4");
  await ffmpeg(["-i", path, ...elementary(at("true"))]);
  const { movie, read, file } = await openClip(path);
  const port = await freePorts();
  const sdp = describe(movie, { id: 1, version: 1, title: "", origin: HOST }).toString();
  const own = sdp.replace("c=IN IP4 0.0.0.0", `c=IN IP4 ${HOST}`);
  writeFileSync(at("x.sdp"), own.replace("m=video 0", `m=video ${port}`).replace("m=audio 0", `m=audio ${port + 2}`));
  const input = ["-v", "error", "-y", "-protocol_whitelist", "file,udp,rtp", "-i", at("x.sdp")];
  const receiver = spawn("nice", ["-n", "10", "ffmpeg", ...input, ...elementary(at("got"))], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  t.teardown(() => receiver.kill("SIGKILL"));
  const ended = once(receiver, "exit");
  await eventually("the receiver listens", () => isBound(port + 3));
  const socket = createSocket("udp4");
  t.teardown(() => socket.close());
  const lanes = movie.tracks.map((track) => laneOf(track, { payloadType: payloadTypeOf(track), payloadMax: 1_400 }));
  const schedule = new Schedule(lanes, lanes.map(beginningOf), REPORTING);
  await sendAll(schedule, read, (lane, kind, bytes) =>
    socket.send(bytes, port + 2 * lane + Number(kind === "rtcp"), HOST),
  );
  // A goodbye that overtakes the last packet ends the receiver before it has that.
  await eventually("the receiver has read everything", () => [port, port + 2].every((one) => unread(one) === 0));
  for (const [lane, position] of schedule.position.entries()) {
    const { stream } = lanes[lane] as (typeof lanes)[number];
    const { packets, octets } = position;
    const said = { ssrc: stream.start.ssrc, wallUs: REPORTING.wallUs, timestamp: 0, packets, octets };
    socket.send(reportPacket(said, REPORTING.cname, true), port + 2 * lane + 1, HOST);
  }
  const timer = setTimeout(() => receiver.kill("SIGINT"), 10_000);
  await ended;
  clearTimeout(timer);
  t.deepEqual(slices(readFileSync(at("got.264"))).map(String), slices(readFileSync(at("true.264"))).map(String));
  const [got, sent] = [adts(readFileSync(at("got.aac"))), adts(readFileSync(at("true.aac")))];
  t.deepEqual(got.map(String), sent.map(String));
  await file.close();
});

async function sendAll(
  schedule: Schedule,
  read: Read,
  send: (lane: number, kind: "rtp" | "rtcp", bytes: Buffer) => void,
): Promise<void> {
  const began = performance.now();
  while (schedule.nextUs !== undefined) {
    const now = (performance.now() - began) * 1_000 * SPEED;
    for (const wanted of schedule.wanted(now)) schedule.supply(wanted, await read(wanted.offset, wanted.size));
    for (const { lane, kind, bytes } of schedule.due(now, 50)) send(lane, kind, bytes);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
