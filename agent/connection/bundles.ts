import { type Endpoint, endpointText, type Flow, parseConnectionId } from "../../proto/flow.js";
import type { ApplicationLayer, BundlePort, Relation } from "../protocols/application.js";
import type { Datagrams } from "./datagrams.js";

/** What a server does for its bundles. */
export interface Relating {
  /** Resolves when every appliance sends such packets where the bundle is. Throws a BatonError; RefusedError "taken" where another bundle has one. */
  relate(bundle: string, relations: Relation[]): Promise<void>;
  /** As they were related by whoever had the bundle before. */
  restate(bundle: string, relations: Relation[]): void;
  unrelate(bundle: string, relations: Relation[]): void;
  /** The bundle is over, or another server's: nothing of it is to be said any more. */
  forget(bundle: string): void;
  /** Opens a related connection to the bundle's client, between these ports. Resolves when it is accepted as any. Throws a BatonError. */
  dial(bundle: string, vipPort: number, clientPort: number): Promise<void>;
}

/** A connection of a bundle, as the others of it see it. */
export interface Member {
  readonly id: string;
  readonly bundleId: string;
  /** Resolves when its record is gone, if that can be. */
  reset(reason: string): Promise<void>;
  lost(why: string): void;
}

/**
 * The bundles of this server: their connections, whose layers find each other here, and the ports at which they wait for more. A bundle is
 * its control connection's: related ones end with it, and before it.
 */
export class Bundles {
  private readonly members = new Map<string, Map<Member, ApplicationLayer>>();
  /** Bundle, by client address and place on a VIP. */
  private readonly expected = new Map<string, string>();

  constructor(
    private readonly relating: Relating,
    private readonly datagrams: Pick<Datagrams, "open" | "openGroup" | "freeze" | "thaw" | "close">,
  ) {}

  join(member: Member, layer: ApplicationLayer): void {
    const { bundleId } = member;
    this.members.set(bundleId, (this.members.get(bundleId) ?? new Map()).set(member, layer));
  }

  leave(member: Member): void {
    const { bundleId } = member;
    const members = this.members.get(bundleId);
    members?.delete(member);
    if (member.id === bundleId) this.datagrams.close(bundleId);
    if (!members || members.size > 0) return;
    this.members.delete(bundleId);
    this.relating.forget(bundleId);
    for (const [key, bundle] of this.expected) if (bundle === bundleId) this.expected.delete(key);
  }

  /** Its flows of datagrams stand still, until `thaw`. */
  freeze(bundleId: string): void {
    this.datagrams.freeze(bundleId);
  }

  thaw(bundleId: string): void {
    this.datagrams.thaw(bundleId);
  }

  /** Ids of the related connections that are here. */
  relatedTo(bundleId: string): string[] {
    return this.others(bundleId).map(({ id }) => id);
  }

  /** The bundle whose related connection this new one is; it waits for it no longer. undefined: nobody's. */
  take({ client, vip }: Flow): string | undefined {
    const key = expectation(client, vip);
    const bundle = this.expected.get(key);
    this.expected.delete(key);
    return bundle;
  }

  /** The control connection ends: the others are reset. Resolves when their records are gone: none is left without the bundle's. */
  async endRelated(bundleId: string, reason: string): Promise<void> {
    await Promise.all(this.others(bundleId).map((member) => member.reset(reason)));
  }

  /** The control connection is another server's: so are the others. */
  loseRelated(bundleId: string, why: string): void {
    for (const member of this.others(bundleId)) member.lost(why);
  }

  /** A bundle as the layers of its connections have it. */
  portOf(id: string): BundlePort {
    const { members, expected, relating, datagrams } = this;
    const layers = () => [...(members.get(id) ?? [])];
    return {
      id,
      get control() {
        return layers().find(([member]) => member.id === id)?.[1];
      },
      get related() {
        return layers().flatMap(([member, layer]) => (member.id === id ? [] : [layer]));
      },
      relate: (relations) => relating.relate(id, relations),
      restate: (relations) => relating.restate(id, relations),
      unrelate: (relations) => relating.unrelate(id, relations),
      dial: (vipPort, clientPort) => relating.dial(id, vipPort, clientPort),
      openDatagrams: (vipPort, clientPort, received) => datagrams.open(id, vipPort, clientPort, received),
      openGroup: (vipPort, group) => datagrams.openGroup(id, vipPort, group),
      expect: (vipPort) => void expected.set(keyOf(id, vipPort), id),
      expectNone: (vipPort) => {
        const key = keyOf(id, vipPort);
        if (expected.get(key) === id) expected.delete(key);
      },
    };
  }

  private others(bundleId: string): Member[] {
    return [...(this.members.get(bundleId)?.keys() ?? [])].filter(({ id }) => id !== bundleId);
  }
}

function keyOf(bundleId: string, port: number): string {
  const { client, vip } = parseConnectionId(bundleId).flow;
  return expectation(client, { ...vip, port });
}

function expectation(client: Endpoint, vip: Endpoint): string {
  return `${client.address} ${endpointText(vip)}`;
}
