import { type Config, parseConfig } from "../../proto/config/index.js";

/** A configuration with these services, each as it stands between braces. */
export function parseServices(...services: string[]): Config {
  const lines = [
    "vips: [10.77.0.100]",
    "controllers: [{ id: lb1, listen: 10.77.0.1:7600 }]",
    "servers: [{ id: s1, address: 10.77.0.101 }]",
    "services:",
    ...services.map((service) => `  - { ${service} }`),
  ];
  return parseConfig(lines.join("\n"), "/etc/baton.yaml");
}
