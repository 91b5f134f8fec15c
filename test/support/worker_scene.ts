import type { ExecutionContext } from "ava";
import { CommitMeter } from "../../agent/connection/commit_meter.js";
import { LiveConnection } from "../../agent/connection/connection.js";
import { Exposures } from "../../agent/connection/exposures.js";
import type { ConnectionHost } from "../../agent/connection/host.js";
import { ConnectionTable } from "../../agent/connection/table.js";
import { Transit } from "../../agent/connection/transit.js";
import type { GuardEvent } from "../../agent/guard/index.js";
import type { ConnectionHandlers, Native, Segment, SocketImage } from "../../agent/native/api.js";
import type { ApplicationLayer } from "../../agent/protocols/application.js";
import { IpLayer, Stack, TcpLayer } from "../../agent/protocols/index.js";
import type { ResumptionResult } from "../../agent/restore/attempt.js";
import { Heir } from "../../agent/restore/heir.js";
import { AnswerDesk } from "../../agent/restore/reattachment.js";
import { unreadyConnection } from "../../agent/restore/unready.js";
import type { GuardChange, GuardEntry } from "../../bpf/guard_layout.js";
import { BatonError } from "../../proto/errors.js";
import { connectionId, type Flow, flowKey } from "../../proto/flow.js";
import { type ConnectionRecord, encodeRecord, encodeTakeover } from "../../proto/record.js";
import { encodeIpSection, encodeTcpSection } from "../../proto/sections.js";
import { add } from "../../proto/sequence.js";
import { ConflictError } from "../../proto/store/index.js";
import { noBundles } from "./no_bundles.js";
import { exampleRecord } from "./record.js";

const RST = 4;
const ACK = 16;

/** Records with compare-and-set, in memory. */
class FakeBucket {
  readonly records = new Map<string, { revision: number; bytes: Uint8Array }>();
  commits = 0;
  /** Thrown instead of writing. */
  trouble: Error | undefined;
  /** Told of what is written, as a watch is. */
  written: (id: string, revision: number, bytes: Uint8Array) => void = () => {};
  private revision = 100;

  async commit(id: string, bytes: Uint8Array, expected: number): Promise<number> {
    this.commits++;
    if (this.trouble) throw this.trouble;
    const present = this.records.get(id) ?? { revision: 0, bytes: new Uint8Array() };
    if (present.revision !== expected) {
      throw new ConflictError(id, expected, { ...present, removed: false, messageId: "" });
    }
    const revision = ++this.revision;
    this.records.set(id, { revision, bytes });
    setImmediate(() => this.written(id, revision, bytes));
    return revision;
  }

  async remove(id: string): Promise<number> {
    this.records.delete(id);
    return ++this.revision;
  }
}

/** Entries without packets. */
class FakeGuard {
  readonly entries = new Map<string, Partial<GuardEntry>>();
  isFull = false;

  install(flow: Flow, entry: Partial<GuardEntry>): void {
    if (this.isFull) throw new BatonError("LIMIT_REACHED", "no room");
    this.entries.set(flowKey(flow), { flags: 0, clampedSinceNs: 0n, ...entry });
  }
  change(flow: Flow, { setFlags = 0, clearFlags: _, ...change }: GuardChange): Partial<GuardEntry> | undefined {
    const entry = this.entries.get(flowKey(flow));
    if (entry) Object.assign(entry, change, { flags: (entry.flags ?? 0) | setFlags });
    return entry;
  }
  lookup(flow: Flow): Partial<GuardEntry> | undefined {
    return this.entries.get(flowKey(flow));
  }
  remove(flow: Flow): boolean {
    return this.entries.delete(flowKey(flow));
  }
}

/** Nothing is spilled here. */
class FakeSpills {
  readonly purged: string[] = [];

  async purge(id: string): Promise<void> {
    this.purged.push(id);
  }
}

