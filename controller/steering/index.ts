export { type SteerSettings, steerRodata } from "./settings.js";
export { type HeldFlow, Steering, type SteeringOptions } from "./steering.js";
export { type Hints, type Owner, type TableMember, Tables } from "./tables.js";
