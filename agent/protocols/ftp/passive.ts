import { type PortRange, portCount } from "../../../proto/config/index.js";
import { BatonError } from "../../../proto/errors.js";
import type { BundlePort } from "../application.js";
import { relateFree } from "../related_ports.js";

/** A port stays related for some transfers yet: the last packets of its connection may still be under way. */
const KEPT = 2;

/**
 * The ports on which a client's data connections are expected. Which are related to the control connection the appliances know before
 * the client does.
 */
export class PassivePorts {
  constructor(
    private readonly bundle: BundlePort,
    private readonly range: PortRange,
  ) {}

  /**
   * Finds another one and has it related.
   * @param ports related so far, oldest first
   * @returns the same with the new one as the last. Throws a BatonError where none can be had.
   */
  async announce(ports: readonly number[]): Promise<number[]> {
    const { from } = this.range;
    const count = portCount(this.range);
    const place = await relateFree(this.bundle, count, count, (at) =>
      ports.includes(from + at) ? undefined : [relation(from + at)],
    );
    if (place === undefined) throw new BatonError("LIMIT_REACHED", "no port for a data connection is free");
    return [...ports, from + place];
  }

  /** A client will come to this one. */
  expect(port: number): void {
    this.bundle.expect(port);
  }

  /** Nobody will come to it any more. */
  expectNone(port: number): void {
    if (port !== 0) this.bundle.expectNone(port);
  }

  /** Lets go of the oldest. @returns those that are left */
  trim(ports: readonly number[]): number[] {
    const left = ports.slice(-KEPT);
    const gone = ports.slice(0, -left.length);
    if (gone.length > 0) this.bundle.unrelate(gone.map(relation));
    return left;
  }

  /** This server has them from another one. */
  repeat(ports: readonly number[]): void {
    if (ports.length > 0) this.bundle.restate(ports.map(relation));
  }
}

function relation(vipPort: number) {
  return { transport: "tcp" as const, vipPort, clientPort: 0 };
}
