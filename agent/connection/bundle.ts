import { type Endpoint, endpointText, type Flow, parseConnectionId } from "../../proto/flow.js";
import type { ApplicationLayer, BundlePort, Relation } from "../protocols/application.js";

/** Whoever tells the appliances which flows are related. */
export interface Relating {
  /** Resolves when every appliance sends such packets where the bundle is. Throws a BatonError; RefusedError "taken" where another bundle has one. */
  relate(bundle: string, relations: Relation[]): Promise<void>;
  unrelate(bundle: string, relations: Relation[]): void;
}

/** A connection of a bundle, as the others of it see it. */
export interface Member {
  readonly id: string;
  readonly bundleId: string;
  readonly flow: Flow;
  /** Resolves when its record is gone, if that can be. */
  reset(reason: string): Promise<void>;
  lost(why: string): void;
}

/**
 * The connections of one bundle that this server has: the control connection and those related to it. Its layers find each other here.
 * The bundle is its control connection's: related ones end with it, and before it.
 */
export class Bundle implements BundlePort {
  private readonly members = new Map<Member, ApplicationLayer>();

  constructor(
    readonly id: string,
    private readonly all: Bundles,
  ) {}

  get control(): ApplicationLayer | undefined {
    return [...this.members].find(([{ id }]) => id === this.id)?.[1];
  }

  get related(): ApplicationLayer[] {
    return [...this.members].flatMap(([{ id }, layer]) => (id === this.id ? [] : [layer]));
  }

  get isEmpty(): boolean {
    return this.members.size === 0;
  }

  relate(relations: Relation[]): Promise<void> {
    return this.all.relating.relate(this.id, relations);
  }

  unrelate(relations: Relation[]): void {
    this.all.relating.unrelate(this.id, relations);
  }

  expect(vipPort: number): void {
    this.all.expect(this, vipPort);
  }

  expectNone(vipPort: number): void {
    this.all.expectNone(this, vipPort);
  }

  join(member: Member, layer: ApplicationLayer): void {
    this.members.set(member, layer);
  }

  leave(member: Member): void {
    this.members.delete(member);
    if (this.isEmpty) this.all.forget(this);
  }

  /** The control connection ends: the others are reset. Resolves when their records are gone: none is left without the bundle's. */
  async endRelated(reason: string): Promise<void> {
    await Promise.all(this.others.map((member) => member.reset(reason)));
  }

  /** The control connection is another server's: so are the others. */
  loseRelated(why: string): void {
    for (const member of this.others) member.lost(why);
  }

  private get others(): Member[] {
    return [...this.members.keys()].filter(({ id }) => id !== this.id);
  }
}

/** Every bundle of this server, and which connections they wait for. */
export class Bundles {
  private readonly byId = new Map<string, Bundle>();
  private readonly expected = new Map<string, Bundle>();

  constructor(readonly relating: Relating) {}

  of(id: string): Bundle {
    const bundle = this.byId.get(id) ?? new Bundle(id, this);
    this.byId.set(id, bundle);
    return bundle;
  }

  /** The bundle whose related connection this new one is; it waits for it no longer. undefined: nobody's. */
  take({ client, vip }: Flow): Bundle | undefined {
    const key = expectation(client, vip);
    const bundle = this.expected.get(key);
    this.expected.delete(key);
    return bundle;
  }

  expect(bundle: Bundle, vipPort: number): void {
    this.expected.set(keyOf(bundle, vipPort), bundle);
  }

  expectNone(bundle: Bundle, vipPort: number): void {
    const key = keyOf(bundle, vipPort);
    if (this.expected.get(key) === bundle) this.expected.delete(key);
  }

  forget(bundle: Bundle): void {
    if (this.byId.get(bundle.id) === bundle) this.byId.delete(bundle.id);
    for (const [key, one] of this.expected) if (one === bundle) this.expected.delete(key);
  }
}

function keyOf({ id }: Bundle, port: number): string {
  const { client, vip } = parseConnectionId(id).flow;
  return expectation(client, { ...vip, port });
}

function expectation(client: Endpoint, vip: Endpoint): string {
  return `${client.address} ${endpointText(vip)}`;
}
