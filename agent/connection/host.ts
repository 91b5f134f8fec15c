import type { Flow } from "../../proto/flow.js";
import type { ConnectionsBucket, Spills } from "../../proto/store/index.js";
import type { Guard } from "../guard/index.js";
import type { Endpoints, Native } from "../native/api.js";
import type { Bundles } from "./bundles.js";
import type { CommitMeter } from "./commit_meter.js";
import type { Exposures } from "./exposures.js";

/** What a connection needs of the server it lives on. */
export interface ConnectionHost {
  readonly serverId: string;
  /** Of the lease under which this worker runs; its connections die with it. */
  readonly incarnation: number;
  /** Who writes: "<server id>/<incarnation>". */
  readonly writer: string;
  readonly native: Native;
  readonly guard: Guard;
  readonly bucket: ConnectionsBucket;
  readonly spills: Spills;
  readonly commits: CommitMeter;
  readonly exposures: Exposures;
  readonly bundles: Bundles;
  readonly limits: {
    /** Client bytes that may wait for the application, in the spool of one connection. */
    inputBytes: number;
    /** Client bytes of a request to this service that are kept beside its record until it is answered. */
    bodyBytes(service: string): number;
    /** Connections of one client, and of those half-open ones. */
    connectionsPerClient: number;
    halfOpenPerClient: number;
    /** The store takes no larger record. */
    recordBytes: number;
  };
  /** Policy serve-unprotected is in force: the store is gone, and what cannot be committed leaves all the same. */
  readonly unprotected: boolean;
  ended(connection: Identified, how: string): void;
}

/** A connection as whoever counts them knows it: by identity. */
export interface Identified {
  readonly id: string;
  readonly flow: Flow;
  /** Its client has begun nothing with it yet that it would miss. */
  readonly isHalfOpen: boolean;
}

export function endpointsOf(flow: Flow): Endpoints {
  return { local: flow.vip, remote: flow.client };
}
