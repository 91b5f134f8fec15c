/** What the libbpf addon offers. Implemented in C++ (bpf/binding/*.cc); this is its only door for TypeScript. */

/** A map of a loaded object, or one opened by its pin. Keys and values are raw bytes as bpf/shared.h lays them out. */
export interface BpfMap {
  readonly name: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** The value, `undefined` if there is none. Per-CPU maps return all CPUs' values one after the other. */
  lookup(key: Buffer): Buffer | undefined;
  /** @param flags BPF_ANY 0, BPF_NOEXIST 1, BPF_EXIST 2, BPF_F_LOCK 4. Throws BindingError (EEXIST, ENOENT, E2BIG, ENOMEM). */
  update(key: Buffer, value: Buffer, flags?: number): void;
  /** @returns whether there was such an entry. */
  delete(key: Buffer): boolean;
  /** Keys and values one after the other; falls back to single updates where the kernel has no batch for this type. */
  updateBatch(keys: Buffer, values: Buffer, flags?: number): number;
  deleteBatch(keys: Buffer): number;
  /** Every entry at this moment (batched lookups where the kernel has them). */
  entries(): Array<[Buffer, Buffer]>;
  pin(path: string): void;
  close(): void;
}

export interface TestRun {
  retval: number;
  dataOut: Buffer;
  durationNs: number;
  contextOut?: Buffer;
}

export interface BpfProgram {
  readonly name: string;
  readonly type: string;
  pin(path: string): void;
  /** BPF_PROG_TEST_RUN. For SEC("syscall") programs pass `context`, which is written back into `contextOut`. */
  testRun(options: { data?: Buffer; context?: Buffer; repeat?: number; ingressIfindex?: number }): TestRun;
  /** By bpf_link; XDP native mode. With `pin` the link outlives this process. If the pin exists, bpf_link_update swaps the program in. */
  attachXdp(ifname: string, options?: { pin?: string; generic?: boolean }): BpfLink;
  /** tcx egress/ingress through a bpf_link (kernel 6.6 on); with `pin` it outlives this process, as attachXdp. */
  attachTc(ifname: string, direction: "ingress" | "egress", options?: { pin?: string }): BpfLink;
  /** sock_ops on a cgroup v2 directory; bpf_link, pinnable. */
  attachCgroup(path: string, options?: { pin?: string }): BpfLink;
  /** tp_btf; bpf_link, pinnable. */
  attachTracing(options?: { pin?: string }): BpfLink;
}
export interface BpfLink {
  detach(): void;
  close(): void;
}

export interface BpfObject {
  program(name: string): BpfProgram;
  map(name: string): BpfMap;
  readonly programs: string[];
  readonly maps: string[];
  close(): void;
}

export interface LoadOptions {
  /** Values of `const volatile` variables, by name: numbers and bigints take the variable's size, buffers must match it. */
  rodata?: Record<string, number | bigint | Buffer>;
  /** Each named map is reused from this folder if it is pinned there (and fits), else pinned there. */
  pinDir?: string;
  pinMaps?: string[];
  /** Changes max_entries before the load. */
  maxEntries?: Record<string, number>;
  /** Programs not to load. */
  skip?: string[];
}

/** One ring buffer on libuv: `onRecord` gets each record's bytes (a copy) in order, at most `budget` an event-loop turn. */
export interface RingBuffer {
  close(): void;
}

/**
 * The queue of held packets. A native thread drains the ring buffer `held_packets` into a queue a flow and, when told,
 * sends them in ticket order through AF_PACKET and flips the hold with the program `steer_release`.
 */
export interface HoldQueue {
  /**
   * From now on this flow's packets go to `mac` (owner `slot`): the queued ones now and in order, then the hold is flipped, and
   * any straggler is forwarded as it comes, until `forget`. Resolves when the hold is flipped (or there was none).
   */
  assign(flow: Buffer, slot: number, mac: Buffer): Promise<{ packets: number; heldUs: number }>;
  /**
   * Many at once, in one crossing of the border; results in the same order, each with an outcome of its own: `error` says why one
   * is held still. Rejects only when the queue is closed.
   */
  assignBatch(
    items: Array<{ flow: Buffer; slot: number; mac: Buffer }>,
  ): Promise<Array<{ packets: number; heldUs: number; error?: string }>>;
  /** Throws the queued packets of a flow away (counted) and deletes its hold. */
  drop(flow: Buffer): number;
  forget(flow: Buffer): void;
  /** Flows with queued packets, each with its first and its latest packet's frame. */
  flows(): Array<{ flow: Buffer; packets: number; bytes: number; first: Buffer; last: Buffer; sinceNs: bigint }>;
  stats(): { packets: number; bytes: number; flows: number; dropped: number; sent: number };
  /** Sends a whole Ethernet frame out of the interface. */
  send(frame: Buffer): void;
  close(): void;
}

export interface Binding {
  /** Opens, sets rodata, loads, pins maps. Throws BindingError with the verifier's last lines in `log`. */
  load(path: string, options?: LoadOptions): BpfObject;
  openPinnedMap(path: string): BpfMap;
  openPinnedProgram(path: string): BpfProgram;
  ringBuffer(map: BpfMap, onRecord: (record: Buffer) => void, options?: { budget?: number }): RingBuffer;
  holdQueue(options: {
    heldPackets: BpfMap;
    release: BpfProgram;
    holds: BpfMap;
    interface: string;
    /** Of all flows together; what is too much is dropped and counted, and does not keep a hold from ending. */
    maxBytes: number;
    /** Of one flow. */
    maxPackets: number;
    /** A flow got its first packet since it was last empty. Batched. */
    onHeld: (flows: Buffer[]) => void;
    /** A packet that a server sent back: { flow, slot, frame }. */
    onBounced: (packets: Array<{ flow: Buffer; slot: number; frame: Buffer }>) => void;
  }): HoldQueue;
  /** Inode number of the network namespace this process is in, as BPF sees it in net->ns.inum. */
  netnsInode(): number;
  /** Interface index; throws BindingError ENODEV. */
  ifindex(ifname: string): number;
  /** Sends a whole IP packet to where this namespace's routes lead. Throws BindingError EINVAL, ENETUNREACH, ... */
  sendIpPacket(packet: Buffer): void;
  /** CLOCK_MONOTONIC, nanoseconds, as bpf_ktime_get_ns. */
  monotonicNs(): bigint;
  possibleCpus(): number;
}
