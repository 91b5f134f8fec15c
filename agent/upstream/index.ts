export type { Body } from "./body.js";
export { Origin, OriginError, type OriginRequest, type OriginResponse } from "./origin.js";
export { AWAY_MS, RETRY_MS } from "./patience.js";
export { Source } from "./source.js";
