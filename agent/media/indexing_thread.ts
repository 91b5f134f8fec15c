import { read } from "node:fs";
import { setPriority } from "node:os";
import { promisify } from "node:util";
import { parentPort } from "node:worker_threads";
import { MediaError, type MediaProblem } from "./error.js";
import { readMovie } from "./movie.js";
import { type PortableMovie, portable } from "./portable_movie.js";

/** A file that this process has open. */
export interface IndexRequest {
  fd: number;
  size: number;
}

export type IndexAnswer =
  | { kind: "movie"; movie: PortableMovie }
  /** A MediaError. */
  | { kind: "problem"; problem: MediaProblem; message: string }
  /** What reading threw. */
  | { kind: "failed"; message: string };

/** What runs in the thread of Indexer: one request after the other, an answer to each. */
const NICE = 10;
const readAsync = promisify(read);
const port = parentPort;
if (port) {
  setPriority(NICE); // of this thread alone, and before media that are due
  port.on("message", async (request: IndexRequest) => {
    const { answer, moved } = await answerTo(request);
    port.postMessage(answer, moved);
  });
}

async function answerTo({ fd, size }: IndexRequest): Promise<{ answer: IndexAnswer; moved: ArrayBuffer[] }> {
  try {
    const readFile = async (position: number, length: number) => {
      const { bytesRead, buffer } = await readAsync(fd, Buffer.allocUnsafe(length), 0, length, position);
      return buffer.subarray(0, bytesRead);
    };
    const { movie, moved } = portable(await readMovie(readFile, size));
    return { answer: { kind: "movie", movie }, moved: moved as ArrayBuffer[] };
  } catch (error) {
    const { message } = error as Error;
    const answer: IndexAnswer =
      error instanceof MediaError ? { kind: "problem", problem: error.problem, message } : { kind: "failed", message };
    return { answer, moved: [] };
  }
}
