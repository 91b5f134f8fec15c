import { isIPv6 } from "../flow.js";
import { listenEndpoint, notGroup, notUnicast } from "./address.js";
import type { Complaint, Path } from "./problem.js";
import { type PortRange, relatedPortsOf, relatedTransports } from "./related.js";
import { type Config, type ServiceConfig, servesDirectory } from "./schema.js";
import { describePath } from "./sentence.js";
import { suggest } from "./suggest.js";

/** Most VIP addresses of one family (BATON_VIPS_MAX in bpf/shared.h). */
const vipsMax = 8;

/** Ports that the packet path can know, each with its transport (`services` in bpf/steer_maps.h and bpf/guard_maps.h). */
const portsMax = 4096;

/** What a schema cannot say: things that must differ, things that must exist, things that must fit together. */
export function check(config: Config): Complaint[] {
  return [
    ...addresses(config),
    ...identities(config),
    ...listeners(config),
    ...services(config),
    ...related(config),
    ...groups(config),
    ...lease(config),
  ];
}

/** Reports every value that an earlier one has already. */
function duplicates(values: { value: string; path: Path }[], what: string): Complaint[] {
  const seen = new Map<string, Path>();
  return values.flatMap(({ value, path }) => {
    const first = seen.get(value);
    if (first === undefined) {
      seen.set(value, path);
      return [];
    }
    return [{ path, message: `${what} ${value} is used already by ${describePath(first)}.` }];
  });
}

function addresses({ vips, servers }: Config): Complaint[] {
  const complaints: Complaint[] = [];
  vips.forEach((vip, index) => {
    const wrong = notUnicast(vip);
    if (wrong !== undefined) complaints.push({ path: ["vips", index], message: `vips[${index}] ${vip} ${wrong}.` });
  });
  for (const family of [4, 6] as const) {
    const path = vips.flatMap((vip, index) => (isIPv6(vip) === (family === 6) ? [index] : []))[vipsMax];
    if (path !== undefined) {
      complaints.push({ path: ["vips", path], message: `There may be at most ${vipsMax} IPv${family} VIPs.` });
    }
  }
  servers.forEach(({ address }, index) => {
    const wrong = notUnicast(address);
    if (wrong !== undefined) {
      complaints.push({
        path: ["servers", index, "address"],
        message: `servers[${index}].address ${address} ${wrong}.`,
      });
    }
  });
  const all = [
    ...vips.map((vip, index) => ({ value: vip, path: ["vips", index] })),
    ...servers.map(({ address }, index) => ({ value: address, path: ["servers", index, "address"] })),
  ];
  return [...complaints, ...duplicates(all, "Address")];
}

function identities({ controllers, servers, services: all }: Config): Complaint[] {
  const hosts = [
    ...controllers.map((host, index) => ({ host, path: ["controllers", index] })),
    ...servers.map((host, index) => ({ host, path: ["servers", index] })),
  ];
  return [
    ...duplicates(
      hosts.map(({ host, path }) => ({ value: host.id, path: [...path, "id"] })),
      "Id",
    ),
    ...duplicates(
      all.map(({ name }, index) => ({ value: name, path: ["services", index, "name"] })),
      "Service name",
    ),
    ...duplicates(
      all.map(({ port }, index) => ({ value: String(port), path: ["services", index, "port"] })),
      "Port",
    ),
  ];
}

function listeners({ nats, controllers, servers }: Config): Complaint[] {
  const complaints: Complaint[] = [];
  if (!nats.embedded && "listen" in nats) {
    complaints.push({ path: ["nats", "listen"], key: true, message: "nats has either listen or url, not both." });
  }
  const all = [
    ...(nats.embedded ? [{ value: nats.listen, path: ["nats", "listen"] }] : []),
    ...controllers.flatMap(({ listen, metrics }, index) => [
      { value: listen, path: ["controllers", index, "listen"] },
      ...(metrics === undefined ? [] : [{ value: metrics, path: ["controllers", index, "metrics"] }]),
    ]),
    ...servers.flatMap(({ metrics }, index) =>
      metrics === undefined ? [] : [{ value: metrics, path: ["servers", index, "metrics"] }],
    ),
  ];
  controllers.forEach(({ listen }, index) => {
    const host = listenEndpoint(listen)?.address ?? "";
    if (/^[0.:]+$/.test(host)) {
      const message = `controllers[${index}].listen must be an address that agents can connect to, not ${listen}.`;
      complaints.push({ path: ["controllers", index, "listen"], message });
    }
  });
  return [...complaints, ...duplicates(all, "Listen address")];
}

function services({ services: all, servers }: Config): Complaint[] {
  const ids = servers.map(({ id }) => id);
  return all.flatMap((service, index) => [
    ...content(service, ["services", index]),
    ...(["directories", "upstreams"] as const).flatMap((key) =>
      Object.keys(service[key])
        .filter((server) => !ids.includes(server))
        .map((server) => {
          const near = suggest(server, ids);
          const path = ["services", index, key, server];
          const help = near === undefined ? "." : `; did you mean "${near}"?`;
          return { path, key: true, message: `There is no server "${server}"${help}` };
        }),
    ),
  ]);
}

