/** What the TCP addon offers. Implemented in C++ (agent/native/*.cc); this is its only door for TypeScript. */

/** Both ends of a connection as this server sees it: `local` is the VIP. Addresses as text. */
export interface Endpoints {
  local: { address: string; port: number };
  remote: { address: string; port: number };
}

/** All that TCP_REPAIR can give back. Sequence numbers and timestamps are unsigned 32-bit numbers. */
export interface SocketImage extends Endpoints {
  /** Sequence number of the first byte of the send queue: the client's ack (snd_una). */
  sendUna: number;
  /** Next byte expected from the client, behind `receiveQueue`. */
  receiveNext: number;
  mss: number;
  windowScaling: boolean;
  sendScale: number;
  receiveScale: number;
  sack: boolean;
  timestamps: boolean;
  /** tsval that the socket uses at the moment of the rebuild; bit 0 is the microsecond flag's place: see kernel's TCP_TIMESTAMP. */
  timestampClock: number;
  timestampUsec: boolean;
  window: { sndWl1: number; sndWnd: number; maxWindow: number; rcvWnd: number; rcvWup: number };
  receiveQueue: Buffer; // received, not yet read by the application
  sendQueue: Buffer; // sent, not yet acknowledged
  unsentQueue: Buffer; // accepted by the kernel, not yet sent
  state: number; // TCP_ESTABLISHED 1, ... as linux/tcp_states.h
  options: {
    nodelay: boolean;
    keepalive: boolean;
    keepIdleS: number;
    keepIntervalS: number;
    keepCount: number;
    congestion: string;
    /** Bound of the window that is ever advertised, in bytes, as for `listen`. Missing: `window.rcvWnd`. */
    receiveBuffer?: number;
  };
}

export interface TcpInfo {
  state: number;
  options: number; // TCPI_OPT_TIMESTAMPS 1, SACK 2, WSCALE 4, ...
  sendScale: number;
  receiveScale: number;
  sendMss: number;
  unacked: number;
  rttUs: number;
  retransmits: number;
  totalRetransmits: number;
  bytesAcked: number; // of our stream, without the SYN; for a rebuilt socket from its rebuild
  bytesReceived: number;
  notSentBytes: number;
  sendQueueBytes: number; // SIOCOUTQ
}

export interface Segment extends Endpoints {
  seq: number;
  ack: number;
  flags: number; // FIN 1, SYN 2, RST 4, PSH 8, ACK 16
  window: number; // as on the wire
  timestamps?: { value: number; echo: number };
  payload?: Buffer;
}

export type Piece =
  | { literal: Buffer }
  // sendfile from a regular file; fd stays the caller's, must stay open until `onDrained` passes it. `spool`: whose file it is
  | { fd: number; offset: number; length: number; spool?: Spool }
  | { fin: true };

/**
 * A part of an object, positions `start` to `end`, that goes from another server's socket to the client's as the client takes it, and
 * is not kept. What is put lies in a file without a name.
 */
export interface Spool {
  /** The file, for reading by position what was put last. Not valid after `close`. */
  readonly fd: number;
  /** Behind the last byte that has come. */
  filled(): number;
  /** Bytes that have come already, in front of what the socket will bring. */
  put(bytes: Buffer): void;
  /**
   * From here on the bytes from `filled` on come out of this socket, and nothing else but them. It is duplicated: close yours. Who waits
   * goes on.
   */
  attach(socket: number): void;
  /** Everything below is not needed any more, but for the known byte in front of it. */
  release(below: number): void;
  /** The last position below `below` whose byte is known: of what was put, every four mebibytes, and the last one. -1: none. */
  known(below: number): number;
  /** The byte at a position that is known. Throws TcpError ENODATA. */
  byteAt(position: number): number;
  close(): void;
}

/**
 * A live connection. Input arrives as buffers; output is a queue of pieces which a native thread sends, never beyond the
 * limit. Offsets are 64-bit stream offsets of our stream, starting at `sendOffset` given at creation.
 */
export interface Connection {
  readonly fd: number;
  append(pieces: Piece[]): void;
  /** Nothing at or past this stream offset leaves before the next call; a FIN takes one offset. */
  setLimit(offset: number): void;
  /** Stream offset behind the last byte handed to the kernel. */
  sentOffset(): number;
  /** Stream offset behind the last byte that the peer has acknowledged. Cheap. */
  acknowledged(): number;
  /** Value of the socket's timestamp clock (TCP_TIMESTAMP), whose last bit says whether it counts microseconds. */
  timestampClock(): number;
  info(): TcpInfo;
  pauseInput(): void;
  resumeInput(): void;
  /** Closes inside repair mode: no FIN, no RST, whatever is queued. */
  closeSilently(): void;
  /** Ordinary close(2) of a connection that has ended. */
  close(): void;
  /**
   * Stops the pump and the reader. The descriptor is the caller's from now on; `sentOffset` is behind the last byte, and FIN,
   * that was given to the kernel.
   */
  detach(): { fd: number; sentOffset: number };
}

