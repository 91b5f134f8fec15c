import { normaliseAddress } from "../../../proto/flow.js";

/** What both sides have agreed on for a track (RFC 2326 section 12.39). */
export type Transport =
  /** Ports of the client, whose address is that of its connection. */
  | { kind: "udp"; rtpPort: number; rtcpPort: number }
  /** Channels in the RTSP connection itself. */
  | { kind: "interleaved"; rtpChannel: number; rtcpChannel: number }
  | ({ kind: "multicast" } & Group);

/** Where a track is sent for everybody. */
export interface Group {
  address: string;
  rtpPort: number;
  rtcpPort: number;
  ttl: number;
}

/** What there is to choose from. */
export interface Possible {
  /** The client's address, as of its connection. */
  client: string;
  udp: boolean;
  interleaved: boolean;
  /** The track's. */
  group?: Group;
  /** Channels that other tracks of the session have. */
  taken: ReadonlySet<number>;
}

/** What the server says of its side. */
export interface ServerSide {
  ssrc: number;
  /** With "udp". */
  serverPorts?: { rtpPort: number; rtcpPort: number };
}

/** One alternative as it was offered; names of parameters in lower case, "" where one has no value. */
interface Offer {
  protocol: string;
  parameters: Map<string, string>;
}

const OFFERS_MAX = 16;
const CHANNELS = 256;

/**
 * The first offer of a Transport header that can be met; undefined: 461. An offer that wants its data sent to another address than the
 * client's own is none: anybody could be flooded by it.
 */
export function chooseTransport(header: string, possible: Possible): Transport | undefined {
  for (const text of split(header, ",").slice(0, OFFERS_MAX)) {
    const offer = parseOffer(text);
    const transport = offer && meet(offer, possible);
    if (transport) return transport;
  }
  return undefined;
}

/** The Transport header of the answer. */
export function formatTransport(transport: Transport, { ssrc, serverPorts }: ServerSide): string {
  const source = `ssrc=${(ssrc >>> 0).toString(16).toUpperCase().padStart(8, "0")};mode="PLAY"`;
  if (transport.kind === "interleaved") {
    return `RTP/AVP/TCP;unicast;interleaved=${transport.rtpChannel}-${transport.rtcpChannel};${source}`;
  }
  const { rtpPort, rtcpPort } = transport;
  if (transport.kind === "multicast") {
    const { address, ttl } = transport;
    return `RTP/AVP;multicast;destination=${address};port=${rtpPort}-${rtcpPort};ttl=${ttl};${source}`;
  }
  const server = serverPorts ? `server_port=${serverPorts.rtpPort}-${serverPorts.rtcpPort};` : "";
  return `RTP/AVP;unicast;client_port=${rtpPort}-${rtcpPort};${server}${source}`;
}

function parseOffer(text: string): Offer | undefined {
  const [protocol = "", ...rest] = split(text, ";").map((part) => part.trim());
  const parameters = new Map<string, string>();
  for (const parameter of rest) {
    const [, name, value = ""] = /^([\w-]+)(?:[ \t]*=[ \t]*(.*))?$/.exec(parameter) ?? [];
    if (name === undefined) {
      if (parameter === "") continue;
      return undefined;
    }
    // What is said twice could mean either.
    if (parameters.has(name.toLowerCase())) return undefined;
    parameters.set(name.toLowerCase(), value.replace(/^"(.*)"$/, "$1"));
  }
  return { protocol: protocol.toUpperCase(), parameters };
}

function meet({ protocol, parameters }: Offer, possible: Possible): Transport | undefined {
  const modes = parameters.get("mode");
  if (modes !== undefined && !/^play$/i.test(modes.trim())) return undefined;
  if (protocol === "RTP/AVP/TCP") return meetInterleaved(parameters, possible);
  if (protocol !== "RTP/AVP" && protocol !== "RTP/AVP/UDP") return undefined;
  // Multicast is what is meant where nothing is said (section 12.39), but who names a port of its own means that.
  const unicast = parameters.has("unicast") || (parameters.has("client_port") && !parameters.has("multicast"));
  if (unicast && parameters.has("multicast")) return undefined;
  return unicast ? meetUdp(parameters, possible) : meetMulticast(parameters, possible);
}

function meetInterleaved(parameters: Map<string, string>, possible: Possible): Transport | undefined {
  if (!possible.interleaved || parameters.has("multicast") || !isOwn(parameters, possible.client)) return undefined;
  const { taken } = possible;
  const asked = parameters.get("interleaved");
  const wanted = asked === undefined ? undefined : pairOf(asked, CHANNELS - 1);
  if (asked !== undefined && !wanted) return undefined;
  const isFree = wanted?.every((channel) => !taken.has(channel));
  const pair = isFree ? wanted : freePair(taken);
  return pair && { kind: "interleaved", rtpChannel: pair[0], rtcpChannel: pair[1] };
}

function meetUdp(parameters: Map<string, string>, possible: Possible): Transport | undefined {
  if (!possible.udp || !isOwn(parameters, possible.client)) return undefined;
  const pair = pairOf(parameters.get("client_port") ?? "", 65_535);
  return pair && pair[0] > 0 && pair[1] > 0 ? { kind: "udp", rtpPort: pair[0], rtcpPort: pair[1] } : undefined;
}

/** Where it is sent to is ours to say; who wants it elsewhere gets nothing. */
function meetMulticast(parameters: Map<string, string>, { group }: Possible): Transport | undefined {
  if (!group) return undefined;
  const destination = parameters.get("destination");
  if (destination && !isSame(destination, group.address)) return undefined;
  const port = parameters.get("port");
  if (port !== undefined && pairOf(port, 65_535)?.[0] !== group.rtpPort) return undefined;
  return { kind: "multicast", ...group };
}

/** Without a value it means the client's own (section 12.39). */
function isOwn(parameters: Map<string, string>, client: string): boolean {
  const destination = parameters.get("destination");
  return !destination || isSame(destination, client);
}

function isSame(asked: string, address: string): boolean {
  try {
    return normaliseAddress(asked.replace(/^\[(.*)\]$/, "$1")) === normaliseAddress(address);
  } catch {
    return false; // a name, or nonsense
  }
}

/** "a-b", or "a", which has the number behind it for RTCP. */
function pairOf(text: string, max: number): [number, number] | undefined {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  if (!match) return undefined;
  const first = Number(match[1]);
  const second = match[2] === undefined ? first + 1 : Number(match[2]);
  return first <= max && second <= max && first !== second ? [first, second] : undefined;
}

function freePair(taken: ReadonlySet<number>): [number, number] | undefined {
  for (let first = 0; first < CHANNELS; first += 2) {
    if (!taken.has(first) && !taken.has(first + 1)) return [first, first + 1];
  }
  return undefined;
}

/** At separators outside of quotes. */
function split(text: string, separator: string): string[] {
  const parts: string[] = [""];
  let quoted = false;
  for (const character of text) {
    if (character === '"') quoted = !quoted;
    if (character === separator && !quoted) parts.push("");
    else parts[parts.length - 1] += character;
  }
  return parts;
}
