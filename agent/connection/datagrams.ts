import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { networkInterfaces } from "node:os";
import { BatonError } from "../../proto/errors.js";
import { type Flow, flowText, isIPv6, parseConnectionId } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import type { Guard } from "../guard/index.js";
import type { DatagramFlow, Group } from "../protocols/application.js";

const log = logger("datagrams");
/** Of a client that is not heard for a moment, and of our own; the kernel doubles it. */
const BUFFER_BYTES = 1 << 20;

/** The flows of datagrams of this server's bundles. Each has the guard's entry from before its first datagram until it is closed. */
export class Datagrams {
  private readonly byBundle = new Map<string, Set<Opened>>();
  /** Bundles that stand still: so does what is opened meanwhile. */
  private readonly frozen = new Set<string>();

  constructor(
    private readonly guard: Pick<Guard, "installDatagram" | "change" | "remove">,
    private readonly incarnation: number,
    /** By which multicast leaves. */
    private readonly device: string,
  ) {}

  /** Between the bundle's client and VIP. Rejects as bind(2) and connect(2) fail, and with a BatonError where the guard has no room. */
  open(
    bundle: string,
    vipPort: number,
    clientPort: number,
    received: (datagram: Buffer) => void,
  ): Promise<DatagramFlow> {
    const { client, vip } = parseConnectionId(bundle).flow;
    const flow: Flow = { client: { ...client, port: clientPort }, vip: { ...vip, port: vipPort }, transport: "udp" };
    const opened = this.install(bundle, flow, received);
    return this.begin(opened, () => opened.connect());
  }

  /** From the bundle's VIP to a group, which is of the same family. Rejects as `open`. */
  openGroup(bundle: string, vipPort: number, { address, port, ttl }: Group): Promise<DatagramFlow> {
    const { vip } = parseConnectionId(bundle).flow;
    const flow: Flow = { client: { address, port }, vip: { ...vip, port: vipPort }, transport: "udp" };
    const opened = this.install(bundle, flow, () => {});
    return this.begin(opened, () => opened.connect({ ttl, outgoing: outgoingOf(this.device, isIPv6(address)) }));
  }

  private install(bundle: string, flow: Flow, received: (datagram: Buffer) => void): Opened {
    const isFrozen = this.frozen.has(bundle);
    this.guard.installDatagram(flow, isFrozen ? "FROZEN" : "LIVE", this.incarnation);
    const ended = () => this.byBundle.get(bundle)?.delete(opened);
    const opened: Opened = new Opened(flow, this.guard, received, ended, isFrozen);
    this.byBundle.set(bundle, (this.byBundle.get(bundle) ?? new Set()).add(opened));
    return opened;
  }

  private async begin(opened: Opened, connect: () => Promise<void>): Promise<DatagramFlow> {
    try {
      await connect();
      return opened;
    } catch (error) {
      opened.close();
      throw error;
    }
  }

  /** Nothing of them leaves or enters until `thaw`. */
  freeze(bundle: string): void {
    this.frozen.add(bundle);
    for (const flow of this.byBundle.get(bundle) ?? []) flow.freeze();
  }

  thaw(bundle: string): void {
    this.frozen.delete(bundle);
    for (const flow of this.byBundle.get(bundle) ?? []) flow.thaw();
  }

  close(bundle: string): void {
    for (const flow of [...(this.byBundle.get(bundle) ?? [])]) flow.close();
    this.byBundle.delete(bundle);
    this.frozen.delete(bundle);
  }
}

class Opened implements DatagramFlow {
  pending = 0;
  /** Those that the kernel did not take: the network would have lost them. */
  lost = 0;
  private readonly socket: Socket;
  private closed = false;
  /** Who waits until it stands still no more. */
  private waiting: Array<() => void> = [];

  constructor(
    private readonly flow: Flow,
    private readonly guard: Pick<Guard, "change" | "remove">,
    received: (datagram: Buffer) => void,
    private readonly ended: () => void,
    private frozen: boolean,
  ) {
    // Another client's flow may have the same port of the VIP: the kernel gives each what its peer sends.
    this.socket = createSocket({ type: isIPv6(flow.vip.address) ? "udp6" : "udp4", reuseAddr: true });
    this.socket.on("message", (datagram, from) => {
      if (from.port === flow.client.port && !this.closed) received(datagram);
    });
    this.socket.on("error", (error) => log.debug({ err: error, flow: flowText(flow) }, "a flow of datagrams fails"));
  }

  async connect(multicast?: { ttl: number; outgoing: string }): Promise<void> {
    const { socket, flow } = this;
    socket.bind({ address: flow.vip.address, port: flow.vip.port, exclusive: true });
    await once(socket, "listening");
    if (this.closed) throw new Error("closed meanwhile");
    socket.setSendBufferSize(BUFFER_BYTES);
    if (multicast) {
      socket.setMulticastInterface(multicast.outgoing);
      socket.setMulticastTTL(multicast.ttl);
      socket.setMulticastLoopback(false);
    }
    socket.connect(flow.client.port, flow.client.address);
    await once(socket, "connect");
  }

  get isOpen(): boolean {
    return !this.closed && !this.frozen;
  }

  async thawed(): Promise<void> {
    if (this.frozen && !this.closed) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  send(datagram: Buffer): void {
    if (this.closed) return;
    this.pending++;
    this.socket.send(datagram, (error) => {
      this.pending--;
      if (!error) return;
      if (this.lost++ === 0) log.info({ err: error, flow: flowText(this.flow) }, "a datagram was not taken");
    });
  }

  freeze(): void {
    this.frozen = true;
    this.guard.change(this.flow, { phase: "FROZEN" });
  }

  thaw(): void {
    this.frozen = false;
    this.guard.change(this.flow, { phase: "LIVE" });
    this.wake();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.guard.remove(this.flow);
    this.ended();
    this.socket.close();
    this.wake();
  }

  private wake(): void {
    for (const resolve of this.waiting.splice(0)) resolve();
  }
}

/** As dgram wants it: IPv4's by its own address, since the VIP lies elsewhere; IPv6's by its name. */
function outgoingOf(device: string, six: boolean): string {
  if (six) return `::%${device}`;
  const own = networkInterfaces()[device]?.find(({ family }) => family === "IPv4");
  if (!own) throw new BatonError("INTERNAL", `${device} has no IPv4 address that multicast could leave by`);
  return own.address;
}
