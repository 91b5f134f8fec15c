import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { closeWithTest } from "./cleanup.js";
import { spawnOn, VIP } from "./host.js";
import { hashesIn } from "./rtsp.js";

/** What another receiver than ffmpeg has of a film. */
export interface Kept {
  /** Whether it came to the film's end and complained of nothing on the way. */
  whole: boolean;
  /** What it has said. */
  said: string;
  /** Hashes of the decoded pictures. */
  pictures: string[];
  /** As it was sent: access units, one behind the other. Empty with who plays none. */
  sound: Buffer;
}

export type Transport = "tcp" | "udp" | "udp_multicast";

const GSTREAMER_PROTOCOLS = { tcp: "tcp", udp: "udp", udp_multicast: "udp-mcast" };

/** GStreamer's rtspsrc; the pictures that it keeps are decoded by ffmpeg. */
export async function receiveByGstreamer(directory: string, name: string, transport: Transport): Promise<Kept> {
  const prefix = join(directory, `gstreamer-${transport}`);
  const [video, audio] = [`${prefix}.h264`, `${prefix}.aac`];
  const source = ["rtspsrc", `location=rtsp://${VIP}/${name}`, `protocols=${GSTREAMER_PROTOCOLS[transport]}`];
  const pictures = ["film.", "!", "rtph264depay", "!", "video/x-h264,stream-format=byte-stream,alignment=au"];
  const sound = ["film.", "!", "rtpmp4gdepay"];
  const pipeline = [
    ...[...source, "name=film"],
    ...[...pictures, "!", "filesink", `location=${video}`],
    ...[...sound, "!", "filesink", `location=${audio}`],
  ];
  const { said } = await ended(["gst-launch-1.0", ...pipeline]);
  if (existsSync(video)) {
    const options = ["-v", "error", "-y", "-i", video, "-fps_mode", "passthrough", "-f", "framemd5", `${prefix}.v`];
    execFileSync("ffmpeg", options, { stdio: "ignore" });
  }
  return {
    ...{ whole: cameToTheEnd(said), said, pictures: hashesIn(`${prefix}.v`) },
    sound: existsSync(audio) ? readFileSync(audio) : Buffer.alloc(0),
  };
}

/**
 * Its exit code will not do: behind the end it asks for a pause, on busy cores cancels that before a byte of it has left ("Could not
 * send message"), and exits with 1, once in some fifty films that nothing disturbs.
 */
function cameToTheEnd(said: string): boolean {
  const end = said.indexOf("Got EOS from element");
  return end >= 0 && !said.slice(0, end).includes("ERROR:");
}

/** mpv, which plays no sound. */
export async function receiveByMpv(directory: string, name: string, transport: Transport): Promise<Kept> {
  const prefix = join(directory, `mpv-${transport}`);
  const quiet = ["--no-config", "--msg-level=all=warn", "--no-audio", `--rtsp-transport=${transport}`];
  const output = [`--o=${prefix}.v`, "--of=framemd5", "--ovc=rawvideo"];
  const { exit, said } = await ended(["mpv", ...quiet, ...output, `rtsp://${VIP}/${name}`]);
  return { whole: exit === 0, said, pictures: hashesIn(`${prefix}.v`), sound: Buffer.alloc(0) };
}

function ended(command: string[]): Promise<{ exit: number | null; said: string }> {
  // Through one pipe: what is said before the end is to be told from what is said behind it.
  const joined = ["sh", "-c", 'exec "$@" 2>&1', "sh", ...command];
  const child = spawnOn("client", joined, { stdio: ["ignore", "pipe", "inherit"] });
  closeWithTest({ close: () => void child.kill("SIGKILL") });
  let said = "";
  child.stdout?.on("data", (text: Buffer) => {
    said += text.toString();
  });
  return new Promise((resolve) => child.once("close", (exit) => resolve({ exit, said })));
}
