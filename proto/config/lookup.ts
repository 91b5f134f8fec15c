import { BatonError } from "../errors.js";
import type { Config, ControllerConfig, ServerConfig, ServiceConfig } from "./schema.js";
import { suggest } from "./suggest.js";

/** The controller with this id. Throws NOT_FOUND. */
export function controllerOf(config: Config, id: string): ControllerConfig {
  return find(config.controllers, id, "controller", config.file);
}

/** The server with this id. Throws NOT_FOUND. */
export function serverOf(config: Config, id: string): ServerConfig {
  return find(config.servers, id, "server", config.file);
}

function find<T extends { id: string }>(list: T[], id: string, what: string, file: string): T {
  const found = list.find((item) => item.id === id);
  if (found) return found;
  const ids = list.map((item) => item.id);
  const near = suggest(id, ids);
  const help = near === undefined ? `it has ${ids.join(", ")}` : `did you mean "${near}"?`;
  throw new BatonError("NOT_FOUND", `${file} has no ${what} "${id}"; ${help}${near === undefined ? "." : ""}`);
}

/** Where the store is reached: the configured servers, or the embedded one. */
export function natsUrls(config: Config): string[] {
  return config.nats.embedded ? [`nats://${config.nats.listen}`] : config.nats.urls;
}

const KIBIBYTE = 1024;
/** Beside the input and whole responses: what one read brings past the input's bound, responses ahead up to theirs, and all of their heads. */
const RECORD_REST_BYTES = 512 * KIBIBYTE;
/** Of a literal promise: a part of a response in the making may have so much, whatever the limits say. */
const LITERAL_KILOBYTES_MIN = 64;

/** The largest record that a connection can come to. Bytes. */
export function recordBytesMax({ limits, services }: Pick<Config, "limits" | "services">): number {
  const literal = Math.max(LITERAL_KILOBYTES_MIN, ...services.map((service) => service.limits.responseKilobytes));
  // It goes past the bound of those ahead.
  return limits.inputBytes + RECORD_REST_BYTES + literal * KIBIBYTE;
}

/**
 * The absolute directory that `serverId` serves for `service`. Whether it is there is checked by who serves it. Throws
 * CONFIG_INVALID where the service's protocol serves no files.
 */
export function directoryOf(service: ServiceConfig, serverId: string): string {
  const directory = service.directories[serverId] ?? service.directory;
  if (directory === undefined) throw new BatonError("CONFIG_INVALID", `Service ${service.name} has no directory.`);
  return directory;
}

/** The server behind `serverId` that `service` stands before; undefined where it serves a directory itself. */
export function upstreamOf(service: ServiceConfig, serverId: string): string | undefined {
  return service.upstream === undefined ? undefined : (service.upstreams[serverId] ?? service.upstream);
}
