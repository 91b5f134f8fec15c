import type {
  ConnectionDetail,
  ConnectionMessage,
  EventMessage,
  ServerMessage,
  StatusMessage,
} from "../../proto/rpc/index.js";
import { age, bytes, duration, table } from "./table.js";

/** For people. What programs read is in json.ts. */
export function formatStatus(status: StatusMessage): string {
  const up = status.servers.filter((server) => server.state === "UP").length;
  const store = status.store;
  const lines = [
    `version      ${status.version}`,
    `leader       ${status.leader || "none"}`,
    `VIPs         ${status.vips.join(", ")}`,
    `services     ${status.services.map((service) => `${service.name} (${service.protocol}, port ${service.port})`).join(", ")}`,
    `store        ${store ? `${store.url}${store.embedded ? " (embedded)" : ""}, ${store.connected ? "connected" : "NOT CONNECTED"}` : "unknown"}`,
    `servers      ${up} of ${status.servers.length} up`,
    `connections  ${status.connections}`,
  ];
  const problems =
    status.problems.length === 0 ? ["Nothing is wrong."] : status.problems.map((problem) => `! ${problem}`);
  return [...lines, "", formatServers(status.servers), "", ...problems].join("\n");
}

export function formatServers(servers: ServerMessage[]): string {
  return table(
    ["SERVER", "STATE", "CONNECTIONS", "CPU", "PRESSURE", "LOOP", "EGRESS", "LEASE", "REASON"],
    servers.map((server) => [
      server.id,
      server.state,
      String(server.connections),
      server.load ? server.load.cpu.toFixed(2) : "",
      server.load ? `${server.load.pressure.toFixed(1)}%` : "",
      server.load ? `${server.load.loopDelayMs.toFixed(1)}ms` : "",
      server.load ? `${bytes(server.load.egressBytesPerSecond)}/s` : "",
      `${Math.round(server.leaseAgeMs)}ms`,
      server.reason,
    ]),
  );
}

export function formatConnections(connections: ConnectionMessage[]): string {
  return table(
    ["CONNECTION", "CLIENT", "VIP", "PROTOCOL", "OWNER", "EPOCH", "PHASE", "AGE", "SENT", "OBJECT", "PROTECTED"],
    connections.map((connection) => [
      connection.id,
      goesAlong(connection) ? `└ ${connection.client}` : connection.client,
      connection.vip,
      connection.protocol,
      connection.owner,
      String(connection.epoch),
      connection.phase,
      age(connection.ageSeconds),
      bytes(connection.bytesSent),
      connection.object,
      connection.protected ? "yes" : `no: ${connection.reason || "unknown"}`,
    ]),
  );
}

/** It comes right behind the connection that it goes with. */
function goesAlong({ id, bundle }: ConnectionMessage): boolean {
  return bundle !== "" && bundle !== id;
}

export function formatConnection(detail: ConnectionDetail): string {
  const { connection, initialSeq, currentSeq } = detail;
  if (!connection) return "";
  const pair = (value: typeof initialSeq) => (value ? `client ${value.client}, server ${value.server}` : "unknown");
  const lines = [
    `connection    ${connection.id}`,
    `client        ${connection.client}`,
    `vip           ${connection.vip} (${connection.transport}, ${connection.protocol})`,
    `owner         ${connection.owner}, epoch ${connection.epoch}`,
    `phase         ${connection.phase}`,
    `age           ${age(connection.ageSeconds)}`,
    `sent          ${connection.bytesSent} bytes`,
    `received      ${connection.bytesReceived} bytes`,
    `object        ${connection.object ? `${connection.object}, at byte ${connection.offset}` : "-"}`,
    `protected     ${connection.protected ? "yes" : `no: ${connection.reason || "unknown"}`}`,
    `initial seq   ${pair(initialSeq)}`,
    `current seq   ${pair(currentSeq)}`,
    `first byte    ${detail.firstByteSeq}`,
    `record        by ${detail.serverId || "-"} at ${detail.takenAt || "-"}`,
    ...(connection.bundle ? [`bundle        ${connection.bundle}`] : []),
    "",
    ...(detail.related.length > 0 ? [formatConnections(detail.related), ""] : []),
    table(
      ["LAYER", "VERSION", "STATE"],
      detail.layers.map((layer) => [layer.layer, String(layer.version), layer.stateJson]),
    ),
    "",
    table(
      ["TIME", "SERVER", "WHAT", "LAYER", "DETAIL"],
      detail.history.map((entry) => [entry.time, entry.server, entry.what, entry.layer, entry.detail]),
    ),
  ];
  return lines.join("\n");
}

/** One line. */
export function formatEvent(event: EventMessage): string {
  const parts = [event.time, event.kind.padEnd(10), event.result.padEnd(12)];
  if (event.connection) parts.push(event.connection);
  if (event.from || event.to) parts.push(`${event.from || "-"} -> ${event.to || "-"}`);
  if (event.reason) parts.push(`(${event.reason})`);
  const phases = Object.entries(event.phases).sort(([, a], [, b]) => a - b);
  if (phases.length > 0) parts.push(phases.map(([phase, us]) => `${phase} ${duration(us)}`).join(", "));
  if (event.heldPackets > 0) parts.push(`held ${event.heldPackets} packets for ${duration(event.heldUs)}`);
  return parts.join("  ");
}
