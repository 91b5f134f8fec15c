import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { Control } from "../support/control.js";
import { Dialer } from "../support/dialer.js";
import { pidOf } from "../support/host.js";
import { get, ResponseReader } from "../support/http.js";
import { API, labDown, labUp } from "../support/lab.js";
import { BenchContent } from "./files.js";
import type { Report } from "./report.js";

const FLOWS = Number(process.env.BENCH_FLOWS ?? 10_000);
const AT_ONCE = 200;

/** Resident memory of a process, MB. */
export function residentMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;
}

async function open(dialer: Dialer): Promise<Socket> {
  const { socket } = await dialer.connect();
  socket.write(get("/1k.bin"));
  await new ResponseReader(socket).next();
  return socket;
}

/** What the controller needs while so many kept-alive connections are there, spread over three servers. */
export async function memory(): Promise<Report> {
  const content = new BenchContent();
  try {
    await labUp({ content: content.directory });
    const control = new Control(API);
    const dialer = await Dialer.start();
    const sockets: Socket[] = [];
    while (sockets.length < FLOWS)
      sockets.push(...(await Promise.all(Array.from({ length: AT_ONCE }, () => open(dialer)))));
    const flows = (await control.status()).connections;
    const value = residentMb(pidOf("lb1", "controller"));
    dialer.close();
    control.close();
    return {
      name: "memory",
      measures: [
        { what: "connections", value: flows, unit: "", atLeast: FLOWS },
        { what: "controller's resident memory", value, unit: "MB", atMost: 200 },
      ],
      raw: { sockets: sockets.length },
    };
  } finally {
    await labDown();
    content.remove();
  }
}
