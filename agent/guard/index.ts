export {
  BATON_MARK,
  type GuardCensus,
  type GuardChange,
  type GuardEntry,
  type GuardLease,
  type GuardPhase,
  guardFlag,
  guardOption,
} from "../../bpf/guard_layout.js";
export type { NewEntry } from "./entry.js";
export { Guard, type GuardEvent, type GuardOptions } from "./guard.js";
