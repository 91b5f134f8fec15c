export { EventLog, type NewEvent } from "./log.js";
export { isoTime, nowUs } from "./time.js";
