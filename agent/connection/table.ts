import { type Flow, flowKey } from "../../proto/flow.js";
import type { ConnectionRecord } from "../../proto/record.js";
import type { Stack } from "../protocols/stack.js";
import { Clients } from "./clients.js";
import type { LiveConnection } from "./connection.js";
import { Early } from "./early.js";
import type { ConnectionHost, Identified } from "./host.js";

/** How often connections that want it are looked at. */
const FAST_TICK_MS = 20;
const SLOW_TICK_MS = 1_000;

/** Every connection of this server, live or unready, by id and by flow. */
export class ConnectionTable {
  private readonly byId = new Map<string, LiveConnection>();
  private readonly byFlow = new Map<string, LiveConnection>();
  private readonly unready = new Set<Identified>();
  readonly clients: Clients;
  readonly early = new Early();
  private readonly timers: NodeJS.Timeout[] = [];

  /**
   * The window scale that this stack answers a client's with, and so every server's of the same settings: seen at the latest
   * accept, else as the kernel works it out from the listener's window clamp (tcp_select_initial_window, net/ipv4/tcp_output.c).
   */
  receiveScale: number;

  /**
   * @param makeStack the layers of a connection, ip first; throws RefusedError where the service is not configured here.
   * @param idleMs an idle connection is ended in order after this long.
   */
  constructor(
    readonly host: ConnectionHost,
    private readonly makeStack: (connection: LiveConnection, inputOffset: number) => Stack,
    idleMs: number,
  ) {
    this.clients = new Clients(host.limits);
    this.receiveScale = Math.max(0, Math.floor(Math.log2(host.limits.inputBytes)) - 15);
    this.timers.push(
      setInterval(() => this.each((c) => c.wantsAttention && c.tick(idleMs)), FAST_TICK_MS),
      setInterval(() => this.each((c) => c.tick(idleMs)), SLOW_TICK_MS),
    );
    for (const timer of this.timers) timer.unref();
  }

  createStack(connection: LiveConnection, record: Pick<ConnectionRecord, "processed">): Stack {
    return this.makeStack(connection, record.processed);
  }

  addLive(connection: LiveConnection): void {
    this.unready.delete(connection);
    this.put(connection);
  }

  /** Visible to operators, but no event of the guard goes to it yet. */
  addUnready(connection: LiveConnection): void {
    this.unready.add(connection);
    this.put(connection);
  }

  drop(connection: Identified): void {
    this.clients.leave(connection);
    this.unready.delete(connection);
    if (this.byId.get(connection.id) === connection) this.byId.delete(connection.id);
    const key = flowKey(connection.flow);
    if (this.byFlow.get(key) === connection) this.byFlow.delete(key);
  }

  get(id: string): LiveConnection | undefined {
    return this.byId.get(id);
  }

  /** The live connection of a flow. */
  of(flow: Flow): LiveConnection | undefined {
    const found = this.byFlow.get(flowKey(flow));
    return found && !this.unready.has(found) ? found : undefined;
  }

  get size(): number {
    return this.byId.size;
  }

  each(visit: (connection: LiveConnection) => void): void {
    for (const connection of this.byId.values()) visit(connection);
  }

  /** This server may not send any more: every socket is closed inside repair mode. */
  abandon(why: string): void {
    for (const timer of this.timers) clearInterval(timer);
    for (const connection of [...this.byId.values()]) connection.lost(why);
  }

  private put(connection: LiveConnection): void {
    this.byId.set(connection.id, connection);
    this.byFlow.set(flowKey(connection.flow), connection);
    this.clients.join(connection);
  }
}
