import ipaddr from "ipaddr.js";
import { type Endpoint, normaliseAddress, parseEndpoint } from "../flow.js";

/** Whether `text` is a literal IPv4 or IPv6 address. Names are not taken: nothing here resolves any. */
export function isAddress(text: string): boolean {
  try {
    normaliseAddress(text);
    return true;
  } catch {
    return false;
  }
}

/** Takes what can be listened on, `10.0.0.1:80` or `[fd00::1]:80`; undefined when it is neither. */
export function listenEndpoint(text: string): Endpoint | undefined {
  try {
    const endpoint = parseEndpoint(text);
    return endpoint.port === 0 ? undefined : endpoint;
  } catch {
    return undefined;
  }
}

/** Why `text` cannot be an address that clients connect to; undefined when it can. */
export function notUnicast(text: string): string | undefined {
  const range = ipaddr.parse(text).range();
  if (["unspecified", "broadcast", "multicast", "loopback", "linkLocal"].includes(range)) {
    return `is a ${range} address, which clients cannot connect to`;
  }
  return undefined;
}

/** Why `text` cannot be a group that is sent to; undefined when it can. What a link's own protocols use is not for others (RFC 5771 section 4, RFC 4291 section 2.7). */
export function notGroup(text: string): string | undefined {
  const address = ipaddr.parse(text);
  if (address.range() !== "multicast") return "is not a multicast address";
  const bytes = address.toByteArray();
  const isLocal =
    bytes.length === 4 ? bytes[0] === 224 && bytes[1] === 0 && bytes[2] === 0 : ((bytes[1] ?? 0) & 15) < 2;
  return isLocal ? "is kept for protocols of the link or the host itself" : undefined;
}
