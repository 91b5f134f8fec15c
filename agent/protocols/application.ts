import type { Endpoint, Transport } from "../../proto/flow.js";
import type { LayerSection, ObjectReference, RelatedFlow } from "../../proto/record.js";
import type { Spool } from "../native/api.js";
import type { ProtocolLayer } from "./layer.js";

/**
 * The seam between the core of a connection (sequence numbers, records, commits, the pump) and the protocol that is
 * spoken on it. The layer sees two byte streams by their 64-bit offsets and never the socket, the store or the lease.
 *
 *   client's stream   0 ........ processed ............ consumed        the core keeps [processed, consumed) in the record
 *                                └ what the layer still may need        or beside it, and gives it to the layer's twin again
 *
 *   our stream        0 ... acknowledged ...... tail                    [acknowledged, tail) is promised: in record.output,
 *                                                                       never made again by a layer, only reproduced
 *
 * Order of calls. New connection: create, input/inputEnd/acknowledged/checkpoint in any order, closed.
 * Taken over: create (inputOffset = record.processed), unready, open for each object with unacknowledged bytes, ready, then
 * input of what the record has beside it, input(record.spool) if it is not empty, inputEnd() if record.clientFinished, then as above; or undo and closed instead of ready.
 * A new connection may be told to `begin`. Calls never overlap, but the core may call `checkpoint` from within any call of the port. After `closed` neither side
 * calls the other.
 */
export interface ApplicationLayer extends ProtocolLayer {
  /** A new connection has its socket: who speaks first speaks now. Not called where it was taken over. Missing: the client does. */
  begin?(): void;

  /**
   * Its client has too many half-open connections: says so, and promises the FIN. Instead of `begin`; nothing of such a connection is recorded.
   * Missing: the client is reset.
   */
  turnAway?(): void;

  /**
   * Whether its client has begun nothing yet that it would miss: it has not logged in, has nothing set up. A client may have only so many
   * connections like that. Asked with each new one, so it has to be cheap. Missing: never.
   */
  halfOpen?(): boolean;

  /** The next bytes of the client's stream, in order and without gaps from `inputOffset` on. The layer may keep the chunk; nobody changes it. */
  input(chunk: Buffer): void;

  /**
   * The client has finished its stream (FIN), or the core wants no more of it: answer what is complete, then promise the FIN.
   * @param isLate it has sent nothing for too long
   */
  inputEnd(isLate?: boolean): void;

  /** Everything of ours below `position` is at the client. Never falls. The core calls it before `checkpoint` when it has moved. */
  acknowledged(position: number): void;

  /**
   * Opens an object named by a piece of the record's output for reading and checks that it is the same content. Called between
   * `unready` and `ready`, only for pieces of which bytes are unacknowledged. The core owns what it gets.
   * Throws RefusedError ("object missing", "object changed", "digest pending", ...).
   * @param sure rather refused than opened where it is not certain: there is another server that has the connection still
   */
  open(reference: ObjectReference, sure: boolean): Promise<OpenObject>;

  /** Why the connection had better not be moved now; "" = nothing stands against it. Missing: never anything. */
  unmovable?(): string;

  /** An idle connection is ended after so long, milliseconds. Missing: after as long as any. */
  readonly idleMs?: number;

  /** Input is on its way to where it is kept, and will be processed within moments: no record need have it. Missing: never. */
  readonly storesInput?: boolean;

  /** Whether something has begun that only the client can bring on: then it is idle, though it is not to be moved. Missing: never. */
  awaitsClient?(): boolean;

  /** Why no other server could go on with the connection if this one died now; "" = one could. Missing: one always could. */
  gap?(): string;

  /**
   * Whatever else is needed to go on where the record ends. Called once between `unready` and `ready`, after the last `open`.
   * Throws RefusedError.
   */
  gather?(): Promise<void>;

  /** Of a control connection: what belongs to it and has no record, for operators. Missing: nothing. */
  flows?(): RelatedFlow[];

  /** What was taken cannot be kept any longer: it is to be marked processed. Missing: the layer takes nothing. */
  letGo?(): void;

  /**
   * As `open`, of the object piece promised at `offset` that this server's former process had open; the descriptor is the layer's. It
   * goes on with that very content, whatever its name leads to by now. While the reference has no validator, why it is unprotected
   * and what will protect it come along, as in a Response.
   */
  take(reference: ObjectReference, offset: number, fd: number): Promise<TakenObject>;

