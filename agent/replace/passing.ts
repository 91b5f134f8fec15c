import { setTimeout as sleep } from "node:timers/promises";
import { BatonError } from "../../proto/errors.js";
import { Channel } from "../channel.js";
import type { LiveConnection } from "../connection/connection.js";
import type { PassedOpen } from "../connection/passed.js";
import type { ConnectionTable } from "../connection/table.js";
import type { Listener, Native } from "../native/api.js";
import { type Arrived, encodePassed, type Passage, socketsOf } from "./passage.js";

/** Connections, or listeners, under way at a time: each of them stands still for its passage, so they are few. */
const AT_ONCE = 16;
/** What has just begun with something that could not be gone on with may finish it first. */
const BUSY_MS = 500;
const BUSY_POLL_MS = 20;
/** A next worker that does not take one in this time has a fault. */
const ARRIVAL_MS = 10_000;

/** A listening socket and the address that it is for. */
export interface PassedListener {
  address: string;
  port: number;
  listener: Listener;
}

/**
 * The end of the worker that is replaced: passes its listening sockets, so that what waits in their backlogs is not lost, and then
 * every live connection, to the next worker.
 *
 *   connect ─► listeners ─► connections, some at a time: stop reading and writing ─► state and descriptors ─► arrived ─► closed here
 *
 * A descriptor that is closed here is another process's by then, so that the kernel takes it for nothing.
 */
export class Passing {
  private readonly waiting = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  private numbers = 0;

  private constructor(
    private readonly native: Native,
    private readonly descriptors: string,
    private readonly channel: Channel<Arrived, Passage>,
  ) {
    channel.onMessage(({ number }) => {
      this.waiting.get(number)?.resolve();
    });
    void channel.closed.then(() => {
      for (const { reject } of this.waiting.values()) reject(gone());
    });
  }

  /** Throws AGENT_UNAVAILABLE where nobody is there to take anything. */
  static async begin(native: Native, state: string): Promise<Passing> {
    const { passages, descriptors } = socketsOf(state);
    return new Passing(native, descriptors, await Channel.connect<Arrived, Passage>(passages));
  }

  async passListeners(listeners: readonly PassedListener[]): Promise<void> {
    const left = [...listeners];
    const passOn = async () => {
      for (let next = left.shift(); next; next = left.shift()) {
        const { address, port, listener } = next;
        const fd = listener.detach();
        await this.pass((number) => ({ number, listener: { address, port } }), [fd]);
        this.native.closeFd(fd);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, passOn));
  }

  /** Nothing may be added to the table meanwhile. Rejects where the next worker is gone. @returns how many were passed */
  async passConnections(table: ConnectionTable): Promise<number> {
    const bundles = bundlesOf(table);
    bundles.sort((a, b) => Number(isBusy(b)) - Number(isBusy(a))); // those last, which is first here
    const deadline = performance.now() + BUSY_MS;
    let passed = 0;
    const passOn = async () => {
      for (let next = bundles.pop(); next; next = bundles.pop()) passed += await this.passBundle(next, deadline);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, passOn));
    return passed;
  }

  close(): void {
    this.channel.close();
  }

  /** All of them at one instant, the last one last. @returns how many had not ended */
  private async passBundle(connections: LiveConnection[], deadline: number): Promise<number> {
    while (isBusy(connections) && performance.now() < deadline) await sleep(BUSY_POLL_MS);
    const open: PassedOpen[] = [];
    for (const connection of connections) {
      const one = await letGo(connection, deadline);
      if (one) open.push(one);
    }
    if (open.length === 0) return 0;
    const messages = open.map((one) =>
      encodePassed(
        one,
        one.files.map(({ offset }) => offset),
        one.sources.length,
      ),
    );
    const fds = open.flatMap(({ fd, files, sources }) => [fd, ...files.map((file) => file.fd), ...sources]);
    await this.pass((number) => ({ number, connections: messages }), fds);
    for (const { fd, release } of open) {
      this.native.closeFd(fd);
      release();
    }
    return open.length;
  }

  /** Resolves when it has arrived. */
  private async pass(make: (number: number) => Passage, fds: number[]): Promise<void> {
    const number = ++this.numbers;
    let timer: NodeJS.Timeout | undefined;
    const arrived = new Promise<void>((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      timer = setTimeout(reject, ARRIVAL_MS, new BatonError("DEADLINE_PASSED", "the next worker takes nothing"));
    });
    arrived.catch(() => {}); // awaited below, unless the descriptors are refused first
    try {
      this.channel.send(make(number));
      await this.native.sendDescriptors(this.descriptors, fds, Buffer.from(String(number)));
      await arrived;
    } finally {
      clearTimeout(timer);
      this.waiting.delete(number);
    }
  }
}

/** Every connection of the table, those of a bundle together, its control connection last. */
function bundlesOf(table: ConnectionTable): LiveConnection[][] {
  const bundles = new Map<string, LiveConnection[]>();
  table.each((connection) => {
    const { id, bundleId } = connection;
    const bundle = bundles.get(bundleId || id) ?? [];
    bundles.set(bundleId || id, id === bundleId ? [...bundle, connection] : [connection, ...bundle]);
  });
  return [...bundles.values()];
}

function isBusy(connections: LiveConnection[]): boolean {
  return connections.some(({ unmovable }) => unmovable !== "");
}

/** @returns undefined where it had ended */
async function letGo(connection: LiveConnection, deadline: number): Promise<PassedOpen | undefined> {
  for (;;) {
    const open = await connection.passOn(performance.now() > deadline);
    if (open === "over") return undefined;
    if (open !== "busy") return open;
    await sleep(BUSY_POLL_MS);
  }
}

function gone(): BatonError {
  return new BatonError("AGENT_UNAVAILABLE", "the next worker is gone");
}
