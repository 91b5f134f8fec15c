import { BatonError, RefusedError } from "../../proto/errors.js";
import { flowKey } from "../../proto/flow.js";
import type { TcpState } from "../../proto/record.js";
import { type Offset, toSequence } from "../../proto/sequence.js";
import { Tally } from "../../proto/tally.js";
import { type ConnectionHost, endpointsOf } from "../connection/host.js";
import type { GuardEvent } from "../guard/index.js";
import type { SocketImage } from "../native/api.js";
import type { TimestampClock } from "./clock.js";
import { type Answer, Comparison, type Expectation, type Probe } from "./compare.js";
import { negotiated } from "./negotiated.js";
import { type ProbeSubject, probe } from "./probe.js";
import { widestWindow } from "./receive_window.js";
import type { RepairSocket } from "./repair_socket.js";

/** When the probe is sent again if no answer came, milliseconds after the one before; the last one repeats until the deadline. */
const RETRY_MS = [15, 30, 60, 120, 250, 500, 1000] as const;
const DEADLINE_MS = 60_000;
export interface Subject extends ProbeSubject, Expectation {
  tcp: TcpState;
}

export type Outcome =
  | { kind: "match"; position: Offset; fd: number; image: SocketImage; answer: Answer }
  | { kind: "finished" }
  | { kind: "gone" }
  | { kind: "refused"; reason: string; answer: Answer | undefined };

/** Told as it happens: "probed", "answered", "compared", "rebuilt". */
export type Trace = (what: string, detail?: string) => void;

/**
 * From a record to a socket: probe the client, compare its answer, rebuild at its exact ack. The guard's entry is in PROBE
 * all the while, so that nothing of the client reaches the stack and nothing but probes leaves.
 *
 *   probe ──► answer ──► compare ── match ──► rebuild (in repair) ──► `activate` by the caller
 *     ▲ retry              ├ finished / gone / refused
 *     └──────── none       └ not an answer: ignored, counted
 */
export class Reattachment {
  private readonly comparison: Comparison;
  private readonly startedAt = performance.now();
  private deadlineMs = DEADLINE_MS;
  private isOver = false;
  private tries = 0;
  private timer: NodeJS.Timeout | undefined;
  private settle!: (outcome: Outcome) => void;
  private readonly outcome = new Promise<Outcome>((resolve) => {
    this.settle = resolve;
  });
  private lastProbe: Probe = { tsval: 0, count: 0 };

  constructor(
    private readonly host: ConnectionHost,
    private readonly subject: Subject,
    private readonly clock: TimestampClock,
    private readonly desk: AnswerDesk,
    private readonly trace: Trace,
    private readonly beforeRebuild: (position: Offset) => void,
    /** Closed unless the client's answer matches. None: the client is only to be reset, and `beforeRebuild` says why. */
    private readonly socket: RepairSocket | undefined,
  ) {
    this.comparison = new Comparison(subject);
  }

  run(): Promise<Outcome> {
    this.desk.expect(flowKey(this.subject.flow), (event) => this.answered(event));
    this.send();
    return this.outcome.finally(() => {
      clearTimeout(this.timer);
      this.desk.forget(flowKey(this.subject.flow));
    });
  }

  /** No answer is waited for any longer. */
  giveUp(): void {
    this.deadlineMs = Number.NEGATIVE_INFINITY;
    if (!this.isOver) this.sendNow();
  }

  private send(): void {
    if (performance.now() - this.startedAt > this.deadlineMs) {
      this.end({ kind: "refused", reason: "the client does not answer", answer: undefined });
      return;
    }
    const tsval = this.clock.now();
    this.lastProbe = { tsval, count: ++this.tries };
    this.host.native.sendSegments([probe(this.subject, tsval)]);
    if (this.tries === 1) this.trace("probed");
    this.timer = setTimeout(() => this.send(), RETRY_MS[Math.min(this.tries, RETRY_MS.length) - 1]).unref();
  }

