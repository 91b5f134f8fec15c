import type { ObjectReference } from "../../../proto/record.js";
import type { OpenObject } from "../application.js";
import type { Answer, Entity } from "./answer.js";
import type { Request } from "./request.js";

/** What answers the requests of a service, for all of its connections. */
export interface Handler {
  /** What can be said of a request by its head alone: that it is not served. undefined: read on. */
  refusal(request: Request): Answer | undefined;

  /** Answers a request that was not refused. Where it rejects the client gets 500, or 503 if descriptors have run out. */
  answer(request: Request, nowSeconds: number): Promise<Answer>;

  /** Opens an object that a record names, for going on with it. Throws RefusedError. */
  open(reference: ObjectReference): Promise<OpenObject>;

  /** An object that another process of this server had open; the descriptor is the handler's. Throws RefusedError. */
  take(reference: ObjectReference, fd: number): Promise<Entity>;
}
