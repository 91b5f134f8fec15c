import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { isMap, isNode, LineCounter, type Pair, parseDocument } from "yaml";
import type { z } from "zod";
import { BatonError } from "../errors.js";
import { endpointText, normaliseAddress } from "../flow.js";
import { listenEndpoint } from "./address.js";
import { check } from "./check.js";
import { type Complaint, ConfigError, type ConfigProblem } from "./problem.js";
import { portRange, relatedPortsDefault } from "./related.js";
import { type Config, type ServiceConfig, schema, type WrittenConfig } from "./schema.js";
import { sentences } from "./sentence.js";

/** Reads and checks a configuration file. Throws ConfigError with everything that is wrong, or CONFIG_UNREADABLE. */
export function loadConfig(file: string): Config {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const why = code === "ENOENT" ? "there is no such file" : code === "EISDIR" ? "it is a directory" : String(code);
    throw new BatonError("CONFIG_UNREADABLE", `Cannot read the configuration ${file}: ${why}.`, error);
  }
  return parseConfig(text, file);
}

/** As loadConfig, on text that was read already. Relative directories are taken from where `file` lies. */
export function parseConfig(text: string, file: string): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, merge: true });
  const at = (offset: number, message: string): ConfigProblem => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(line, 1), column: Math.max(col, 1), message };
  };
  if (document.errors.length > 0) {
    throw new ConfigError(document.errors.map((error) => at(error.pos[0], sentence(error.message))));
  }

  const position = ({ path, key }: Complaint): number => {
    // The nearest thing that is there: a missing key is reported where its parent begins.
    for (let length = path.length; length >= 0; length--) {
      const parent = length === 0 ? undefined : document.getIn(path.slice(0, length - 1), true);
      if (key && length === path.length && isMap(parent)) {
        const pair = parent.items.find((item: Pair) => String(item.key) === String(path[length - 1]));
        if (isNode(pair?.key) && pair.key.range) return pair.key.range[0];
      }
      const node = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
      if (isNode(node) && node.range) return node.range[0];
    }
    return 0;
  };
  const fail = (complaints: Complaint[]): never => {
    const placed = complaints.map((complaint) => ({ offset: position(complaint), message: complaint.message }));
    placed.sort((a, b) => a.offset - b.offset);
    throw new ConfigError(placed.map(({ offset, message }) => at(offset, message)));
  };

  let written: unknown;
  try {
    written = document.toJS();
  } catch (error) {
    throw new ConfigError([at(0, sentence((error as Error).message))]); // an alias without its anchor, or too many
  }
  const parsed = schema.safeParse(written ?? {});
  if (!parsed.success) return fail(parsed.error.issues.flatMap((issue: z.core.$ZodIssue) => sentences(issue, written)));
  const config = complete(parsed.data, file, text);
  const complaints = check(config);
  if (complaints.length > 0) fail(complaints);
  return config;
}

const HANDOVER_PORT = 7601;
const REALM = "baton";

/** Fills what depends on other fields. */
function complete(written: WrittenConfig, file: string, text: string): Config {
  const from = dirname(resolve(file));
  const own = (id: string) => ({ state: `/run/baton/${written.cluster}/${id}`, pins: `/sys/fs/bpf/baton/${id}` });
  const { listen, url } = written.nats;
  const first = listenEndpoint(written.controllers[0]?.listen ?? "")?.address ?? "127.0.0.1";
  return {
    ...written,
    file: resolve(file),
    text,
    vips: written.vips.map(normaliseAddress),
    // Both are kept for check() to complain about; url wins.
    nats:
      url !== undefined
        ? { embedded: false, urls: [url].flat(), ...(listen === undefined ? {} : { listen }) }
        : { embedded: true, listen: listen ?? endpointText({ address: first, port: 4222 }) },
    controllers: written.controllers.map((controller) => {
      const { state, pins } = { ...own(controller.id), ...controller };
      return { ...controller, state, pins, socket: controller.socket ?? `${state}/api.sock` };
    }),
    servers: written.servers.map((server) => ({
      ...own(server.id),
      handover: endpointText({ address: normaliseAddress(server.address), port: HANDOVER_PORT }),
      ...server,
      address: normaliseAddress(server.address),
    })),
    services: written.services.map(({ relatedPorts, ...service }) => ({
      ...service,
      ...rangeOf(relatedPorts ?? relatedPortsDefault[service.protocol]),
      ...(service.directory === undefined ? {} : { directory: resolve(from, service.directory) }),
      multicast: service.multicast.map((one) => ({ ...one, group: normaliseAddress(one.group) })),
      ...(service.users === undefined ? {} : { users: resolve(from, service.users) }),
      ...(service.protocol === "rtsp" && service.users !== undefined ? { realm: service.realm ?? REALM } : {}),
      directories: Object.fromEntries(
        Object.entries(service.directories).map(([server, path]) => [server, resolve(from, path)]),
      ),
      limits: { bodyMegabytes: written.limits.bodyMegabytes, ...service.limits },
    })),
  };
}

function rangeOf(text: string | undefined): Pick<ServiceConfig, "relatedPorts"> {
  const relatedPorts = text === undefined ? undefined : portRange(text);
  return relatedPorts ? { relatedPorts } : {};
}

function sentence(text: string): string {
  const trimmed = text.trim().replace(/\s+/g, " ");
  return /[.!?]$/.test(trimmed) ? trimmed : `${trimmed}.`;
}
