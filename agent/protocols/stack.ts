import { RefusedError } from "../../proto/errors.js";
import type { LayerSection } from "../../proto/record.js";
import type { ApplicationLayer } from "./application.js";
import type { ProtocolLayer } from "./layer.js";

/** Told of each layer's call: "unready", "ready", "undo". */
export type StackTrace = (what: string, layer: string, detail?: string) => void;

/** The protocols of one connection, outermost first; each is called in turn, through the same API on both servers. */
export class Stack {
  private readonly layers: readonly ProtocolLayer[];

  constructor(
    lower: readonly ProtocolLayer[],
    readonly application: ApplicationLayer,
    private readonly trace: StackTrace,
  ) {
    this.layers = [...lower, application];
  }

  /** The data block: every layer's section, in order. */
  checkpoint(): LayerSection[] {
    const block: LayerSection[] = [];
    for (const layer of this.layers) layer.checkpoint(block);
    return block;
  }

  /**
   * Gives each layer its section of another server's checkpoint. An empty block is that of a connection which died before its
   * first checkpoint: its layers begin at the beginning. Throws RefusedError; the caller calls `undo` then.
   */
  async unready(block: readonly LayerSection[]): Promise<void> {
    const names = this.layers.map((layer) => layer.name).join(", ");
    const written = block.map((section) => section.layer).join(", ");
    // A layer which this server lacks has state that nobody would look after.
    if (block.length > 0 && written !== names) {
      throw new RefusedError("other protocol layers", `the record has the layers "${written}", this server "${names}"`);
    }
    for (const [index, layer] of this.layers.entries()) {
      this.trace("unready", layer.name);
      const section = block[index];
      if (!section) continue;
      try {
        await layer.unready(section);
      } catch (error) {
        if (error instanceof RefusedError) throw error;
        throw new RefusedError(`the section of ${layer.name} is not usable`, (error as Error).message, error);
      }
    }
  }

  /** The client has everything below `position` (offset of our stream): every layer goes on from there. @param isStored as ProtocolLayer has it */
  ready(position: number, isStored: boolean): void {
    for (const layer of this.layers) {
      layer.ready(position, isStored);
      if (layer !== this.application) {
        this.trace("ready", layer.name);
        continue;
      }
      const { object, objectOffset } = this.application.describe(position);
      this.trace("ready", layer.name, object ? `${object} at ${objectOffset}` : undefined);
    }
  }

  /** The handover is off; innermost first. */
  undo(): void {
    for (const layer of this.layers.toReversed()) {
      this.trace("undo", layer.name);
      layer.undo();
    }
  }
}
