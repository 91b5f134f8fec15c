import ipaddr from "ipaddr.js";

/** Where something listens: a literal address and a port. */
export interface HostPort {
  host: string;
  port: number;
}

/** Takes `10.0.0.1:80` or `[fd00::1]:80`; undefined when it is neither. Names are not taken: nothing here resolves any. */
export function parseHostPort(text: string): HostPort | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text);
  if (!match) return undefined;
  const [, six, four, digits] = match;
  const host = six ?? four ?? "";
  const port = Number(digits);
  const valid = six === undefined ? ipaddr.IPv4.isValidFourPartDecimal(host) : ipaddr.IPv6.isValid(host);
  return valid && port >= 1 && port <= 65535 ? { host, port } : undefined;
}

/** `ip:port`, with brackets around an IPv6 address. */
export function formatHostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** 4 or 6, or undefined when `text` is not a literal address (scope ids and short IPv4 forms are refused). */
export function addressFamily(text: string): 4 | 6 | undefined {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return 4;
  return !text.includes("%") && ipaddr.IPv6.isValid(text) ? 6 : undefined;
}

/** Why `text` cannot be an address that clients connect to; undefined when it can. */
export function notUnicast(text: string): string | undefined {
  const address = ipaddr.parse(text);
  const range = address.range();
  if (range === "ipv4Mapped") return "is an IPv4-mapped IPv6 address; write the IPv4 address itself";
  if (["unspecified", "broadcast", "multicast", "loopback", "linkLocal"].includes(range)) {
    return `is a ${range} address, which clients cannot connect to`;
  }
  return undefined;
}

/** One spelling an address, so that equal ones compare equal. */
export function canonicalAddress(text: string): string {
  return ipaddr.parse(text).toString();
}