/** Sockets that are numbers. */
class FakeNative {
  readonly sent: Segment[] = [];
  /** Descriptors that are in use. */
  readonly open = new Set<number>();
  /** What sockets were made of. */
  readonly rebuilt: SocketImage[] = [];
  handlers: ConnectionHandlers | undefined;
  paused = false;
  /** Thrown instead of making a socket; instead of letting it speak. */
  noSockets: Error | undefined;
  noSpeech: Error | undefined;
  /** Thrown instead of letting go of a socket. */
  noDetaching: Error | undefined;
  private next = 1000;

  prepare(): number {
    if (this.noSockets) throw this.noSockets;
    this.open.add(++this.next);
    return this.next;
  }
  rebuild(_fd: number, image: SocketImage): void {
    this.rebuilt.push(image);
  }
  activate(): void {
    if (this.noSpeech) throw this.noSpeech;
  }
  resume(): void {}
  capture(): never {
    throw new Error("nothing is captured here");
  }
  closeInRepair(fd: number): void {
    this.open.delete(fd);
  }
  sendSegments(segments: Segment[]): number {
    this.sent.push(...segments);
    return segments.length;
  }
  connection(fd: number, { sendOffset, handlers }: { sendOffset: number; handlers: ConnectionHandlers }) {
    this.handlers = handlers;
    this.open.add(fd);
    this.paused = false;
    const close = () => void this.open.delete(fd);
    return {
      fd,
      append: () => {},
      setLimit: () => {},
      sentOffset: () => sendOffset,
      acknowledged: () => sendOffset,
      timestampClock: () => 4,
      info: () => ({ sendQueueBytes: 0, state: 1 }),
      pauseInput: () => {
        this.paused = true;
      },
      resumeInput: () => {
        this.paused = false;
      },
      detach: () => {
        if (this.noDetaching) throw this.noDetaching;
        return { fd, sentOffset: sendOffset };
      },
      close,
      closeSilently: close,
    };
  }
}

/** A worker without kernel and store, server s2; what is around it are fakes that can fail. */
export class WorkerScene {
  readonly bucket = new FakeBucket();
  readonly spills = new FakeSpills();
  readonly guard = new FakeGuard();
  readonly native = new FakeNative();
  readonly desk = new AnswerDesk();
  readonly reported: Array<{ takeover: string } & ResumptionResult> = [];
  /** And what happens to the datagrams of bundles. */
  readonly layerCalls: string[] = [];
  /** Called by the application layer to open an object. */
  open: ApplicationLayer["open"] = () => Promise.reject(new Error("nothing is opened here"));
  /** What else the application layer does. */
  layer: Partial<ApplicationLayer> = {};
  readonly host: ConnectionHost;
  readonly table: ConnectionTable;
  readonly heir: Heir;

  constructor(t: ExecutionContext) {
    t.teardown(() => this.table.abandon("the test is over"));
    this.host = {
      serverId: "s2",
      incarnation: 1,
      writer: "s2/1",
      native: this.native as unknown as Native,
      guard: this.guard as unknown as ConnectionHost["guard"],
      bucket: this.bucket as unknown as ConnectionHost["bucket"],
      commits: new CommitMeter(() => {}),
      exposures: new Exposures(),
      bundles: noBundles((what) => this.layerCalls.push(`${what} datagrams`)),
      spills: this.spills as unknown as ConnectionHost["spills"],
      limits: {
        ...{ inputBytes: 65_536, bodyBytes: () => 0, recordBytes: 327_680 },
        ...{ connectionsPerClient: 5, halfOpenPerClient: 2 },
      },
      unprotected: false,
      ended: (connection) => this.table.drop(connection),
    };
    this.table = new ConnectionTable(this.host, (connection) => this.stackOf(connection), 60_000);
    const report = (takeover: string, result: ResumptionResult) => this.reported.push({ takeover, ...result });
    this.heir = new Heir(this.table, this.desk, report, new Transit());
    this.heir.begin();
  }

