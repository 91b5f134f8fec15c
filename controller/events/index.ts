export { EventLog, type NewEvent } from "./log.js";
export { isoTime } from "./time.js";
