/**
 * Why operations are refused or fail, as the label `reason` says it. Reasons are sentences for people and may carry names, or the words of a
 * lower layer; a label needs a fixed set. A reason counts as the first of these that it begins with.
 */
const known = [
  // of a record, or of what it names
  "object changed",
  "object missing",
  "no such object",
  "digest pending",
  "its upstream gives it no strong validator",
  "response changed",
  "a response is being made",
  "a request is being executed",
  "its request may not be executed again",
  "the body of its request is larger",
  "its upstream does not answer",
  "validator not accepted",
  "contradictory TCP state",
  "contradictory HTTP state",
  "other protocol layers",
  "no such service here",
  "the section of",
  "listing changed",
  "unknown transfer",
  "the upload cannot go on",
  "no such user here",
  "no such group",
  "no bundle",
  "its control connection is gone",
  "another application",
  "another version of the application",
  "the application's state is not usable",
  // of a client
  "acknowledgement below the floor",
  "acknowledgement too far past the floor",
  "acknowledgement beyond the output",
  "the client does not answer",
  // of a connection without a record
  "no record, and the server speaks first in this protocol",
  "no record, and the client has no timestamps to prove itself with",
  "the connection had ended",
  "it has a record",
  "somebody else has it",
  // of flows that are to go with a connection
  "taken",
  "too many flows of one connection",
  "no room for more related flows",
  "no such port",
  "no such connection",
  "not a control connection",
  "another server owns the connection",
  // of a move
  "it is not live",
  "a related connection has just come",
  "it is not protected",
  "it has ended",
  "the guard does not know it",
  "its input is not where its record says",
  "too much of its input is not used yet",
  "no socket state",
  "it is not rebuilt",
  "somebody else has the record",
  "more was sent than its record promises",
  "there is no stream to",
  "its owner is gone",
  "the agent of",
] as const;

export const OTHER_REASON = "other";

/** One of a fixed set. */
export function reasonLabel(reason: string): string {
  return known.find((start) => reason.startsWith(start)) ?? OTHER_REASON;
}
