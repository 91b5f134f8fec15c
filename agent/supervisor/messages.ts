/** What supervisor and worker tell each other over the IPC channel. */

export type SupervisorMessage =
  /** The lease is lost: close every socket inside repair mode and exit. */
  | { type: "fenced"; reason: string }
  /** The agent is to be stopped: its connections go to other servers first. Answered with `left`. */
  | { type: "leave" }
  /** Orderly end: as fenced, the lease is being given up. */
  | { type: "stop" }
  /** Policy serve-unprotected has come into force or ended. */
  | { type: "unprotected"; on: boolean };

export type WorkerMessage =
  /** Sent every heartbeatMs from the worker's event loop, first when it is up. */
  | { type: "heartbeat" }
  /** Nothing more can be moved away. */
  | { type: "left" }
  /** A thread of the worker that ends with it, only sooner. */
  | { type: "canary"; thread: number };

export const heartbeatMs = 100;
/** Environment variable by which the worker learns its incarnation. */
export const incarnationVariable = "BATON_INCARNATION";
