import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { type ClientReadableStream, type ServiceError, status } from "@grpc/grpc-js";
import { BatonError } from "../../proto/errors.js";
import { type ControlClient, controlClient } from "../../proto/rpc/index.js";

/** Where `make lab-up` puts its appliances. */
const lab = "/run/baton/lab";
/** Milliseconds for a controller to answer a call. */
const deadlineMs = 10_000;

/** The targets to try, in turn: BATON_API, or else every appliance of the lab on this machine. */
export function apiTargets(env: string | undefined, labDirectory = lab): string[] {
  if (env !== undefined && env !== "") {
    if (!/^(unix:.+|[^\s/:]+:\d+|\[[0-9A-Fa-f:.]+\]:\d+)$/.test(env)) {
      throw new BatonError("CONTROLLER_UNAVAILABLE", `BATON_API must be unix:PATH or HOST:PORT, not "${env}".`);
    }
    return [env];
  }
  let hosts: string[] = [];
  try {
    hosts = readdirSync(labDirectory).sort();
  } catch {
    // No lab here: the list stays empty and the error below says what to do.
  }
  const sockets = hosts.map((host) => join(labDirectory, host, "api.sock")).filter(isSocket);
  if (sockets.length === 0) {
    throw new BatonError(
      "CONTROLLER_UNAVAILABLE",
      `No controller found: BATON_API is not set and there is no ${labDirectory}/*/api.sock.`,
    );
  }
  return sockets.map((socket) => `unix:${socket}`);
}

function isSocket(path: string): boolean {
  try {
    return statSync(path).isSocket();
  } catch {
    return false; // nothing there, or the parent is a file
  }
}

/**
 * Runs `call` against the first controller that is there. Errors of the call are sentences.
 * @param waitMs what `call` gives each of them
 */
export async function withController<T>(
  call: (client: ControlClient) => Promise<T>,
  waitMs: number = deadlineMs,
): Promise<T> {
  const targets = apiTargets(process.env.BATON_API);
  let last: ServiceError | undefined;
  for (const target of targets) {
    const client = controlClient(target);
    try {
      return await call(client);
    } catch (error) {
      if (error instanceof BatonError) throw error;
      last = error as ServiceError;
      if (last.code !== status.UNAVAILABLE && last.code !== status.DEADLINE_EXCEEDED) throw apiError(last);
    } finally {
      client.close();
    }
  }
  const where = targets.join(", ");
  if (last?.code === status.DEADLINE_EXCEEDED) {
    throw new BatonError(
      "DEADLINE_PASSED",
      `The controller at ${where} did not answer within ${waitMs / 1000} seconds.`,
    );
  }
  throw new BatonError("CONTROLLER_UNAVAILABLE", `No controller answers at ${where}.`, last);
}

function apiError(error: ServiceError): BatonError {
  const code = error.code === status.NOT_FOUND ? "NOT_FOUND" : "CONTROLLER_UNAVAILABLE";
  return new BatonError(code, /[.?!]$/.test(error.details) ? error.details : `${error.details}.`, error);
}

type Unary<Q, A> = (
  request: Q,
  options: { deadline: number },
  done: (error: ServiceError | null, answer?: A) => void,
) => unknown;

/** One question, one answer. `method` must be bound to its client. */
export function ask<Q, A>(method: Unary<Q, A>, request: Q): Promise<A> {
  return new Promise((resolve, reject) => {
    method(request, { deadline: Date.now() + deadlineMs }, (error, answer) => {
      if (error || answer === undefined) reject(error);
      else resolve(answer);
    });
  });
}

/** Everything a stream says, handed on one by one. */
export function readAll<T>(stream: ClientReadableStream<T>, each: (item: T) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.on("data", each);
    stream.on("error", reject);
    stream.on("end", resolve);
  });
}

export { deadlineMs };
