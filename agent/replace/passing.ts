import { setTimeout as sleep } from "node:timers/promises";
import { BatonError } from "../../proto/errors.js";
import { Channel } from "../channel.js";
import type { LiveConnection } from "../connection/connection.js";
import type { ConnectionTable } from "../connection/table.js";
import type { Listener, Native } from "../native/api.js";
import { type Arrived, encodePassed, type Passage, socketsOf } from "./passage.js";

/** Connections under way at a time: each of them stands still for its passage, so they are few. */
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
    for (const { address, port, listener } of listeners) {
      const fd = listener.detach();
      await this.pass((number) => ({ number, listener: { address, port } }), [fd]);
      this.native.closeFd(fd);
    }
  }

  /** Nothing may be added to the table meanwhile. Rejects where the next worker is gone. @returns how many were passed */
  async passConnections(table: ConnectionTable): Promise<number> {
    const connections: LiveConnection[] = [];
    table.each((connection) => connections.push(connection));
    connections.sort((a, b) => Number(b.unmovable !== "") - Number(a.unmovable !== "")); // those last, which is first here
    const deadline = performance.now() + BUSY_MS;
    let passed = 0;
    const passOn = async () => {
      for (let next = connections.pop(); next; next = connections.pop())
        if (await this.passOne(next, deadline)) passed++;
    };
    await Promise.all(Array.from({ length: AT_ONCE }, passOn));
    return passed;
  }

  close(): void {
    this.channel.close();
  }

  /** @returns false where it had ended */
  private async passOne(connection: LiveConnection, deadline: number): Promise<boolean> {
    for (;;) {
      const open = await connection.passOn(performance.now() > deadline);
      if (open === "over") return false;
      if (open === "busy") {
        await sleep(BUSY_POLL_MS);
        continue;
      }
      const files = open.files.map(({ offset }) => offset);
      const message = encodePassed(open, files);
      await this.pass((number) => ({ number, connection: message }), [open.fd, ...open.files.map(({ fd }) => fd)]);
      this.native.closeFd(open.fd);
      open.release();
      return true;
    }
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

function gone(): BatonError {
  return new BatonError("AGENT_UNAVAILABLE", "the next worker is gone");
}
