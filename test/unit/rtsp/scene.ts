import { closeSync, fstatSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import { Indexer } from "../../../agent/media/index.js";
import type { BundlePort, DatagramFlow, Group, Relation } from "../../../agent/protocols/application.js";
import type { Holder, Leads } from "../../../agent/protocols/leads.js";
import { Channels } from "../../../agent/protocols/rtsp/channel.js";
import { Films } from "../../../agent/protocols/rtsp/films.js";
import { RtspLayer } from "../../../agent/protocols/rtsp/layer.js";
import type { Users } from "../../../agent/protocols/rtsp/users.js";
import type { GroupConfig, PortRange } from "../../../proto/config/index.js";
import { RefusedError } from "../../../proto/errors.js";
import type { LayerSection } from "../../../proto/record.js";
import { FakePort } from "../../support/port.js";
import { type RtspAnswer, RtspClient } from "../../support/rtsp.js";
import { makeClip } from "../media/clip.js";

export const URL = "rtsp://10.77.0.100/film.mp4";
export const TCP = "RTP/AVP/TCP;unicast;interleaved=";
export const UDP = ["RTP/AVP;unicast;client_port=5000-5001", "RTP/AVP;unicast;client_port=5002-5003"];
/** A site's watch. */
const BEHIND_MS = 10;
const PORTS = { from: 31_000, to: 31_199 };

const directory = mkdtempSync(join(tmpdir(), "baton-test-"));

/** Makes the film; to be called once a file. */
export async function makeFilm(): Promise<() => void> {
  await makeClip(directory, "film.mp4", ["-movflags", "+faststart"]);
  return () => rmSync(directory, { recursive: true });
}

/** What leaves in datagrams, by the port that it goes to, and whether it may. */
export class FakeBundle implements BundlePort {
  readonly id = "10-77-0-10_51234_10-77-0-100_554_tcp.1";
  readonly control = undefined;
  readonly related = [];
  readonly relations: Relation[] = [];
  readonly received = new Map<number, (datagram: Buffer) => void>();
  /** Groups that it may send to now, by port. */
  readonly groups = new Map<number, Group>();
  isOpen = true;
  /** How often a player has looked whether it is. */
  looks = 0;
  private waiting: Array<() => void> = [];
  thaw(): void {
    this.isOpen = true;
    for (const resolve of this.waiting.splice(0)) resolve();
  }
  taken = 0;
  constructor(readonly sent = new Map<number, Buffer[]>()) {}
  relate(relations: Relation[]): Promise<void> {
    if (this.taken-- > 0) return Promise.reject(new RefusedError("taken"));
    this.relations.push(...relations);
    return Promise.resolve();
  }
  restate(relations: Relation[]): void {
    this.relations.push(...relations);
  }
  unrelate(relations: Relation[]): void {
    for (const { vipPort } of relations) {
      const at = this.relations.findIndex((one) => one.vipPort === vipPort);
      this.relations.splice(at, 1);
    }
  }
  async openDatagrams(
    _vipPort: number,
    clientPort: number,
    received: (datagram: Buffer) => void,
  ): Promise<DatagramFlow> {
    this.received.set(clientPort, received);
    return this.flow(clientPort, () => this.received.delete(clientPort));
  }
  async openGroup(_vipPort: number, group: Group): Promise<DatagramFlow> {
    const { port } = group;
    this.groups.set(port, group);
    return this.flow(port, () => this.groups.delete(port));
  }
  dial(): Promise<void> {
    return Promise.reject(new Error("nobody dials here"));
  }
  expect(): void {}
  expectNone(): void {}

  private flow(port: number, close: () => void): DatagramFlow {
    const isOpen = () => {
      this.looks++;
      return this.isOpen;
    };
    const thawed = () => new Promise<void>((resolve) => this.waiting.push(resolve));
    return {
      send: (datagram) => this.sent.set(port, [...(this.sent.get(port) ?? []), datagram]),
      ...{ pending: 0, thawed, close },
      get isOpen() {
        return isOpen();
      },
    };
  }
}

/**
 * The records of a site, as far as its layers look at them, and its leads. What happens is seen a moment later, and what was overwritten
 * meanwhile never.
 */
export class FakeSite implements Leads {
  /** What everybody sends to groups, by port. */
  readonly sent = new Map<number, Buffer[]>();
  private revision = 0;
  private readonly leads = new Map<string, { id: string; revision: number }>();
  private readonly records = new Map<string, LayerSection>();
  private readonly seenLeads = new Map<string, { id: string; revision: number }>();
  private readonly seenRecords = new Map<string, LayerSection>();
  private readonly watchers = new Map<string, Set<() => void>>();

  constructor(readonly groups: GroupConfig[]) {}

  holder(name: string): Holder | undefined {
    const lead = this.seenLeads.get(name);
    return lead && { ...lead, sections: () => [this.seenRecords.get(lead.id) ?? []].flat() };
  }
  async take(...[name, id, seen, leads]: Parameters<Leads["take"]>): Promise<boolean> {
    const holder = this.leads.get(name);
    await delay(1);
    if (holder && holder.id !== id && leads([this.records.get(holder.id) ?? []].flat())) return this.late(false);
    if ((this.leads.get(name)?.revision ?? 0) !== seen) return this.late(false);
    const lead = { id, revision: ++this.revision };
    this.leads.set(name, lead);
    this.seenLeads.set(name, lead); // ahead of the watch
    this.tell(id);
    return true;
  }
  watch(name: string, changed: () => void): { close(): void } {
    const watchers = this.watchers.get(name) ?? new Set();
    this.watchers.set(name, watchers.add(changed));
    return { close: () => watchers.delete(changed) };
  }
  commit(id: string, section: LayerSection | undefined): void {
    if (section) this.records.set(id, section);
    else this.records.delete(id);
    setTimeout(() => {
      const last = this.records.get(id);
      if (last) this.seenRecords.set(id, last);
      else this.seenRecords.delete(id);
      for (const [name, lead] of this.leads) this.seenLeads.set(name, lead);
      this.tell(id);
    }, BEHIND_MS);
  }
  private async late(answer: boolean): Promise<boolean> {
    await delay(2 * BEHIND_MS);
    return answer;
  }
  private tell(id: string): void {
    for (const [name, watchers] of this.watchers) {
      if (this.leads.get(name)?.id === id) for (const changed of [...watchers]) changed();
    }
  }
}

/** A store that takes everything at once, unless it is away. */
class RecordingPort extends FakePort {
  isAway = false;
  commit = () => {};
  override recorded(): Promise<void> {
    if (this.isAway) return super.recorded();
    this.commit();
    return Promise.resolve();
  }
  returns(): void {
    this.isAway = false;
    this.commit();
    for (const resolve of this.recordings.splice(0)) resolve();
  }
  override respond(response: Parameters<FakePort["respond"]>[0]): void {
    super.respond(response);
    this.commit();
  }
}

export interface Scene {
  port: RecordingPort;
  bundle: FakeBundle;
  layer: RtspLayer;
  client: RtspClient;
  site: FakeSite;
  /** Those who may play; missing: everybody. */
  users?: Users | undefined;
  ask(method: string, target?: string, headers?: Record<string, string>): Promise<RtspAnswer>;
  /** What was sent since the last time goes to the client. */
  deliver(): void;
  /** Descriptors of films. */
  open(): number;
}

const indexer = new Indexer();

/** Content with one film, whose validator is the same everywhere, but perhaps to come; and how many descriptors of it are open. */
function content(pending?: Promise<string>) {
  let descriptors = 0;
  const path = join(directory, "film.mp4");
  const open = async () => {
    const fd = openSync(path, "r");
    descriptors++;
    return fileOf(fd);
  };
  const fileOf = (fd: number) => {
    const { size, dev, ino } = fstatSync(fd);
    const identity = { device: BigInt(dev), inode: BigInt(ino), size, mtimeNs: 0n, ctimeNs: 0n };
    let isOpen = true;
    const close = () => {
      if (isOpen) closeSync(fd);
      if (isOpen) descriptors--;
      isOpen = false;
    };
    return { fd, size, identity, close };
  };
  const validity = pending ? { validator: "", pending } : { validator: "sha256:1" };
  const films = new Films(
    {
      find: async (segments) =>
        segments.join() === "film.mp4" ? { objectId: "/film.mp4", ...validity, file: await open() } : undefined,
      openObject: async ({ objectId, validator }) => {
        if (objectId !== "/film.mp4" || validator !== "sha256:1") throw new RefusedError("object changed");
        return open();
      },
      takeObject: async (objectId, fd) => {
        descriptors++;
        return { objectId, ...validity, file: fileOf(fd) };
      },
      hold: ({ fd }) => {
        descriptors++;
        return fileOf(openSync(`/proc/self/fd/${fd}`, "r"));
      },
    },
    indexer,
  );
  return { films, open: () => descriptors };
}

let files = 0;
const memory = {
  memoryFile(bytes: Buffer, position: number): number {
    const path = join(directory, `memory-${files++}`);
    const fd = openSync(path, "w+");
    rmSync(path);
    writeSync(fd, bytes, 0, bytes.length, position);
    return fd;
  },
  closeFd: closeSync,
};

let clients = 0;

/** @param from whose record and client it goes on with, or the site that it is of */
export function scene(
  t: ExecutionContext,
  from: Partial<Pick<Scene, "port" | "bundle" | "client" | "site" | "users">> & {
    ports?: PortRange;
    /** The film's validator to come. */
    pending?: Promise<string>;
  } = {},
): Scene {
  const site = from.site ?? new FakeSite([]);
  const id = from.port?.id ?? `10-77-0-10_${50_000 + clients++}_10-77-0-100_554_tcp.1`;
  const port = Object.assign(new RecordingPort(from.port?.tail() ?? 0), { id });
  port.processedTo = from.port?.processedTo ?? 0;
  const bundle = from.bundle ?? new FakeBundle(from.site?.sent);
  port.bundle = bundle;
  const { ports: relatedPorts = PORTS, pending, users } = from;
  const channels = new Channels(site.groups, relatedPorts, site);
  const { films, open } = content(pending);
  const parts = { films, channels, memory, relatedPorts, ...(users ? { users } : {}) };
  const layer = new RtspLayer(port, port.processedTo, parts);
  port.commit = () => site.commit(id, sectionOf(layer));
  t.teardown(() => layer.closed());
  const socket = { on: () => {}, write: (text: string) => layer.input(Buffer.from(text)) };
  if (from.client) Object.assign(from.client.socket, socket); // it writes to this one from now on
  const receiver = from.client ?? new RtspClient(socket as unknown as RtspClient["socket"]);
  let delivered = 0;
  const deliver = () => {
    receiver.received(port.out.subarray(delivered));
    delivered = port.out.length;
  };
  return {
    ...{ port, bundle, layer, client: receiver, site, deliver, open },
    ask: (method, target = URL, headers = {}) => {
      const timer = setInterval(deliver, 2);
      return receiver.ask(method, target, headers).finally(() => clearInterval(timer));
    },
  };
}

/** Both tracks, over the connection or in datagrams. */
export async function setUp({ ask }: Scene, transports = [`${TCP}0-1`, `${TCP}2-3`]): Promise<{ Session: string }> {
  const [first, second] = transports as [string, string];
  const { headers } = await ask("SETUP", `${URL}/trackID=1`, { Transport: first });
  const session = { Session: headers.get("Session")!.split(";")[0]! };
  await ask("SETUP", `${URL}/trackID=2`, { ...session, Transport: second });
  return session;
}

export function sectionOf(layer: RtspLayer): LayerSection {
  const block: LayerSection[] = [];
  layer.checkpoint(block);
  return block[0]!;
}

/** Another server's layer that begins with the section; the client goes on with it. */
export async function twin(t: ExecutionContext, former: Scene): Promise<Scene> {
  const section = sectionOf(former.layer);
  former.layer.closed();
  const next = scene(t, former);
  await next.layer.unready(section);
  await next.layer.gather();
  next.layer.ready(0, true);
  return next;
}
