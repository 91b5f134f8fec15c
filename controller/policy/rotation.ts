/** Who may want a server out of rotation. */
export type DrainHolder = "operator" | "agent" | "health";

export interface RotationDeps {
  /** The server gets nothing new. Again with another reason: that one is shown. Throws NOT_FOUND, UNSUPPORTED. */
  drain(server: string, reason: string): void;
  /** It gets new connections again. Throws NOT_FOUND, UNSUPPORTED. */
  undrain(server: string): void;
}

/** Servers out of rotation: one is back when nobody wants it out any more. */
export class Rotation {
  private readonly held = new Map<string, Map<DrainHolder, string>>();

  constructor(private readonly deps: RotationDeps) {}

  /** Throws NOT_FOUND, UNSUPPORTED. */
  take(server: string, holder: DrainHolder, reason: string): void {
    this.deps.drain(server, reason);
    const holders = this.held.get(server) ?? new Map<DrainHolder, string>();
    holders.set(holder, reason);
    this.held.set(server, holders);
  }

  /** @returns why it stays out; undefined: it is back. Throws NOT_FOUND, UNSUPPORTED. */
  give(server: string, ...holders: DrainHolder[]): string | undefined {
    const left = new Map(this.held.get(server));
    for (const holder of holders) left.delete(holder);
    const [reason] = left.values();
    if (reason !== undefined) this.deps.drain(server, reason);
    else this.deps.undrain(server);
    this.held.set(server, left);
    return reason;
  }

  isHeld(server: string, holder: DrainHolder): boolean {
    return this.held.get(server)?.has(holder) ?? false;
  }

  /** The server is gone: its successor begins in rotation. */
  forget(server: string): void {
    this.held.delete(server);
  }
}
