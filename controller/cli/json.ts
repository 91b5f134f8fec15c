import type {
  ConnectionDetail,
  ConnectionMessage,
  EventMessage,
  ServerMessage,
  StatusMessage,
} from "../../proto/rpc/index.js";

/**
 * What `--json` prints. The field names are an interface: scripts and dashboards rely on them. They are the messages'
 * own, but written out, so that a change of the wire does not silently become a change here.
 */
export function serverJson(server: ServerMessage) {
  const { id, state, connections, load, leaseAgeMs, reason, incarnation, generation, slot } = server;
  return {
    id,
    state,
    connections,
    load: load ?? { cpu: 0, pressure: 0, loopDelayMs: 0, egressBytesPerSecond: 0 },
    leaseAgeMs,
    reason,
    incarnation,
    generation,
    slot,
    addresses: server.addresses,
    contentReady: server.contentReady,
    overloadIndex: server.overloadIndex,
  };
}

export function statusJson(status: StatusMessage) {
  const { version, leader, servers, vips, services, problems, store, verdicts, connections } = status;
  return { version, leader, servers: servers.map(serverJson), vips, services, problems, store, verdicts, connections };
}

export function connectionJson(connection: ConnectionMessage) {
  const { id, client, vip, transport, protocol, owner, epoch, phase, ageSeconds } = connection;
  const { bytesSent, bytesReceived, bundle, object, offset, reason } = connection;
  return {
    ...{ id, client, vip, transport, protocol, owner, epoch, phase, ageSeconds },
    ...{ bytesSent, bytesReceived, bundle, object, offset, protected: connection.protected, reason },
  };
}

export function connectionDetailJson(detail: ConnectionDetail) {
  const { connection, initialSeq, currentSeq, firstByteSeq, serverId, takenAt, layers, history, related } = detail;
  return {
    ...(connection ? connectionJson(connection) : {}),
    initialSeq,
    currentSeq,
    firstByteSeq,
    serverId,
    takenAt,
    layers: layers.map(({ layer, version, stateJson }) => ({ layer, version, state: parseState(stateJson) })),
    history: history.map(({ time, timeUs, what, layer, detail: text, server }) => ({
      ...{ time, timeUs, what, layer, detail: text, server },
    })),
    related: related.map(connectionJson),
  };
}

export function eventJson(event: EventMessage) {
  const { time, kind, connection, bundle, from, to, result, reason, phases, heldPackets, heldUs } = event;
  return { time, kind, connection, bundle, from, to, result, reason, phases, heldPackets, heldUs };
}

/** A layer's state as an object; a text that is not JSON stays a text. */
function parseState(text: string): unknown {
  if (text === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
