import type { ProtocolLayer } from "../../agent/protocols/index.js";
import type { LayerSection } from "../../proto/record.js";

/** What the layer writes of itself into a record. */
export function sectionOf(layer: ProtocolLayer): LayerSection {
  const block: LayerSection[] = [];
  layer.checkpoint(block);
  return block[0] as LayerSection;
}
