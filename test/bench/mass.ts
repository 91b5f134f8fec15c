import { createHash } from "node:crypto";
import type { Socket } from "node:net";
import { Control } from "../support/control.js";
import { Dialer } from "../support/dialer.js";
import { eventually } from "../support/eventually.js";
import { killAgent } from "../support/fault.js";
import { pidOf } from "../support/host.js";
import { get, ResponseReader } from "../support/http.js";
import { API, labDown, labUp } from "../support/lab.js";
import { sha256Of } from "../support/sha256.js";
import { BenchContent } from "./files.js";
import { residentMb } from "./memory.js";
import { quantile, type Report } from "./report.js";

const WANTED = Number(process.env.BENCH_CONNECTIONS ?? 2000);
const FILE_BYTES = 100 * 1024;
const READ_FIRST = 8 * 1024;
const AT_ONCE = 200;

interface Reader {
  socket: Socket;
  reader: ResponseReader;
  hash: ReturnType<typeof createHash>;
}

/** Opens a connection, asks for a file and stops reading in the middle of the body. */
export async function openHalf(dialer: Dialer): Promise<[port: number, Reader]> {
  const { socket, localPort } = await dialer.connect();
  const reader = new ResponseReader(socket);
  socket.write(get("/100k.bin"));
  await reader.head();
  const hash = createHash("sha256");
  await reader.read(READ_FIRST, hash);
  return [localPort, { socket, reader, hash }];
}

/** Every connection of one dead server is in the middle of a response; how long until the last one has its heir. */
export async function mass(): Promise<Report> {
  const content = new BenchContent();
  try {
    await labUp({ content: content.directory });
    const control = new Control(API);
    const dialer = await Dialer.start();
    const readers = new Map<number, Reader>();
    const dead = new Map<string, number>();
    while (dead.size < WANTED) {
      const batch = await Promise.all(Array.from({ length: AT_ONCE }, () => openHalf(dialer)));
      for (const [port, reader] of batch) readers.set(port, reader);
      // Which server a connection got is the hash's decision; those of the others are let go.
      for (const one of await control.connections()) {
        const port = Number(one.client.slice(one.client.lastIndexOf(":") + 1));
        if (one.owner === "s1" && one.protected && dead.size < WANTED) dead.set(one.id, port);
        else if (one.owner !== "s1") {
          readers.get(port)?.socket.destroy();
          readers.delete(port);
        }
      }
    }
    const agentMb = residentMb(pidOf("s1", "agent"));

    const events = control.follow();
    const killedMs = Date.now();
    killAgent("s1");
    const taken = () => events.seen.filter((one) => one.kind === "takeover" && dead.has(one.connection));
    await eventually("an event for every connection", () => taken().length >= dead.size, 60_000, 50);
    const ok = taken().filter((one) => one.result === "ok");
    const times = ok.map((one) => Date.parse(one.time) - killedMs);

    const wanted = await sha256Of(`${content.directory}/100k.bin`);
    let right = 0;
    for (const port of dead.values()) {
      const { reader, hash, socket } = readers.get(port)!;
      await reader.read(FILE_BYTES - READ_FIRST, hash);
      if (hash.digest("hex") === wanted) right++;
      socket.destroy();
    }
    events.close();
    dialer.close();
    control.close();
    return {
      name: "mass",
      measures: [
        { what: "connections of the dead server", value: dead.size, unit: "" },
        { what: "taken over", value: ok.length, unit: "", atLeast: dead.size },
        { what: "bodies that were right in the end", value: right, unit: "", atLeast: dead.size },
        { what: "from the kill to the last takeover", value: Math.max(...times) / 1000, unit: "s", atMost: 1 },
        { what: "from the kill to half of the takeovers", value: quantile(times, 0.5) / 1000, unit: "s" },
        { what: "agent's resident memory with those connections", value: agentMb, unit: "MB", atMost: 150 },
      ],
      raw: { times, notOk: taken().filter((one) => one.result !== "ok") },
    };
  } finally {
    await labDown();
    content.remove();
  }
}
