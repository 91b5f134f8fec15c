import ipaddr from "ipaddr.js";
import { BatonError } from "./errors.js";

/** One end of a flow. The address is text in normal form (see `normaliseAddress`), the port 0..65535. */
export interface Endpoint {
  address: string;
  port: number;
}

export type Transport = "tcp" | "udp";

/** A 5-tuple, seen from nowhere in particular: `vip` is the service's end. */
export interface Flow {
  client: Endpoint;
  vip: Endpoint;
  transport: Transport;
}

/**
 * The one text form of an address: dotted IPv4; IPv6 lower case and compressed as RFC 5952; an IPv4-mapped IPv6 address
 * is the IPv4 address. Throws ADDRESS_INVALID, also for zone ids.
 */
export function normaliseAddress(text: string): string {
  // Only four-part decimal IPv4: ipaddr.js would also take "10.1" and "0x0a000001".
  if (!text.includes(":")) {
    if (!ipaddr.IPv4.isValidFourPartDecimal(text)) throw new BatonError("ADDRESS_INVALID", `not an address: "${text}"`);
    return text;
  }
  if (text.includes("%") || !ipaddr.IPv6.isValid(text)) {
    throw new BatonError("ADDRESS_INVALID", `not an address: "${text}"`);
  }
  return ipaddr.process(text).toString();
}

/** Whether the (normal) address is an IPv6 one. */
export function isIPv6(address: string): boolean {
  return address.includes(":");
}

// Every record names two addresses, and reading an IPv6 one takes 8 us: the last ones are remembered.
const remembered = new Map<string, Buffer>();
const REMEMBERED_MAX = 4096;

/** 4 or 16 bytes in network order. Throws ADDRESS_INVALID. */
export function addressBytes(address: string): Buffer {
  let bytes = remembered.get(address);
  if (!bytes) {
    bytes = Buffer.from(ipaddr.process(normaliseAddress(address)).toByteArray());
    if (remembered.size >= REMEMBERED_MAX) remembered.clear();
    remembered.set(address, bytes);
  }
  return Buffer.from(bytes);
}

/** 16 bytes in network order; IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2), as all BPF maps have it. */
export function address16(address: string): Buffer {
  const bytes = addressBytes(address);
  if (bytes.length === 16) return bytes;
  const mapped = Buffer.alloc(16);
  mapped.fill(0xff, 10, 12);
  bytes.copy(mapped, 12);
  return mapped;
}

/** The text of 4 or 16 address bytes; the inverse of both `addressBytes` and `address16`. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length !== 4 && bytes.length !== 16) {
    throw new BatonError("ADDRESS_INVALID", `an address of ${bytes.length} bytes`);
  }
  const address = ipaddr.fromByteArray([...bytes]);
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress()
    ? address.toIPv4Address().toString()
    : address.toString();
}

/** "ip:port", or "[ip]:port" for IPv6. */
export function endpointText(endpoint: Endpoint): string {
  return isIPv6(endpoint.address) ? `[${endpoint.address}]:${endpoint.port}` : `${endpoint.address}:${endpoint.port}`;
}

/** The inverse of `endpointText`. Throws ADDRESS_INVALID. */
export function parseEndpoint(text: string): Endpoint {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65535) throw new BatonError("ADDRESS_INVALID", `not an address with a port: "${text}"`);
  return { address: normaliseAddress(match[1] ?? match[2] ?? ""), port };
}

/** The flow for people and logs, client first: "10.77.0.10:51234 -> 10.77.0.100:80 tcp". */
export function flowText(flow: Flow): string {
  return `${endpointText(flow.client)} -> ${endpointText(flow.vip)} ${flow.transport}`;
}

/** Key for maps within a process: equal for equal flows. */
export function flowKey(flow: Flow): string {
  return `${idAddress(flow.client.address)}_${flow.client.port}_${idAddress(flow.vip.address)}_${flow.vip.port}_${flow.transport}`;
}

/**
 * The name of a connection for its whole life, fit for a NATS key: `<flow>.<client ISN>`. The ISN keeps a later
 * connection of the same 5-tuple apart.
 */
export function connectionId(flow: Flow, clientIsn: number): string {
  return `${flowKey(flow)}.${clientIsn >>> 0}`;
}

/** The inverse of `connectionId`. Throws CONNECTION_ID_INVALID, also for forms that `connectionId` would not make. */
export function parseConnectionId(id: string): { flow: Flow; clientIsn: number } {
  const match = /^([0-9a-f-]+)_(\d{1,5})_([0-9a-f-]+)_(\d{1,5})_(tcp|udp)\.(\d{1,10})$/.exec(id);
  if (match) {
    const [, client = "", clientPort, vip = "", vipPort, transport, isn] = match;
    const flow: Flow = {
      client: { address: parseIdAddress(client), port: Number(clientPort) },
      vip: { address: parseIdAddress(vip), port: Number(vipPort) },
      transport: transport as Transport,
    };
    const clientIsn = Number(isn);
    const inRange = flow.client.port <= 65535 && flow.vip.port <= 65535 && clientIsn < 2 ** 32;
    if (inRange && flow.client.address && flow.vip.address && connectionId(flow, clientIsn) === id) {
      return { flow, clientIsn };
    }
  }
  throw new BatonError("CONNECTION_ID_INVALID", `not a connection id: "${id}"`);
}

/** As `remembered`: ids and keys are made of addresses all the time, and there are few of them. */
const rememberedIds = new Map<string, string>();

function idAddress(address: string): string {
  let id = rememberedIds.get(address);
  if (id === undefined) {
    const normal = normaliseAddress(address);
    id = isIPv6(normal) ? addressBytes(normal).toString("hex") : normal.replaceAll(".", "-");
    if (rememberedIds.size >= REMEMBERED_MAX) rememberedIds.clear();
    rememberedIds.set(address, id);
  }
  return id;
}

/** "" where it is none. */
function parseIdAddress(text: string): string {
  if (/^[0-9a-f]{32}$/.test(text)) return addressText(Buffer.from(text, "hex"));
  const dotted = text.replaceAll("-", ".");
  return ipaddr.IPv4.isValidFourPartDecimal(dotted) ? dotted : "";
}