  /** A live connection of this server, on a descriptor of its own. */
  live(record: ConnectionRecord): LiveConnection {
    const connection = new LiveConnection(
      this.host,
      { ...unreadyConnection(this.host, record, 0).identity },
      {
        epoch: 1,
        revision: 0,
        position: 0,
        floorByte: Buffer.alloc(0),
        consumed: 0,
        processed: 0,
        spilled: 0,
        ...LIVE,
      },
    );
    this.guard.install(record.flow, { phase: "LIVE", sendNext: record.tcp.serverSeq, sentAck: record.tcp.clientSeq });
    connection.useStack(this.stackOf(connection));
    this.table.addLive(connection);
    connection.start(this.native.prepare());
    return connection;
  }

  /** The store holds this record of s1, and this server's watch has seen it. */
  stored(record: ConnectionRecord, bytes: Uint8Array = encodeRecord(record)): void {
    this.bucket.records.set(record.id, { revision: 7, bytes });
    this.heir.record(record.id, 7, bytes);
  }

  /** s1 is dead, and s2 its only survivor. */
  takeOver(finished = false): void {
    this.heir.takeover(
      encodeTakeover({
        ...{ id: "s1.3", serverId: "s1", incarnation: 3, survivors: ["s2"], declaredAtUs: 1, suspectedAtUs: 1 },
        ...{ reason: "fenced", finished, round: 1 },
      }),
    );
  }

  /** Segments to the client that are no resets. */
  get probes(): Segment[] {
    return this.native.sent.filter(({ flags }) => !(flags & RST));
  }
  get resets(): Segment[] {
    return this.native.sent.filter(({ flags }) => flags & RST);
  }

  /** The client answers the latest probe of this flow with this ack. */
  answer(record: ConnectionRecord, ack: number, payload = 0): void {
    const { flow, tcp } = record;
    const probed = this.probes.findLast(({ remote }) => remote.port === flow.client.port);
    this.desk.deliver(flowKey(flow), {
      ...{ type: "ANSWER", timeNs: 0n, tcpState: 0, tcpFlags: ACK, payload, window: 500, flow },
      seq: add(tcp.clientIsn, 1 + record.consumed),
      ack,
      timestamps: { value: 1, echo: probed?.timestamps?.value ?? 0 },
    } as GuardEvent);
  }

  private stackOf({ identity }: LiveConnection): Stack {
    const note = (what: string) => void this.layerCalls.push(what);
    const application: ApplicationLayer = {
      name: "app",
      checkpoint: (block) => block.push({ layer: "app", version: 1, state: Buffer.alloc(0) }),
      unready: () => note("unready"),
      ready: () => note("ready"),
      undo: () => note("undo"),
      input: () => {},
      inputEnd: () => {},
      acknowledged: () => {},
      open: (reference, sure) => this.open(reference, sure),
      take: () => Promise.reject(new Error("nothing is passed here")),
      describe: () => ({ object: "", objectOffset: 0, firstByteSequence: 0, requests: 0 }),
      closed: () => note("closed"),
      ...this.layer,
    };
    const state = () => ({ ...exampleRecord().tcp, ...identity.tcp });
    return new Stack([new IpLayer(), new TcpLayer(identity.tcp, state)], application, () => {});
  }
}

const LIVE = { clientFinished: false, phase: "LIVE" } as const;

/** A connection of s1, its answer half acknowledged, which any server can go on with: nothing but a literal is promised. */
export function literalRecord(clientPort = 51234): ConnectionRecord {
  const example = exampleRecord();
  const flow = { ...example.flow, client: { ...example.flow.client, port: clientPort } };
  return {
    ...example,
    flow,
    id: connectionId(flow, example.tcp.clientIsn),
    layers: [
      encodeIpSection({ ttl: 64, dscp: 0 }),
      encodeTcpSection(example.tcp),
      { layer: "app", version: 1, state: Buffer.alloc(0) },
    ],
    output: [{ offset: 0, literal: Buffer.alloc(300, "h") }],
  };
}
