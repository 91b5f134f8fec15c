import type { BundlePort, Relation } from "../application.js";

/** Connections whose last packets may still be under way. */
const KEPT = 8;

/** Opens data connections to clients that wait for them (RFC 959 section 3.2), from the port below the control connection's. */
export class ActivePort {
  private related: Relation[] = [];

  constructor(
    private readonly bundle: BundlePort,
    private readonly dataPort: number,
  ) {}

  /** Resolves when the control connection knows of it. Throws a BatonError. */
  async open(clientPort: number): Promise<void> {
    const relation = { transport: "tcp" as const, vipPort: this.dataPort, clientPort };
    await this.bundle.relate([relation]);
    this.related = [...this.related.filter((other) => other.clientPort !== clientPort), relation];
    const gone = this.related.splice(0, this.related.length - KEPT);
    if (gone.length > 0) this.bundle.unrelate(gone);
    try {
      await this.bundle.dial(this.dataPort, clientPort);
    } catch (error) {
      this.related.pop();
      this.bundle.unrelate([relation]);
      throw error;
    }
  }
}
