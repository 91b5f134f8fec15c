/**
 * The words that Baton uses everywhere with the same meaning: state, wire, logs, metric labels, CLI. A test compares them
 * with the .proto files.
 */

/** Phases of a connection, in their order; the last two are the exits. Names and numbers as `Phase` in record.proto. */
export const phases = ["LIVE", "HELD", "FROZEN", "UNREADY", "READY", "RESUMED_ON_OLD", "REFUSED"] as const;
export type Phase = (typeof phases)[number];

/** How the takeover or migration of one connection ended: TakeoverResult.result in agent.proto. */
export const takeoverResults = ["ok", "resumedOnOld", "refused", "failed", "finished", "gone"] as const;
export type TakeoverOutcome = (typeof takeoverResults)[number];

/** `result` of an operation's event. */
export const eventResults = ["ok", "resumedOnOld", "refused", "failed"] as const;
export type EventResult = (typeof eventResults)[number];

export const eventKinds = ["migration", "takeover", "server", "controller", "service"] as const;
export type EventKind = (typeof eventKinds)[number];

/** States of a server as operators see them. */
export const serverStates = ["UP", "DRAINING", "HELD", "TAKEOVER", "DOWN", "JOINING"] as const;
export type ServerState = (typeof serverStates)[number];

/** Application-layer protocols of this version; one name for record, configuration and API. */
export const protocols = ["http", "ftp", "rtsp", "app"] as const;
export type Protocol = (typeof protocols)[number];
