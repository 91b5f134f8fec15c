import { wallClockUs } from "../../proto/clock.js";
import { endpointText } from "../../proto/flow.js";
import { type ConnectionRecord, pieceLength } from "../../proto/record.js";
import type { ConnectionDetail, ConnectionMessage, HistoryEntry, LiveConnection } from "../../proto/rpc/index.js";
import { decodeHttpSection, describeSection } from "../../proto/sections.js";
import type { Phase } from "../../proto/vocabulary.js";
import { isoTime } from "../events/index.js";
import type { ConnectionEntry } from "./entry.js";

/** What is known beyond the record: the owner's answer to Describe, and a phase that the appliance imposes (HELD). */
export interface Live {
  connection?: LiveConnection | undefined;
  phase?: Phase | undefined;
}

/** A row of `baton connections`. Throws RECORD_INVALID or RECORD_VERSION. */
function connectionRow(entry: ConnectionEntry, live: Live = {}): ConnectionMessage {
  const record = entry.record();
  const { flow } = record;
  const now = live.connection;
  const livePhase = now && now.phase !== "PHASE_UNSPECIFIED" ? now.phase : record.phase;
  const [object, offset] = now?.object ? [now.object, now.objectOffset] : objectAtFloor(record);
  return {
    id: entry.id,
    client: endpointText(flow.client),
    vip: endpointText(flow.vip),
    transport: flow.transport,
    protocol: record.protocol,
    owner: entry.serverId,
    epoch: record.epoch,
    phase: live.phase ?? livePhase,
    ageSeconds: Math.max(0, (wallClockUs() - record.bornAtUs) / 1e6),
    bytesSent: now?.bytesSent ?? record.floor,
    bytesReceived: now?.bytesReceived ?? record.consumed,
    bundle: record.bundleId,
    object,
    offset,
    protected: now?.isProtected ?? record.unprotectedReason === "",
    reason: now ? now.reason : record.unprotectedReason,
  };
}

/** The row of a connection, and those of the flows of its bundle that have no record. Throws RECORD_INVALID or RECORD_VERSION. */
export function connectionRows(entry: ConnectionEntry, live: Live = {}): ConnectionMessage[] {
  const own = connectionRow(entry, live);
  const { flow, flows = [] } = entry.record();
  return [
    own,
    ...flows.map(({ transport, clientPort, vipPort, clientAddress, name, bytes }) => ({
      ...own,
      id: `${entry.id}/${transport}/${vipPort}/${clientPort}`,
      client: endpointText({ address: clientAddress ?? flow.client.address, port: clientPort }),
      vip: endpointText({ address: flow.vip.address, port: vipPort }),
      transport,
      bytesSent: bytes,
      bytesReceived: 0,
      bundle: entry.id,
      object: name,
      offset: 0,
    })),
  ];
}

/** Id of the record that says what there is to say of a row. */
export function recordedId(id: string): string {
  return id.split("/", 1)[0] ?? id;
}

/** `baton connection ID`. @param histories what each server that had the connection remembers of it */
export function connectionDetail(
  entry: ConnectionEntry,
  live: Live = {},
  histories: { server: string; history: HistoryEntry[] }[] = [],
  related: ConnectionMessage[] = [],
): ConnectionDetail {
  const record = entry.record();
  const now = live.connection;
  const { tcp } = record;
  return {
    connection: connectionRow(entry, live),
    initialSeq: { client: tcp.clientIsn, server: tcp.serverIsn },
    currentSeq: now
      ? { client: now.clientSeq, server: now.serverSeq }
      : { client: tcp.clientSeq, server: tcp.serverSeq },
    firstByteSeq: now?.object ? now.firstByteSeq : recordedFirstByte(record),
    serverId: record.serverId,
    takenAt: isoTime(record.takenAtUs),
    layers: record.layers.map((section) => ({
      layer: section.layer,
      version: section.version,
      stateJson: JSON.stringify(describeSection(section)),
    })),
    history: histories
      .flatMap(({ server, history }) => history.map((item) => ({ ...item, server, time: isoTime(item.timeUs) })))
      .sort((a, b) => a.timeUs - b.timeUs),
    related,
  };
}

/** The object of the piece at the floor, or of the last one before it ("" = none); and the position in it. */
function objectAtFloor({ output, floor }: ConnectionRecord): [object: string, offset: number] {
  let found: [string, number] = ["", 0];
  for (const piece of output) {
    if (piece.offset > floor && found[0] !== "") break;
    if (!piece.object) continue;
    const into = Math.min(Math.max(floor - piece.offset, 0), pieceLength(piece));
    found = [piece.object.objectId, piece.object.objectOffset + into];
  }
  return found;
}

/** Sequence number of the first byte of the object that is being sent; 0 where there is none. */
function recordedFirstByte({ layers }: ConnectionRecord): number {
  const http = layers.find(({ layer, version }) => layer === "http" && version === 1);
  return http ? (decodeHttpSection(http).current?.firstByteSeq ?? 0) : 0;
}
