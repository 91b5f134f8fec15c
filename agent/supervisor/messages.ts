import type { ReliefMessage } from "../replace/index.js";

/** What supervisor and worker tell each other over the IPC channel. */

export type SupervisorMessage =
  /** The lease is lost: close every socket inside repair mode and exit. */
  | { type: "fenced"; reason: string }
  /** The agent is to be stopped: its connections go to other servers first. Answered with `left`. */
  | { type: "leave" }
  /** Orderly end: as fenced, the lease is being given up. */
  | { type: "stop" }
  /** Another agent's worker is prepared to go on with everything: pass it. Answered by a ReliefMessage or two. */
  | { type: "pass" }
  /** Better not, unless it is too late: that worker is gone. */
  | { type: "keep"; reason: string }
  /** To the worker that goes on: everything was passed, the lease is this agent's. Answered with `serving`. */
  | { type: "serve" }
  /** To the worker that passed everything: it is not needed any more. */
  | { type: "retire" }
  /** Policy serve-unprotected has come into force or ended. */
  | { type: "unprotected"; on: boolean };

export type WorkerMessage =
  /** Sent every heartbeatMs from the worker's event loop, first when it is up. */
  | { type: "heartbeat" }
  /** Nothing more can be moved away. */
  | { type: "left" }
  | ReliefMessage
  /** It is ready to take another worker's connections. */
  | { type: "prepared" }
  /** It does everything that a worker does. */
  | { type: "serving" }
  /** A thread of the worker that ends with it, only sooner. */
  | { type: "canary"; thread: number };

export const heartbeatMs = 100;
/** Environment variable by which the worker learns its incarnation. */
export const incarnationVariable = "BATON_INCARNATION";
/** Environment variable that a worker has which goes on where another one of its incarnation stops. */
export const successorVariable = "BATON_SUCCESSOR";
