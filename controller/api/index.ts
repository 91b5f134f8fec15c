export type { ConnectionFilter, ControlModel, EventSource } from "./model.js";
export { type ApiOptions, ApiServer } from "./server.js";
