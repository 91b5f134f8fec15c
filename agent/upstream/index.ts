export { type Body, Origin, OriginError, type OriginRequest, type OriginResponse } from "./origin.js";
export { Source } from "./source.js";
