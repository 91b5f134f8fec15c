import { networkInterfaces } from "node:os";
import { BatonError } from "./errors.js";

/**
 * MAC address (6 bytes) of an interface of this network namespace that is up and has an address. Asks the kernel and not
 * /sys, which shows the namespace it was mounted in. Throws NOT_FOUND.
 */
export function interfaceMac(name: string): Buffer {
  const mac = networkInterfaces()[name]?.[0]?.mac;
  if (mac === undefined) throw new BatonError("NOT_FOUND", `interface "${name}" is not there, down, or has no address`);
  return Buffer.from(mac.replaceAll(":", ""), "hex");
}
