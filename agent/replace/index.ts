export { takeConnections } from "./passed_connections.js";
export type { PassedListener } from "./passing.js";
export { Relief, type ReliefMessage, type Relieved } from "./relief.js";
export { Taking } from "./taking.js";
