import { logger } from "../../proto/log.js";
import type { Endpoints, Native, SocketImage } from "../native/api.js";

const log = logger("restore");
const CLOSED = -1;

/** A socket in repair, from its bind until it speaks or is closed unseen. */
export class RepairSocket {
  private fd: number;

  /** Bound to the VIP. Throws TcpError. */
  constructor(
    private readonly native: Native,
    private readonly ends: Endpoints,
  ) {
    this.fd = native.prepare(ends);
  }

  /**
   * Makes it the connection of `image`, silent and still in repair. Throws TcpError; then only `close` is left.
   *
   * An earlier life of this host may have left an orphan of the same flow, which is in the way (EADDRNOTAVAIL): it is looked for
   * only then, because looking costs as much as all the rest.
   */
  rebuild(image: SocketImage): void {
    try {
      this.native.rebuild(this.fd, image);
    } catch (error) {
      if ((error as { code?: string }).code !== "EADDRNOTAVAIL" || !this.native.destroyOrphan(this.ends)) throw error;
      log.info({ flow: this.ends }, "an orphan of an earlier life was in the way");
      this.close();
      this.fd = this.native.prepare(this.ends);
      this.native.rebuild(this.fd, image);
    }
  }

  /** The descriptor is the caller's from now on. */
  take(): number {
    const { fd } = this;
    this.fd = CLOSED;
    return fd;
  }

  /** Nobody sees it; may be called again. */
  close(): void {
    if (this.fd === CLOSED) return;
    this.native.closeInRepair(this.take());
  }
}
