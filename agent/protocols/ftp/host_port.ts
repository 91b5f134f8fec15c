import { addressBytes, type Endpoint, isIPv6, normaliseAddress } from "../../../proto/flow.js";
import { reply } from "./reply.js";

/** Network protocols by their numbers (RFC 2428 section 2): IPv4, IPv6. */
export type NetworkProtocol = 1 | 2;

/** A data port of the client's is never one of these: they are other services' (RFC 2577 section 3). */
const PORT_MIN = 1_024;

/** The argument of PORT, "h1,h2,h3,h4,p1,p2" (RFC 959 section 5.3.2). undefined where it is none. */
export function parsePort(argument: string): Endpoint | undefined {
  if (!/^\d{1,3}(,\d{1,3}){5}$/.test(argument)) return undefined;
  const numbers = argument.split(",").map(Number);
  if (numbers.some((number) => number > 255)) return undefined;
  const [high = 0, low = 0] = numbers.splice(4);
  return { address: numbers.join("."), port: high * 256 + low };
}

/**
 * The argument of EPRT, "|2|2001:db8::1|5282|" with any delimiter (RFC 2428 section 2).
 * @returns "protocol" for a network protocol that is not known: 522; undefined where it is none at all: 501
 */
export function parseExtendedPort(argument: string): Endpoint | "protocol" | undefined {
  const match = /^([!-~])(\d{1,5})\1([0-9A-Fa-f:.]+)\1(\d{1,5})\1$/.exec(argument);
  if (!match) return undefined;
  const [, , protocol, text = "", digits] = match;
  const number = Number(protocol);
  if (number !== 1 && number !== 2) return "protocol";
  const port = Number(digits);
  const address = normal(text);
  if (address === undefined || port > 65_535 || isIPv6(text) !== (number === 2)) return undefined;
  return { address, port };
}

/**
 * The argument of EPSV (RFC 2428 section 3): "" leaves the protocol to us, "ALL" says that no PORT, PASV or EPRT will follow.
 * @returns "protocol" for a network protocol that is not known: 522; undefined where it is none at all: 501
 */
export function parseExtendedPassive(argument: string): NetworkProtocol | "any" | "all" | "protocol" | undefined {
  if (argument === "") return "any";
  if (/^all$/i.test(argument)) return "all";
  if (!/^\d{1,5}$/.test(argument)) return undefined;
  const number = Number(argument);
  return number === 1 || number === 2 ? number : "protocol";
}

/** That of a control connection is the only one that its data connections can have. */
export function protocolOf(address: string): NetworkProtocol {
  return isIPv6(normaliseAddress(address)) ? 2 : 1;
}

/**
 * Whether the client may have data sent there: to itself alone, or it could have this server talk to anybody (the bounce
 * attack, RFC 2577 section 3).
 * @param peerAddress of the control connection; either address may be IPv4-mapped. Throws ADDRESS_INVALID
 */
export function isOwn({ address, port }: Endpoint, peerAddress: string): boolean {
  return port >= PORT_MIN && port <= 65_535 && normaliseAddress(address) === normaliseAddress(peerAddress);
}

/** 227 to PASV (RFC 959 section 4.1.2). The address is an IPv4 one, the client's view of this end; throws ADDRESS_INVALID. */
export function passiveReply({ address, port }: Endpoint): Buffer {
  return reply(227, `Entering Passive Mode (${[...addressBytes(address), port >> 8, port & 255].join(",")}).`);
}

/** 229 to EPSV (RFC 2428 section 3). */
export function extendedPassiveReply(port: number): Buffer {
  return reply(229, `Entering Extended Passive Mode (|||${port}|)`);
}

/** 522 (RFC 2428 section 2), with the one that is supported. */
export function protocolReply(supported: NetworkProtocol): Buffer {
  return reply(522, `Network protocol not supported, use (${supported})`);
}

function normal(text: string): string | undefined {
  try {
    return normaliseAddress(text);
  } catch {
    return undefined;
  }
}
