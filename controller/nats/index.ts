export { EmbeddedNats, type EmbeddedNatsOptions } from "./embedded.js";
export { maxPayload, runsNats } from "./settings.js";
export { startNats } from "./start.js";
