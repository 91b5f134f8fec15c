/**
 * An application of one connection, as the layer `app` hosts it: it turns requests into answers and has a state between
 * them. Everything that it does follows from its state and its input, so that its twin on another server goes on as it would have.
 *
 *     input ──► answer(rest) ──► used, output        the layer promises output and state in one record:
 *                 ▲      │                           a request is answered once, whichever server dies when
 *                 └ rest ┘ not used yet: stays in the record's spool, and is given to the twin again
 */
export interface Application {
  /** Names the application in records. */
  readonly name: string;
  /** Of the state that `checkpoint` makes. Grows when an older program could not read it. */
  readonly version: number;
  /** Requests answered on this connection. */
  readonly requests: number;

  /** Its state, opaque to Baton. It is part of every record of the connection: keep it small. */
  checkpoint(): Buffer;

  /** Goes on from a state that another server has written. Throws RefusedError where it cannot. */
  restore(version: number, state: Buffer): void;

  /**
   * Answers the first request of `input`, which is never empty; undefined while it is not all there. Called again, with more, as
   * input comes. What it keeps waiting for must have a bound: behind the bound it answers with `end`.
   */
  answer(input: Buffer): Answer | undefined;

  /** The client has ended and `input` is left, of which `answer` made nothing; it may be empty. @returns the last words */
  finish(input: Buffer): Buffer;
}

export interface Answer {
  /** So many bytes of the input are used up; at least one. */
  used: number;
  /** May be empty. */
  output: Buffer;
  /** The conversation ends behind `output`; what else comes from the client is of no use. */
  end?: boolean;
}

/** Makes the application of one connection. */
export type StartApplication = () => Application;
