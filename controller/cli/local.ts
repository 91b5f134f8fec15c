import { jsonSchema, loadConfig } from "../../proto/config/index.js";
import { print } from "./print.js";

/** Says that a configuration is right, or throws ConfigError with all that is wrong. */
export function checkFile(file: string, { json }: { json?: boolean }): void {
  const { text: _text, ...config } = loadConfig(file);
  const { servers, controllers, services, vips } = config;
  const counts = `${count(controllers, "controller")}, ${count(servers, "server")}, ${count(services, "service")}, ${count(vips, "VIP")}`;
  print(json ? JSON.stringify(config, null, 2) : `${file}: right (${counts})`);
}

function count(list: unknown[], what: string): string {
  return `${list.length} ${what}${list.length === 1 ? "" : "s"}`;
}

export function showSchema(): void {
  print(JSON.stringify(jsonSchema(), null, 2));
}
