import { wallClockUs } from "../../proto/clock.js";
import type { ConnectionRecord } from "../../proto/record.js";
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

/** A row of `baton connections`. */
export function connectionRow(entry: ConnectionEntry, live: Live = {}): ConnectionMessage {
  const now = live.connection;
  const livePhase = now && now.phase !== "PHASE_UNSPECIFIED" ? now.phase : entry.phase;
  return {
    id: entry.id,
    client: entry.client,
    vip: entry.vip,
    transport: entry.transport,
    protocol: entry.protocol,
    owner: entry.serverId,
    epoch: entry.epoch,
    phase: live.phase ?? livePhase,
    ageSeconds: Math.max(0, (wallClockUs() - entry.bornAtUs) / 1e6),
    bytesSent: now?.bytesSent ?? entry.floor,
    bytesReceived: now?.bytesReceived ?? entry.consumed,
    bundle: entry.bundle,
    object: now?.object || entry.object,
    offset: now?.object ? now.objectOffset : entry.objectOffset,
    protected: now?.isProtected ?? entry.unprotectedReason === "",
    reason: now ? now.reason : entry.unprotectedReason,
  };
}

/** `baton connection ID`. @param histories what each server that had the connection remembers of it */
export function connectionDetail(
  entry: ConnectionEntry,
  live: Live = {},
  histories: { server: string; history: HistoryEntry[] }[] = [],
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
  };
}

/** Sequence number of the first byte of the object that is being sent; 0 where there is none. */
function recordedFirstByte({ layers }: ConnectionRecord): number {
  const http = layers.find(({ layer, version }) => layer === "http" && version === 1);
  return http ? (decodeHttpSection(http).current?.firstByteSeq ?? 0) : 0;
}
