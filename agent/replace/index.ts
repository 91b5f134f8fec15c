export { takeConnection } from "./passed_connection.js";
export type { PassedListener } from "./passing.js";
export { Relief, type ReliefMessage, type Relieved } from "./relief.js";
export { Taking } from "./taking.js";
