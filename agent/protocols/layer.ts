import type { LayerSection } from "../../proto/record.js";

/**
 * One protocol of a connection's stack. The stack is called in order, ip first. What a layer appends at a checkpoint is
 * all that its twin on another server gets; `unready` is called ahead of the comparison, `ready` when it has succeeded.
 */
export interface ProtocolLayer {
  readonly name: string;
  /** Appends this layer's section to the data block. */
  checkpoint(block: LayerSection[]): void;
  /** On the second server: takes the section in, checks that it can go on from it (objects, upstreams). Throws RefusedError. */
  unready(section: LayerSection): Promise<void> | void;
  /**
   * The comparison succeeded: the client has everything below `position` (stream offset of our stream). Go on from there.
   * @param isStored the store has the sections as they were taken in; not, perhaps, where another process of this server
   * has passed the connection, or where it is a related one that was moved
   */
  ready(position: number, isStored: boolean): void;
  /** The handover is off (deadline, another heir): let go of whatever `unready` took. */
  undo(): void;
}
