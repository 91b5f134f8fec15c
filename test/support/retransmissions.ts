import { join } from "node:path";
import { type BpfMap, type BpfObject, binding } from "../../bpf/binding/index.js";
import { root } from "../../proto/paths.js";
import { closeWithTest } from "./cleanup.js";

/** In the order of `enum cause` in test/bpf/retransmissions.bpf.c. */
const CAUSES = ["probes", "timeouts", "recovery", "other"] as const;

/**
 * Segments that were sent once more. probes: of the tail (RFC 8985 section 7), the last segment again because its ack takes longer than
 * usual; timeouts: the retransmission timer (RFC 6298); recovery: duplicate acks or SACK told of a loss.
 */
export type Retransmissions = Record<(typeof CAUSES)[number], number>;

/** Counts those of all connections that this machine's namespaces serve at one port. */
export class RetransmissionCount {
  readonly #object: BpfObject;
  readonly #causes: BpfMap;

  constructor(port = 80) {
    this.#object = binding.load(join(root, "build/bpf/test/retransmissions.bpf.o"), { rodata: { served_port: port } });
    this.#causes = this.#object.map("causes");
    this.#object.program("count_retransmission").attachTracing();
    closeWithTest(this);
  }

  /** Since the beginning. */
  read(): Retransmissions {
    const count = (_: string, at: number) => {
      const key = Buffer.alloc(4);
      key.writeUInt32LE(at);
      return Number(this.#causes.lookup(key)?.readBigUInt64LE() ?? 0);
    };
    return Object.fromEntries(CAUSES.map((cause, at) => [cause, count(cause, at)])) as Retransmissions;
  }

  close(): void {
    this.#object.close();
  }
}
