import { type Config, recordBytesMax } from "../../proto/config/index.js";

const mebibyte = 1024 * 1024;

/** The configuration file of the embedded nats-server. The same input makes the same text. */
export function natsSettings(options: { name: string; listen: string; store: string; maxPayload: number }): string {
  const { name, listen, store, maxPayload } = options;
  return `# Written by Baton's controller at each start; changes are lost.
server_name: ${JSON.stringify(name)}
listen: ${JSON.stringify(listen)}
max_payload: ${maxPayload}
# A client that stopped reading is dropped early: it must not hold up memory, and it comes back when it wakes.
write_deadline: "2s"
ping_interval: "5s"
jetstream {
  store_dir: ${JSON.stringify(store)}
}
`;
}

/** Twice the largest record leaves room. Bytes. */
export function maxPayload(config: Config): number {
  return Math.min(64 * mebibyte, Math.max(mebibyte, 2 * recordBytesMax(config)));
}

/** Whether controller `id` runs the embedded server: it stands beside the first controller. */
export function runsNats(config: Config, id: string): boolean {
  return config.nats.embedded && config.controllers[0]?.id === id;
}
