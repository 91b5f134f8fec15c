import type { HoldQueue } from "../../bpf/binding/index.js";
import { logger } from "../../proto/log.js";

const log = logger("steering");

export interface Release {
  /** struct baton_flow */
  flow: Buffer;
  slot: number;
  mac: Buffer;
}

/** What came of a release: packets that had been held, and for how long. */
export interface Released {
  packets: number;
  heldUs: number;
}

/**
 * Ends of holds. A flow that is being released is released again only after that: takeover, migration and a false alarm may
 * each come to it without knowing of the other. Each flow has an outcome of its own: what could not be sent of one is thrown away and
 * counted, so that its next packets go to the new owner, and the rest of the batch is not touched.
 */
export class Releases {
  /** Flows that are being released, to the end of their batch, which the queue bounds. */
  private readonly running = new Map<string, Promise<void>>();

  constructor(private readonly queue: Pick<HoldQueue, "assignBatch" | "drop">) {}

  /** Results in the order of the items. Rejects only when the queue is closed. */
  async assign(items: Release[]): Promise<Released[]> {
    let end: () => void = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const free: Release[] = [];
    const places = items.map((item) => {
      const name = nameOf(item);
      const running = this.running.get(name);
      if (running) return running;
      this.running.set(name, ended);
      return free.push(item) - 1;
    });
    const released = this.release(free).finally(() => {
      for (const item of free) this.running.delete(nameOf(item));
      end();
    });
    return Promise.all(
      places.map(async (place, i) => {
        if (typeof place === "number") return (await released)[place] as Released;
        await place;
        return (await this.assign(items.slice(i, i + 1)))[0] as Released;
      }),
    );
  }

  private async release(items: Release[]): Promise<Released[]> {
    if (items.length === 0) return [];
    const outcomes = await this.queue.assignBatch(items);
    return outcomes.map(({ packets, heldUs, error }, i) => {
      const flow = items[i]?.flow;
      if (error !== undefined && flow) {
        log.error({ reason: error, dropped: this.queue.drop(flow) }, "what was held of a flow could not be sent");
      }
      return { packets, heldUs };
    });
  }
}

function nameOf({ flow }: Release): string {
  return flow.toString("latin1");
}
