import type { ConnectionMessage } from "../../proto/rpc/index.js";
import { ask, deadlineMs, readAll, withController } from "./client.js";
import { formatConnection, formatConnections, formatEvent, formatServers, formatStatus } from "./format.js";
import { connectionDetailJson, connectionJson, eventJson, serverJson, statusJson } from "./json.js";
import { print } from "./print.js";

interface Output {
  json?: boolean;
}

export async function showStatus({ json }: Output): Promise<void> {
  const status = await withController((client) => ask(client.getStatus.bind(client), {}));
  print(json ? JSON.stringify(statusJson(status), null, 2) : formatStatus(status));
}

export async function showServers({ json }: Output): Promise<void> {
  const { servers } = await withController((client) => ask(client.listServers.bind(client), {}));
  print(json ? JSON.stringify({ servers: servers.map(serverJson) }, null, 2) : formatServers(servers));
}

export async function showConnections(options: Output & { server?: string; protocol?: string }): Promise<void> {
  const { json, server = "", protocol = "" } = options;
  const connections = await withController(async (client) => {
    const list: ConnectionMessage[] = [];
    const stream = client.listConnections({ server, protocol }, { deadline: Date.now() + deadlineMs });
    await readAll(stream, (connection) => list.push(connection));
    return list;
  });
  print(
    json ? JSON.stringify({ connections: connections.map(connectionJson) }, null, 2) : formatConnections(connections),
  );
}

export async function showConnection(id: string, { json }: Output): Promise<void> {
  const detail = await withController((client) => ask(client.getConnection.bind(client), { id }));
  print(json ? JSON.stringify(connectionDetailJson(detail), null, 2) : formatConnection(detail));
}

export async function showEvents(options: Output & { follow?: boolean; limit?: number }): Promise<void> {
  const { json, follow = false, limit = 0 } = options;
  await withController(async (client) => {
    const stream = client.watchEvents({ follow, limit }, follow ? {} : { deadline: Date.now() + deadlineMs });
    await readAll(stream, (event) => print(json ? JSON.stringify(eventJson(event)) : formatEvent(event)));
  });
}
