import { execFile } from "node:child_process";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Movie, type Read, readMovie } from "../../../agent/media/index.js";

const run = promisify(execFile);

/** Two seconds of a test picture, 25 a second, with B-frames and a sync sample each half second, and of a sound at 44.1 kHz. */
const PICTURES = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=2"];
const SOUND = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=2"];
const H264 = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "12", "-pix_fmt", "yuv420p", "-threads", "1"];
const AAC = ["-c:a", "aac", "-b:a", "96k"];

/** @param more arguments of ffmpeg, behind those for the coding */
export async function makeClip(directory: string, name: string, more: string[] = []): Promise<string> {
  return encode(directory, name, [...PICTURES, ...SOUND, ...H264, ...AAC, ...more]);
}

export async function encode(directory: string, name: string, options: string[]): Promise<string> {
  const path = join(directory, name);
  await ffmpeg([...options, path]);
  return path;
}

/** Arguments that have ffmpeg write pictures (Annex B) and sound (ADTS) as they are, to `prefix` and .264, .aac. */
export function elementary(prefix: string): string[] {
  const pictures = ["-map", "0:v", "-c", "copy", "-f", "h264", `${prefix}.264`];
  return [...pictures, "-map", "0:a", "-c", "copy", "-f", "adts", `${prefix}.aac`];
}

export async function ffmpeg(options: string[]): Promise<void> {
  await run("nice", ["-n", "10", "ffmpeg", "-v", "error", "-y", ...options]);
}

/** What ffprobe knows of each packet of a stream ("v" or "a"), in decode order. */
export async function probe(path: string, stream: string): Promise<Array<Record<string, string>>> {
  const wanted = ["-show_entries", "packet=pts,dts,size,pos,flags", "-of", "json"];
  const { stdout } = await run("ffprobe", ["-v", "error", "-select_streams", stream, ...wanted, path]);
  return JSON.parse(stdout).packets;
}

/** A file with its index. */
export interface Clip {
  read: Read;
  size: number;
  movie: Movie;
  /** Bytes that `read` has given out. */
  bytesRead(): number;
}

export async function openClip(path: string): Promise<Clip & { file: FileHandle }> {
  const file = await open(path);
  const { size } = await file.stat();
  let count = 0;
  const read: Read = async (position, length) => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
    count += bytesRead;
    return buffer.subarray(0, bytesRead);
  };
  try {
    return { file, read, size, movie: await readMovie(read, size), bytesRead: () => count };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** A file that lies in memory. */
export function readerOf(bytes: Buffer): Read {
  return async (position, length) => bytes.subarray(position, position + length);
}
