export type { ConnectionsBucket, ConnectionsHandlers } from "./connections.js";
export { ConflictError, type Present, StoreRefusal } from "./errors.js";
export {
  decodeLease,
  type Lease,
  type LeaseEntry,
  type LeaseState,
  type LeasesBucket,
  type LeasesHandlers,
} from "./leases.js";
export type { DocumentBucket, DocumentHandlers } from "./servers.js";
export { AGE_MAX_MS as SPILL_AGE_MAX_MS, type Spilled, type Spills } from "./spills.js";
export { connectStore, type ServerDocument, type Store, type StoreOptions } from "./store.js";
