import { join } from "node:path";
import { wallClockUs } from "../../proto/clock.js";
import type { EventMessage } from "../../proto/rpc/index.js";
import { LineFile } from "./file.js";
import { Ring } from "./ring.js";
import { BoundedStream } from "./stream.js";
import { isoTime } from "./time.js";

/** Events that `baton events` can show. */
const keptMin = 20_000;
/** Events that a follower may be behind. */
const followerBound = 50_000;

export type NewEvent = Partial<EventMessage> & Pick<EventMessage, "kind">;

/** Finished operations and state changes: the last 25,000 in memory, as many on disk, and whoever follows. */
export class EventLog {
  readonly #ring = new Ring<EventMessage>(keptMin + 5000);
  readonly #file: LineFile;
  readonly #followers = new Set<BoundedStream<EventMessage>>();

  /** @param state the controller's state directory; a former controller's events there are read. */
  constructor(state: string) {
    this.#file = new LineFile(join(state, "events.jsonl"), keptMin);
    for (const line of this.#file.load()) this.#ring.push(complete(line as NewEvent));
  }

  /** Adds an event; what is left out is empty, `time` is now. */
  append(event: NewEvent): EventMessage {
    const full = complete(event);
    this.#ring.push(full);
    this.#file.add(JSON.stringify(full));
    for (const follower of this.#followers) follower.push(full);
    return full;
  }

  /** The last `limit` events, oldest first; 0 = all that are kept. */
  recent(limit = 0): EventMessage[] {
    return this.#ring.last(limit === 0 ? Number.POSITIVE_INFINITY : limit);
  }

  /** recent(limit), then every event from now on, none missing or twice in between. End it with return(). */
  follow(limit = 0): AsyncIterableIterator<EventMessage> & { return(): Promise<IteratorResult<EventMessage>> } {
    const stream = new BoundedStream(this.recent(limit), followerBound, () => this.#followers.delete(stream));
    this.#followers.add(stream);
    return stream;
  }

  /** Resolves when everything up to now is on disk, or was given up. */
  flush(): Promise<void> {
    return this.#file.flush();
  }

  /** As flush; followers end. */
  async close(): Promise<void> {
    for (const follower of this.#followers) await follower.return();
    await this.flush();
  }
}

function complete(event: NewEvent): EventMessage {
  return {
    time: event.time || isoTime(wallClockUs()),
    kind: event.kind,
    connection: event.connection ?? "",
    bundle: event.bundle ?? "",
    from: event.from ?? "",
    to: event.to ?? "",
    result: event.result ?? "",
    reason: event.reason ?? "",
    phases: event.phases ?? {},
    heldPackets: event.heldPackets ?? 0,
    heldUs: event.heldUs ?? 0,
  };
}