/** A protocol that serves files has them from a directory or from an upstream; with another one nobody would look at either. */
function content(service: ServiceConfig, path: Path): Complaint[] {
  const { protocol, directory, upstream } = service;
  const unwanted = (
    keys: Array<"directory" | "directories" | "upstream" | "upstreams" | "users" | "realm">,
    why: string,
  ): Complaint[] =>
    keys
      .filter((key) => (typeof service[key] === "object" ? Object.keys(service[key]).length > 0 : service[key]))
      .map((key) => {
        const place = [...path, key];
        return { path: place, key: true, message: `${describePath(place)} must be left out: ${why}.` };
      });
  if (protocol !== "ftp" && protocol !== "rtsp" && service.users !== undefined)
    return unwanted(["users"], `protocol ${protocol} has no users`);
  if (protocol !== "rtsp" && service.realm !== undefined) return unwanted(["realm"], `protocol ${protocol} has none`);
  if (service.realm !== undefined && service.users === undefined)
    return unwanted(["realm"], "the service has no users");
  if (!servesDirectory[protocol]) {
    return unwanted(["directory", "directories", "upstream", "upstreams"], `protocol ${protocol} serves no files`);
  }
  if (protocol !== "http" && upstream !== undefined) {
    return unwanted(["upstream"], `protocol ${protocol} serves a directory`);
  }
  if (upstream !== undefined) return unwanted(["directory", "directories"], "the service has an upstream");
  if (directory !== undefined || (protocol === "ftp" && service.users !== undefined))
    return unwanted(["upstreams"], "the service has a directory");
  const message = `${describePath([...path, "directory"])} is missing.`;
  return [{ path: [...path, "directory"], message }];
}

/** Ports of related flows belong to one service, and to nothing else of it. */
function related({ services: all }: Config): Complaint[] {
  const complaints: Complaint[] = [];
  let known = all.length;
  all.forEach((service, index) => {
    const { relatedPorts: range, protocol } = service;
    if (!range) return;
    const path = ["services", index, "relatedPorts"];
    const name = describePath(path);
    if (relatedTransports[protocol].length === 0) {
      const message = `${name} must be left out: connections of protocol ${protocol} stand alone.`;
      complaints.push({ path, key: true, message });
      return;
    }
    const text = `${name} ${range.from}-${range.to}`;
    const inside = all.findIndex(({ port }) => port >= range.from && port <= range.to);
    if (inside >= 0) complaints.push({ path, message: `${text} has the port of services[${inside}].` });
    const other = all.findIndex((one, earlier) => earlier < index && overlap(one.relatedPorts, range));
    if (other >= 0) complaints.push({ path, message: `${text} overlaps services[${other}].relatedPorts.` });
    known += relatedPortsOf(service).length;
    if (known > portsMax) {
      const message = `${text} is too much: all services together may have at most ${portsMax} ports, each transport counted.`;
      complaints.push({ path, message });
    }
  });
  return complaints;
}

/** A group is one file's, which has one for the clients of each family at most. */
function groups({ services: all }: Config): Complaint[] {
  const complaints: Complaint[] = [];
  const every: Array<{ value: string; path: Path }> = [];
  all.forEach(({ protocol, protect, multicast }, index) => {
    const path = ["services", index, "multicast"];
    const unwanted = protocol !== "rtsp" ? `protocol ${protocol} has no groups` : "who leads a group is in records";
    if (multicast.length > 0 && (protocol !== "rtsp" || !protect)) {
      complaints.push({ path, key: true, message: `${describePath(path)} must be left out: ${unwanted}.` });
    }
    multicast.forEach(({ group }, at) => {
      const wrong = notGroup(group);
      const place = [...path, at, "group"];
      if (wrong !== undefined) complaints.push({ path: place, message: `${describePath(place)} ${group} ${wrong}.` });
      every.push({ value: group, path: place });
    });
    const files = multicast.map(({ file, group }, at) => {
      return { value: `${file} (IPv${isIPv6(group) ? 6 : 4})`, path: [...path, at, "file"] };
    });
    complaints.push(...duplicates(files, "A group for"));
  });
  return [...complaints, ...duplicates(every, "Group")];
}

function overlap(one: PortRange | undefined, other: PortRange): boolean {
  return one !== undefined && one.from <= other.to && other.from <= one.to;
}

function lease({ lease: { durationMs, renewMs } }: Config): Complaint[] {
  if (renewMs * 2 <= durationMs) return [];
  const message = `lease.renewMs must be at most half of lease.durationMs (${durationMs}), so that one lost renewal does not fence a server.`;
  return [{ path: ["lease", "renewMs"], message }];
}