export interface ConnectionHandlers {
  onInput(chunk: Buffer): void;
  /** The client's FIN was read. */
  onInputEnd(): void;
  /** The queue is empty up to the limit or up to its end: stream offset sent. Edge: once a time that it runs dry. */
  onDrained(offset: number): void;
  /** ECONNRESET, EPIPE, ETIMEDOUT, EIO (file shorter than promised), ...; the connection is of no more use. */
  onError(code: string): void;
}

export interface Listener {
  readonly port: number;
  close(): void;
  /** Stops accepting; what waits stays in the backlog. @returns the listening socket, the caller's from now on */
  detach(): number;
}

/** Gets what was accepted, in batches; the descriptors are the callee's. */
export type OnAccept = (fds: Array<{ fd: number; endpoints: Endpoints }>) => void;

export interface Native {
  /** Listens on a VIP (IP_FREEBIND, plain TCP). The cgroup must be joined before. */
  listen(options: {
    address: string;
    port: number;
    backlog: number;
    receiveBuffer?: number;
    onAccept: OnAccept;
  }): Listener;
  /** Goes on with the listening socket of another process, which is this one's from now on. */
  listenOn(fd: number, onAccept: OnAccept): Listener;
  /**
   * Opens a connection from a VIP to a client. `onDone` comes once, with the socket, which is the callee's, or with the name of an errno;
   * not after `close`.
   */
  dial(options: {
    endpoints: Endpoints;
    receiveBuffer: number;
    onDone: (fd: number | undefined, code: string | undefined) => void;
  }): { close(): void };
  connection(fd: number, options: { sendOffset: number; handlers: ConnectionHandlers }): Connection;
  /**
   * @param onBroken a connection waits for bytes, and no socket brings any: EPIPE (the other server has ended early), ECONNRESET, ...
   * `attach` another one.
   */
  spool(options: { start: number; end: number; onBroken: (code: string) => void }): Spool;

  info(fd: number): TcpInfo;
  endpoints(fd: number): Endpoints;

  /** A socket in repair mode, bound to the VIP: all that can be done before the client's ack is known. */
  prepare(endpoints: Endpoints): number;
  /** Sequence numbers, connect, options, clock, queues, window. Still in repair and silent. Throws TcpError naming the step. */
  rebuild(fd: number, image: SocketImage): void;
  /** Leaves repair without a window probe (-1), sets SO_REUSEADDR again, sends the unsent queue. */
  activate(fd: number, image: SocketImage): void;
  /**
   * Enters repair and reads everything. The socket stays in repair: `resume` or `closeInRepair` next.
   * @param withoutSent the send queue is left out (sendQueue and unsentQueue are empty): the next owner makes it itself.
   */
  capture(fd: number, withoutSent?: boolean): SocketImage;
  resume(fd: number): void;
  closeInRepair(fd: number): void;
  /**
   * Many at once in a worker thread, for mass takeover: rebuild + activate. One result an item: null or an error. About
   * 32 us an item there, but 11 us here for its conversion: batches of 500 keep the loop responsive.
   */
  rebuildBatch(items: Array<{ fd: number; image: SocketImage }>): Promise<Array<null | { code: string; step: string }>>;

  /** Sends raw TCP segments (probes, nudges, exact resets) through one raw socket a family. Bounded batch, never blocks. */
  sendSegments(segments: Segment[]): number;

  /** SOCK_DESTROY over sock_diag of every TCP socket with this local address and port that this process does not hold. */
  destroyOrphans(local: Array<{ address: string; port: number }>): number;
  /** Destroys one flow's orphan. @returns whether there was one. */
  destroyOrphan(endpoints: Endpoints): boolean;

  /** SHA-256 of a file's content on a low-priority thread; hex. `signal`-less: bounded by the file's size. Rejects on I/O errors or if it changed meanwhile (mtime, ctime, size, inode). */
  hashFile(
    path: string,
  ): Promise<{ sha256: string; device: bigint; inode: bigint; size: number; mtimeNs: bigint; ctimeNs: bigint }>;

  /** Calls back once when the process ends. */
  watchProcess(pid: number, onExit: () => void): { close(): void };
  /**
   * Starts a thread that does nothing, at real-time priority. @returns its id. When the process is killed it is gone at once
   * (0.1 ms), the process itself only when its memory is (10 ms and more).
   */
  startCanary(): number;
  /** Calls back once when that thread of any process ends. Throws TcpError EINVAL before Linux 6.9. */
  watchThread(tid: number, onExit: () => void): { close(): void };
  sendDescriptors(socketPath: string, fds: number[], message: Buffer): Promise<void>;
  receiveDescriptors(socketPath: string, onMessage: (fds: number[], message: Buffer) => void): { close(): void };
  closeFd(fd: number): void;
  openFile(path: string): number; // O_RDONLY | O_CLOEXEC | O_NONBLOCK, regular files only
  /** A file without a name that has these bytes at `position`, and a hole before; in memory until it is closed. */
  memoryFile(bytes: Buffer, position: number): number;
  /** SCHED_RR for the whole process, all threads; returns false where it is not permitted. */
  setRealtime(priority: number): boolean;
  /** Writes the pid into <path>/cgroup.procs, making the group. */
  joinCgroup(path: string): void;
  monotonicNs(): bigint;
}
