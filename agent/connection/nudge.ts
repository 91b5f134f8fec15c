import type { Flow } from "../../proto/flow.js";
import { type ConnectionHost, endpointsOf } from "./host.js";

/** A nudge may be lost: after so long it is looked whether another one is due. */
const REPEAT_MS = 20;
const ACK = 0x10;

/**
 * Says to a client what the clamp has held back: the kernel believes that its acks have left as it wrote them, and does not
 * repeat them.
 */
export class Nudge {
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly host: ConnectionHost,
    private readonly flow: Flow,
    private readonly timestamps: boolean,
  ) {}

  /**
   * A clamped ack may go further now.
   * @param carried a segment goes out anyway that says it
   * @param isTold whether the client has it by now for certain. Cheap, beside a look at the guard.
   */
  due(carried: boolean, isTold: () => boolean): void {
    if (!carried) this.send();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (!isTold()) this.send();
    }, REPEAT_MS);
  }

  stop(): void {
    clearTimeout(this.timer);
  }

  /** Nothing where the client has been told. */
  private send(): void {
    const entry = this.host.guard.lookup(this.flow);
    if (!entry || entry.clampedSinceNs === 0n) return;
    this.host.native.sendSegments([
      {
        ...endpointsOf(this.flow),
        seq: entry.sendNext,
        ack: entry.consumed,
        flags: ACK,
        window: entry.window,
        ...(this.timestamps ? { timestamps: { value: entry.tsval, echo: entry.tsecr } } : {}),
      },
    ]);
  }
}
