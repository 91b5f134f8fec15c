import { logger } from "../../../proto/log.js";
import type { ConnectionPort } from "../application.js";
import type { Answer } from "./answer.js";
import type { Channels } from "./channel.js";
import type { ServerPorts } from "./server_ports.js";
import type { Session } from "./session.js";
import { chooseTransport, type Possible } from "./transport.js";
import type { Media } from "./url.js";

const log = logger("rtsp");

/** How the tracks of a connection's session are sent (RFC 2326 section 10.4): as its client asks for, where that is to be had. */
export class TransportChoice {
  constructor(
    private readonly port: Pick<ConnectionPort, "peer" | "vip">,
    private readonly channels: Pick<Channels, "of">,
    private readonly ports: ServerPorts,
  ) {}

  /** @param header Transport; undefined: there is none @returns what SETUP is answered; with 200 the session has the track */
  async choose(session: Session, subject: Media, header: string | undefined): Promise<Answer> {
    const track = session.trackOf(subject);
    if ("status" in track) return track;
    if (header === undefined) return { status: 400 };
    const kind = session.kindBut(track.number);
    const { objectId, movie } = session.film;
    const channel = this.channels.of(objectId, this.port.vip.address);
    const isFree = (wanted: string) => kind === undefined || kind === wanted;
    const possible: Possible = {
      client: this.port.peer.address,
      udp: isFree("udp"),
      interleaved: isFree("interleaved"),
      ...(channel && isFree("multicast") ? { group: channel.groupOf(movie.tracks.indexOf(track)) } : {}),
      taken: session.channelsBut(track.number),
    };
    let transport = chooseTransport(header, possible);
    if (transport?.kind === "udp") {
      try {
        const server = await this.ports.choose(transport);
        const former = session.state.tracks.filter(({ number }) => number === track.number);
        this.ports.release(former, transport, server);
        return session.setUp(track, transport, server);
      } catch (error) {
        log.warn({ err: error }, "no ports for media: they can only go over the connection");
        transport = chooseTransport(header, { ...possible, udp: false });
      }
    }
    if (!transport) return { status: 461 };
    const sent =
      transport.kind === "multicast" && channel?.tracksOf(movie).find(({ number }) => number === track.number);
    return sent ? session.setUpGroup(sent, transport) : session.setUp(track, transport);
  }
}