  private answered(event: GuardEvent): void {
    const answer = answerOf(event);
    const result = this.comparison.compare(answer, this.lastProbe);
    if (result.kind === "ignore") {
      this.desk.ignore(result.reason);
      return;
    }
    if (result.kind === "outside" && result.final) {
      this.end({ kind: "refused", reason: result.reason, answer });
      return;
    }
    if (result.kind === "outside" || result.kind === "doubtful") {
      // One such answer may be an old packet; the same again to a later probe of ours is not.
      this.sendNow();
      return;
    }
    this.trace("compared", result.kind === "match" ? `position ${result.position}` : result.kind);
    if (result.kind === "match") this.rebuild(result.position, answer);
    else this.end(result);
  }

  private rebuild(position: Offset, answer: Answer): void {
    if (answer.hasTimestamps) this.clock.passed(answer.tsecr);
    try {
      this.beforeRebuild(position);
      if (!this.socket) throw new BatonError("INTERNAL", "there is no socket to rebuild");
      const image = this.image(position, answer);
      this.socket.rebuild(image);
      this.trace("rebuilt");
      this.end({ kind: "match", position, fd: this.socket.take(), image, answer });
    } catch (error) {
      const reason = error instanceof RefusedError ? error.reason : (error as Error).message;
      this.end({ kind: "refused", reason, answer });
    }
  }

  private sendNow(): void {
    clearTimeout(this.timer);
    this.send();
  }

  private end(outcome: Outcome): void {
    this.isOver = true;
    this.socket?.close();
    this.settle(outcome);
  }

  private image(position: Offset, answer: Answer): SocketImage {
    const { tcp } = this.subject;
    const sndWnd = answer.window << (tcp.windowScaling ? tcp.sendScale : 0);
    const receiveNext = toSequence(tcp.clientIsn, this.subject.consumed);
    const receiveWindow = widestWindow(tcp);
    return {
      ...endpointsOf(this.subject.flow),
      sendUna: toSequence(tcp.serverIsn, position),
      receiveNext,
      ...negotiated(tcp),
      timestampClock: this.clock.now(),
      timestampUsec: tcp.timestampUsec,
      window: {
        // Not the answer's, which may be past all windows: what the client sends again begins here, and its windows count.
        sndWl1: receiveNext,
        sndWnd,
        maxWindow: Math.max(sndWnd, receiveWindow),
        rcvWnd: receiveWindow,
        rcvWup: receiveNext,
      },
      receiveQueue: Buffer.alloc(0),
      sendQueue: Buffer.alloc(0),
      unsentQueue: Buffer.alloc(0),
      state: 1,
      options: {
        ...{ nodelay: true, keepalive: false, keepIdleS: 0, keepIntervalS: 0, keepCount: 0, congestion: "" },
        receiveBuffer: this.host.limits.inputBytes,
      },
    };
  }
}

/** A segment of the client as the guard has reported it. */
export function answerOf(event: GuardEvent): Answer {
  return {
    seq: event.seq,
    ack: event.ack,
    window: event.window,
    payload: event.payload,
    flags: event.tcpFlags,
    hasTimestamps: event.timestamps !== undefined,
    tsval: event.timestamps?.value ?? 0,
    tsecr: event.timestamps?.echo ?? 0,
  };
}

/** Where the guard's reports of unready connections find who waits for them. */
export class AnswerDesk {
  private readonly waiting = new Map<string, (event: GuardEvent) => void>();
  /** Packets of clients that were no answers, by reason. */
  readonly ignored = new Tally();

  expect(flow: string, take: (event: GuardEvent) => void): void {
    this.waiting.set(flow, take);
  }

  forget(flow: string): void {
    this.waiting.delete(flow);
  }

  deliver(flow: string, event: GuardEvent): void {
    const take = this.waiting.get(flow);
    if (take) take(event);
    else this.ignore("nobody waits for it");
  }

  ignore(reason: string): void {
    this.ignored.add(reason);
  }
}
