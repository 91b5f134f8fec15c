import { readFileSync, writeFileSync } from "node:fs";
import { logger } from "../../proto/log.js";

/**
 * Settings of the network namespace that the guard depends on. With a clamped acknowledgement a D-SACK looks like a SACK
 * above it; ECN and TCP Fast Open are state and data that no record carries.
 */
const wanted: Record<string, string> = {
  "net/ipv4/tcp_dsack": "0",
  "net/ipv4/tcp_ecn": "0",
  "net/ipv4/tcp_fastopen": "0",
};

/** Sets what is not set yet; what cannot be set is said, and goes on. */
export function settle(): void {
  for (const [name, value] of Object.entries(wanted)) {
    const file = `/proc/sys/${name}`;
    try {
      const present = readFileSync(file, "utf8").trim();
      if (present === value) continue;
      writeFileSync(file, value);
      logger("supervisor").info(
        { setting: name.replaceAll("/", "."), from: present, to: value },
        "kernel setting changed",
      );
    } catch (error) {
      logger("supervisor").warn({ setting: name.replaceAll("/", "."), err: error }, "kernel setting cannot be changed");
    }
  }
}
