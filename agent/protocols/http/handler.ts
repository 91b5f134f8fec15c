import type { ObjectReference } from "../../../proto/record.js";
import type { OpenObject } from "../application.js";
import type { Answer, Entity, MadeBody } from "./answer.js";
import type { Request } from "./request.js";

/** A request and what is around it. */
export interface Asked {
  request: Request;
  /** Address of who asks, as text. */
  client: string;
  nowSeconds: number;
  /** The client is gone, or somebody else's: nothing of it is of use any more. */
  gone: AbortSignal;
}

/** What answers the requests of a service, for all of its connections. */
export interface Handler {
  /** What can be said of a request by its head alone: that it is not served. undefined: read on. */
  refusal(request: Request): Answer | undefined;

  /** Whether the request may be executed twice, where nobody knows what came of the first time. */
  mayRepeat(request: Request): boolean;

  /** Answers a request that was not refused. Where it rejects the client gets 500, or 503 if descriptors have run out. */
  answer(asked: Asked): Promise<Answer>;

  /** Hands on a request whose body is not kept, as it comes. Missing: such a request is refused with 413. */
  upload?(asked: Asked): Upload;

  /**
   * Makes an answer's body again that was `made`, for whoever goes on with it. Throws RefusedError where the answer is another one.
   * @param status of the answer
   */
  repeat(asked: Asked, status: number): Promise<MadeBody>;

  /**
   * Opens an object that a record names, for going on with it. Throws RefusedError.
   * @param asked what it was the answer to, as far as the record says so
   * @param sure rather refused than opened where it is not certain that all of it can be had
   */
  open(reference: ObjectReference, asked: Asked | undefined, sure: boolean): Promise<OpenObject>;

  /** An object that another process of this server had open; the descriptor is the handler's. Throws RefusedError. */
  take(reference: ObjectReference, fd: number): Promise<Entity>;
}

/** A request on its way to whoever answers it. */
export interface Upload {
  write(part: Buffer): void;
  /** It has taken more than it can pass on: wait for `onRoom`. */
  readonly isCongested: boolean;
  onRoom: () => void;
  /** That was all of the body. @param trailers the field lines behind it, as they came */
  end(trailers: Array<[string, string]>): void;
  /** May come before the end. Never rejects. */
  readonly answer: Promise<Answer>;
  /** The client is gone, or its request is none. */
  stop(): void;
}
