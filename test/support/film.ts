import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { hashesIn } from "./rtsp.js";

export const PICTURES_A_SECOND = 25;

/** Makes a film with B-frames and sound. @returns hashes of its decoded pictures */
export function makeFilm(directory: string, name: string, seconds: number): string[] {
  const video = ["-f", "lavfi", "-i", `testsrc2=size=640x360:rate=${PICTURES_A_SECOND}:duration=${seconds}`];
  const audio = ["-f", "lavfi", "-i", `sine=frequency=440:sample_rate=44100:duration=${seconds}`];
  const h264 = [
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-b:v",
    "1500k",
    "-g",
    "50",
    "-bf",
    "2",
    "-pix_fmt",
    "yuv420p",
  ];
  const path = join(directory, name);
  ffmpeg(...video, ...audio, ...h264, "-c:a", "aac", "-b:a", "96k", "-movflags", "+faststart", path);
  ffmpeg("-i", path, "-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", `${path}.v`);
  return hashesIn(`${path}.v`);
}

/** A film's sound as it is sent: its access units, one behind the other. */
export function soundOf(path: string): Buffer {
  return execFileSync("ffmpeg", ["-v", "error", "-i", path, "-map", "0:a", "-c", "copy", "-f", "data", "-"]);
}

/** A film again and again, `times` in all; what is in it is copied. */
export function repeatFilm(directory: string, name: string, times: number, to: string): void {
  const input = ["-stream_loop", String(times - 1), "-i", join(directory, name)];
  ffmpeg(...input, "-c", "copy", "-movflags", "+faststart", join(directory, to));
}

function ffmpeg(...options: string[]): void {
  execFileSync("nice", ["-n", "5", "ffmpeg", "-v", "error", "-y", ...options]);
}
