import { join } from "node:path";
import { closeWithTest } from "./cleanup.js";
import { spawnOn, VIP } from "./host.js";
import { hashesIn } from "./rtsp.js";

/** What another receiver than ffmpeg has of a film. */
export interface Kept {
  exit: number | null;
  /** What it has said. */
  said: string;
  /** Hashes of the decoded pictures. */
  pictures: string[];
}

type Transport = "tcp" | "udp";

/** mpv, which plays no sound. */
export async function receiveByMpv(directory: string, name: string, transport: Transport): Promise<Kept> {
  const prefix = join(directory, `mpv-${transport}`);
  const quiet = ["--no-config", "--msg-level=all=warn", "--no-audio", `--rtsp-transport=${transport}`];
  const output = [`--o=${prefix}.v`, "--of=framemd5", "--ovc=rawvideo"];
  const { exit, said } = await ended(["mpv", ...quiet, ...output, `rtsp://${VIP}/${name}`]);
  return { exit, said, pictures: hashesIn(`${prefix}.v`) };
}

function ended(command: string[]): Promise<{ exit: number | null; said: string }> {
  const child = spawnOn("client", command, { stdio: ["ignore", "pipe", "pipe"] });
  closeWithTest({ close: () => void child.kill("SIGKILL") });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (text: Buffer) => {
      said += text.toString();
    });
  }
  return new Promise((resolve) => child.once("close", (exit) => resolve({ exit, said })));
}