  /**
   * Files that it reads from, beside what it has promised: as many as its section has places for, in its order, right behind `checkpoint`. Held for
   * the caller, who passes them to this server's next process. Missing: none.
   */
  sources?(): OpenObject[];

  /** Those of the former process, ahead of `unready`: with them it goes on, whatever their names lead to by now. They are the layer's. */
  takeSources?(fds: number[]): void;

  /** For operators: what the client is receiving at `position` (acknowledged). Cheap, no side effects. */
  describe(position: number): ApplicationDescription;

  /**
   * The connection is over, or it is not this layer's any more: of somebody else's, or of another layer here. Lets go of everything.
   * @returns what its record is to outlast, where the end has to be written elsewhere first
   */
  closed(isOver: boolean): void | Promise<void>;
}

/** An object ready to be sent from. `fd` is at no particular position. `close` may be called again. */
export interface OpenObject {
  readonly fd: number;
  close(): void;
  /** Where it comes from elsewhere, bit by bit. */
  readonly stream?: ObjectStream;
}

/** An object that is fetched while it is sent. Positions are the object's. `fd` is valid once it has begun. */
export interface ObjectStream {
  readonly spool: Spool | undefined;
  /** The first byte that will be needed; said once, again is nothing. */
  begin(position: number): void;
  /** Begins at `from`, and resolves when the bytes up to `to` are there. */
  fetch(from: number, to: number): Promise<void>;
  /** The last byte below `below` that is known, and where it is; undefined: none is. */
  known(below: number): { position: number; byte: number } | undefined;
  /** Nothing below is needed any more. Called every now and then, also where nothing has changed. */
  release(below: number): void;
  /** All of it has come, and nothing is kept but its last byte. */
  readonly isDone: boolean;
  /** Resolves, with why, when the rest will never come. */
  readonly lost: Promise<string>;
}

export type TakenObject = { file: OpenObject } & Pick<Response, "unprotected" | "protect">;

export interface ApplicationDescription {
  /** Object id; "" = none. */
  object: string;
  /** The acknowledged position in the object, bytes. */
  objectOffset: number;
  /** TCP sequence number of the first byte sent of the object; 0 where there is none. */
  firstByteSequence: number;
  /** Requests answered or being answered. */
  requests: number;
}

/** What the core offers to the layer of one connection. */
export interface ConnectionPort {
  /** The connection's name for its whole life. */
  readonly id: string;

  /** The client. */
  readonly peer: Endpoint;

  /** The address and port that it has come to. */
  readonly vip: Endpoint;

  /** Stream offset behind everything promised: where the next response will start. A promised FIN counts as one. */
  tail(): number;

  /** The client has everything of ours below, as far as the kernel knows by now. */
  acknowledged(): number;

  /** Whether the promise of an object that begins at `offset` is still part of records. */
  holds(offset: number): boolean;

  /** Whether our FIN is promised: then `respond` must not be called any more; further input is only to be marked processed. */
  ended(): boolean;

  /**
   * Promises output. The pieces start at `tail()`; the core commits and only then sends. Synchronous: when it returns, `tail()`
   * has moved. The layer has brought its own state up to date before it calls, because `checkpoint` may be called within.
   */
  respond(response: Response): void;

  /** Writes a record as things are. Resolves when it is in the store; never where the connection ends before. */
  recorded(): Promise<void>;

  /** The client's stream below `offset` needs no answer and is not needed again. Never falls. `respond` says it as well. */
  processed(offset: number): void;

  /** Bytes that may be taken and not processed, beside what may wait; 0 where nothing is kept. */
  readonly keeps: number;

  /**
   * The client's stream below `offset` was handed on, but would be needed again by the layer's twin: the core goes on reading, and keeps it.
   * Never falls.
   */
  took(offset: number): void;

  /** Something has been begun that no other server could go on with. Once each, however long it takes. */
  exposed(exposure: Exposure): void;

  /**
   * Ends the connection by an exact RST. `reason` goes into history and log. For what no response can express. Resolves when its record
   * is gone, if the store is there.
   */
  reset(reason: string): Promise<void>;

  /** The bundle that it is of; undefined where its protocol has none. */
  readonly bundle: BundlePort | undefined;

  /** TCP sequence number of our byte at the stream offset. */
  sequence(offset: number): number;
}

