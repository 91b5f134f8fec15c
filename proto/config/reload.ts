import { isDeepStrictEqual } from "node:util";
import { BatonError } from "../errors.js";
import { loadConfig } from "./load.js";
import { recordBytesMax } from "./lookup.js";
import type { Config, ServiceConfig } from "./schema.js";
import { describePath } from "./sentence.js";

/** What connections of a service need of it for as long as they live. */
export type OfferedService = Pick<ServiceConfig, "name" | "protocol" | "port" | "protect">;

/** Limits that say how much is kept or waited for, and nothing about what is there already. */
const LIVE_LIMITS = [
  ...["drainMs", "bodyMegabytes", "spillMegabytes"],
  ...["connectionsPerClient", "halfOpenPerClient"],
];

/**
 * The file of the configuration `running` as it is by now, for a daemon that goes on with its connections. Throws as loadConfig, and
 * UNSUPPORTED where the difference cannot be taken over by a cluster that runs.
 */
export function reloadConfig(running: Config): Config {
  const next = loadConfig(running.file);
  const why = reloadProblem(running, next);
  if (why !== "") throw new BatonError("UNSUPPORTED", `${running.file}: ${why}.`);
  return next;
}

/**
 * Why `next` cannot take the place of `running` under way, a sentence without its stop; "" = it can. Services, `overload` and some limits
 * may change: on the rest all daemons have to agree, or it is built into what runs.
 */
export function reloadProblem(running: Config, next: Config): string {
  const path = difference(fixed(running), fixed(next), []);
  if (path) return `${describePath(path)} has changed, which takes effect with a restart only`;
  if (recordBytesMax(next) > recordBytesMax(running)) {
    return "responseKilobytes has grown, so that records may be larger than the store was told, which takes effect with a restart only";
  }
  const lost = lostService(running.services, next.services);
  if (!lost) return changedPorts(running, next);
  return `the service ${lost.name} (${lost.protocol}, port ${lost.port}) is gone or another one, and may have connections: that takes a restart`;
}

function changedPorts(running: Config, next: Config): string {
  const changed = running.services.find(({ name, relatedPorts }) => {
    const same = next.services.find((service) => service.name === name);
    return !isDeepStrictEqual(relatedPorts, same?.relatedPorts);
  });
  return changed ? `relatedPorts of service ${changed.name} has changed, which takes effect with a restart only` : "";
}

/** The first service of `old` that connections would not find in `next`. */
export function lostService<T extends OfferedService>(
  old: readonly T[],
  next: readonly OfferedService[],
): T | undefined {
  const key = ({ name, protocol, port, protect }: OfferedService) => `${name} ${protocol} ${port} ${protect}`;
  const kept = new Set(next.map(key));
  return old.find((service) => !kept.has(key(service)));
}

function fixed({ text: _text, services: _services, overload: _overload, limits, ...rest }: Config): unknown {
  const kept = Object.entries(limits).filter(([name]) => !LIVE_LIMITS.includes(name));
  return { ...rest, limits: Object.fromEntries(kept) };
}

/** Where the two differ first; undefined where they do not. */
function difference(one: unknown, other: unknown, path: Array<string | number>): Array<string | number> | undefined {
  if (isDeepStrictEqual(one, other)) return undefined;
  if (!isObject(one) || !isObject(other) || Array.isArray(one) !== Array.isArray(other)) return path;
  if (Array.isArray(one) && one.length !== (other as unknown as unknown[]).length) return path;
  for (const key of new Set([...Object.keys(one), ...Object.keys(other)])) {
    const found = difference(one[key], other[key], [...path, Array.isArray(one) ? Number(key) : key]);
    if (found) return found;
  }
  return path;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
