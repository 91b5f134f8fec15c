import { BatonError } from "../../proto/errors.js";
import { native } from "../native/index.js";
import {
  heartbeatMs,
  incarnationVariable,
  type SupervisorMessage,
  successorVariable,
  type WorkerMessage,
} from "./messages.js";

export interface LinkHandlers {
  /** Nothing leaves any more. Close every socket inside repair mode, then exit; after a second the worker is killed. */
  onFenced(reason: string): void;
  /** The store is gone and the server goes on without protection, or that has ended. */
  onUnprotected?(on: boolean): void;
  /** Resolves when every connection is with another server, or cannot go there. */
  onLeave?(): Promise<void>;
  /** Another agent's worker goes on with everything: see messages.ts. */
  onPass?(): void;
  onKeep?(reason: string): void;
  onServe?(): void;
  onRetire?(): void;
}

export interface SupervisorLink {
  incarnation: number;
  /** Whether this worker goes on where another one stops, and waits for `serve`. */
  successor: boolean;
  say(message: WorkerMessage): void;
}

/** The worker's end of its channel to the supervisor. Begins the heartbeats. @throws BatonError without a supervisor */
export function linkToSupervisor(handlers: LinkHandlers): SupervisorLink {
  const incarnation = Number(process.env[incarnationVariable]);
  const send = process.send?.bind(process);
  if (send === undefined || !Number.isSafeInteger(incarnation) || incarnation < 1) {
    throw new BatonError("INTERNAL", 'a worker is started by its agent, not by hand: use "baton agent"');
  }
  // An error means that the channel is closing: its "disconnect" says the rest.
  const say = (message: WorkerMessage) => send(message, undefined, undefined, () => {});
  say({ type: "canary", thread: native.startCanary() });
  say({ type: "heartbeat" });
  const timer = setInterval(() => say({ type: "heartbeat" }), heartbeatMs);
  process.on("message", (message: SupervisorMessage) => {
    if (message.type === "fenced") handlers.onFenced(message.reason);
    else if (message.type === "stop") handlers.onFenced("the agent is being stopped");
    else if (message.type === "leave")
      void (handlers.onLeave?.() ?? Promise.resolve()).then(() => say({ type: "left" }));
    else if (message.type === "unprotected") handlers.onUnprotected?.(message.on);
    else if (message.type === "pass") handlers.onPass?.();
    else if (message.type === "keep") handlers.onKeep?.(message.reason);
    else if (message.type === "serve") handlers.onServe?.();
    else if (message.type === "retire") handlers.onRetire?.();
  });
  process.once("disconnect", () => {
    clearInterval(timer);
    handlers.onFenced("the supervisor is gone");
  });
  return { incarnation, successor: process.env[successorVariable] === "1", say };
}