/** A flow that is related to a control connection: between its client and its VIP. Of the client's ports 0 is any. */
export interface Relation {
  transport: Transport;
  vipPort: number;
  clientPort: number;
}

/**
 * A control connection and what is related to it. Wherever the control connection is the others are: packets of related flows are steered
 * and held as its own are, and who takes it over takes all over, or resets all. When it ends the others are reset.
 */
export interface BundlePort {
  /** The control connection's. */
  readonly id: string;
  /** Layers of the connections that are here. */
  readonly control: ApplicationLayer | undefined;
  readonly related: ApplicationLayer[];
  /** Resolves when packets of these flows come here. To be called before the client hears of them. Throws a BatonError; RefusedError "taken" where another bundle has one. */
  relate(relations: Relation[]): Promise<void>;
  /** They were related by whoever had the bundle before: it is said again, to appliances that may have forgotten it. */
  restate(relations: Relation[]): void;
  unrelate(relations: Relation[]): void;
  /** The client's next connection to this port of the VIP is related: it gets a layer of the same protocol. */
  expect(vipPort: number): void;
  expectNone(vipPort: number): void;
  /**
   * Opens a related connection to the client, which is to be `relate`d ahead; it gets its layer as one that has come. Resolves then.
   * Throws a BatonError.
   */
  dial(vipPort: number, clientPort: number): Promise<void>;
  /**
   * Opens a flow of datagrams between the client's port and this one of the VIP, which are to be related before. It stands still while the
   * bundle does, and is closed when the bundle goes. Rejects where there is no socket or no room for it.
   */
  openDatagrams(vipPort: number, clientPort: number, received: (datagram: Buffer) => void): Promise<DatagramFlow>;
  /** The same from a port of the VIP to a multicast group of its family, which nobody else of the site sends to. */
  openGroup(vipPort: number, group: Group): Promise<DatagramFlow>;
}

/** Where datagrams go to for everybody who has joined it. */
export interface Group {
  address: string;
  port: number;
  /** Or hop limit. */
  ttl: number;
}

export interface DatagramFlow {
  /** Only while it is open. The kernel may have to wait; what it does not take is lost, as on the network. */
  send(datagram: Buffer): void;
  /** Sent, and the kernel does not have them yet. */
  readonly pending: number;
  /** Neither standing still nor closed. */
  readonly isOpen: boolean;
  /** Resolves when it stands still no more: it is open, or closed. */
  thawed(): Promise<void>;
  /** May be called again. */
  close(): void;
}

export interface Exposure {
  /** One of a fixed set, by which it is counted. */
  reason: string;
  /** What it is, for the log. */
  about: Record<string, string>;
  /** It passes by itself, as a rule before its client has got everything. */
  passes: boolean;
}

export interface Response {
  /** In order; may be empty (a FIN alone, or a state that has changed without a word). */
  pieces: ResponsePiece[];
  /** Our FIN behind the pieces. The core then lingers: it goes on reading and discarding for a bounded time. */
  fin?: boolean;
  /** Client stream offset up to which input is used up by this response. */
  processed: number;
  /** Why this connection cannot be taken over while bytes of this response are unacknowledged, e.g. "digest pending". Absent = it can. */
  unprotected?: string;
  /**
   * With `unprotected`: resolves with the reference that takes the place of this response's (only) object piece; only the validator
   * differs. The layer's section names it by then; the core commits again and the connection is protected. Rejects with a BatonError
   * whose message is the new reason: the response stays unprotected.
   */
  protect?: Promise<ObjectReference>;
}

/** The core closes `file` when no byte of the piece can be needed any more, also when `respond` comes too late. */
export type ResponsePiece = { literal: Buffer } | { object: ObjectReference; file: OpenObject };

/**
 * Makes the layer of one connection. `inputOffset`: client stream offset of the first byte that `input` will bring. `isRelated`: it is of
 * a bundle, and not its control connection.
 */
export interface ApplicationFactory {
  (port: ConnectionPort, inputOffset: number, isRelated: boolean): ApplicationLayer;
  /** Another server has a connection of which a layer says this: what it would take to go on with it may be got ready. Missing: nothing is. Never rejects. */
  foresee?(section: LayerSection): Promise<Foreseen>;
}

/** `nothing`: what it will take is not known yet. */
export type Foreseen = "ready" | "nothing" | "unready";
