import type { PortRange } from "../../../proto/config/index.js";
import { BatonError } from "../../../proto/errors.js";
import type { RtspTrack } from "../../../proto/sections.js";
import type { BundlePort, Relation } from "../application.js";
import { relateFree } from "../related_ports.js";

/** Tries to find ports that no other connection of the same client's has. */
const TRIES = 16;

/** Ports of one side: RTP's is even, RTCP's the next one (RFC 3550 section 11). */
export interface PortPair {
  rtpPort: number;
  rtcpPort: number;
}

/** The VIP's ports for a client's media. The appliances know which are related to its connection before it does. */
export class ServerPorts {
  constructor(
    private readonly bundle: BundlePort,
    private readonly range: PortRange,
  ) {}

  /** Finds a pair for the client's. Throws a BatonError where none can be had. */
  async choose(client: PortPair): Promise<PortPair> {
    const first = this.range.from + (this.range.from % 2);
    const count = Math.max(0, Math.floor((this.range.to - first + 1) / 2));
    const pairAt = (place: number): PortPair => ({ rtpPort: first + 2 * place, rtcpPort: first + 2 * place + 1 });
    const place = await relateFree(this.bundle, count, TRIES, (at) => relations(client, pairAt(at)));
    if (place === undefined) throw new BatonError("LIMIT_REACHED", "no ports for media are free");
    return pairAt(place);
  }

  /** This server has them from another one. */
  repeat(tracks: readonly RtspTrack[]): void {
    const all = relationsOf(tracks);
    if (all.length > 0) this.bundle.restate(all);
  }

  /** @param client and @param server which are in use again, and stay */
  release(tracks: readonly RtspTrack[], client?: PortPair, server?: PortPair): void {
    const kept = client && server ? relations(client, server) : [];
    const isKept = (one: Relation) =>
      kept.some(({ vipPort, clientPort }) => vipPort === one.vipPort && clientPort === one.clientPort);
    const all = relationsOf(tracks).filter((one) => !isKept(one));
    if (all.length > 0) this.bundle.unrelate(all);
  }
}

function relationsOf(tracks: readonly RtspTrack[]): Relation[] {
  return tracks
    .filter(({ transport }) => transport === "udp")
    .flatMap(({ rtp, rtcp, serverRtp, serverRtcp }) =>
      relations({ rtpPort: rtp, rtcpPort: rtcp }, { rtpPort: serverRtp, rtcpPort: serverRtcp }),
    );
}

function relations(client: PortPair, server: PortPair): Relation[] {
  return [
    { transport: "udp", vipPort: server.rtpPort, clientPort: client.rtpPort },
    { transport: "udp", vipPort: server.rtcpPort, clientPort: client.rtcpPort },
  ];
}
