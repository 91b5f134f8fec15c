import { type Config, controllerOf } from "../../proto/config/index.js";
import { EmbeddedNats } from "./embedded.js";
import { maxPayload, runsNats } from "./settings.js";

/** The store's server where this controller has to run it. Throws what EmbeddedNats.start throws. */
export async function startNats(config: Config, id: string): Promise<EmbeddedNats | undefined> {
  if (!config.nats.embedded || !runsNats(config, id)) return undefined;
  const { state } = controllerOf(config, id);
  const name = `${config.cluster}-${id}`;
  return EmbeddedNats.start({ state, name, listen: config.nats.listen, maxPayload: maxPayload(config) });
}
