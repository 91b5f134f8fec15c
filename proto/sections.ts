import { BatonError } from "./errors.js";
import { baton } from "./gen/record.js";
import { buffer, decoding, encoding, type LayerSection, number, plainTcpState, type TcpState } from "./record.js";

const { v1 } = baton;

/** The layers' sections of the data block. Version 1 each; a later one that this program does not know is refused. */
const VERSION = 1;
/** Of http, where a response is in the making, a request begun or its body not kept: who does not know that would go on wrongly. */
const UPSTREAM_VERSION = 2;

export interface IpSection {
  ttl: number;
  dscp: number;
}

/** One response of ours: what was asked, what is promised. Offsets in bytes; see HttpSection in record.proto. */
export interface HttpResponse {
  requestHead: Buffer;
  responseHead: Buffer;
  /** "" = the body, if there is one, is literal. */
  objectId: string;
  validator: string;
  firstByteSeq: number;
  firstByteOffset: number;
  objectOffset: number;
  length: number;
  keepAlive: boolean;
  /** Its body is not promised to its end yet. */
  making?: Making;
}

/** How far a body is promised that can only be made again. */
export interface Making {
  /** Of the body, without what frames it. */
  bytes: number;
  /** Of those. */
  sha256: Buffer;
  framing: Framing;
  /** With framing "length": what the head states. */
  length: number;
}

/** How the client knows where a body ends (RFC 9112 section 6.3). */
export const framings = ["chunked", "length", "close"] as const;
export type Framing = (typeof framings)[number];

/** `current` is the response that the client is receiving (or has received last), then those promised behind it. */
export interface HttpSection {
  requests: number;
  /** The next request may have been executed, and may not be twice. */
  begun: boolean;
  /** Head of the request whose body is being handed on and is nowhere else; empty where there is none. */
  unkept: Buffer;
  current?: HttpResponse;
  queued: HttpResponse[];
}

/** What an application says of itself; `version` is that of its state. */
export interface AppSection {
  application: string;
  version: number;
  /** Opaque to Baton. */
  state: Buffer;
}

/** The control connection of an FTP session; see FtpSection in record.proto. */
export interface FtpSection {
  user: string;
  named: string;
  failures: number;
  directory: string;
  restart: number;
  renameFrom: string;
  extendedOnly: boolean;
  facts: string[];
  passivePort: number;
  activePort: number;
  ports: number[];
  transfer?: FtpTransfer;
  begun: boolean;
}

/** What a data connection is for. */
export interface FtpTransfer {
  verb: string;
  user: string;
  path: string;
  start: number;
  listedAtMs: number;
  facts: string[];
  connectionId: string;
}

/** A data connection; see FtpDataSection in record.proto. */
export interface FtpDataSection {
  transfer?: FtpTransfer;
  /** Of a listing; empty where it is none. */
  sha256: Buffer;
  length: number;
  /** Bytes of the listing that are promised. */
  listed: number;
  complete: boolean;
}

/** An RTSP connection; see RtspSection in record.proto. */
export interface RtspSection {
  requests: number;
  framed: number;
  session?: RtspSession;
  past: RtspRange[];
  /** "" = nobody yet, or nobody is asked. */
  user: string;
  failures: number;
}

export interface RtspSession {
  id: string;
  base: string;
  objectId: string;
  /** "" while it is pending. */
  validator: string;
  cname: string;
  tracks: RtspTrack[];
  range?: RtspRange;
  playing: boolean;
  ended: boolean;
  /** With multicast: the range is what the group is sent, and it is this bundle that sends. */
  leads: boolean;
}

export interface RtspTrack {
  number: number;
  ssrc: number;
  sequence: number;
  timestamp: number;
  transport: string;
  rtp: number;
  rtcp: number;
  serverRtp: number;
  serverRtcp: number;
}

export interface RtspRange {
  objectId: string;
  validator: string;
  cname: string;
  startUs: number;
  /** 0: the movie's. */
  endUs: number;
  wallUs: number;
  reportUs: number;
  payloadMax: number;
  offset: number;
  lanes: RtspLane[];
  pieces: RtspPiece[];
}

export interface RtspLane {
  track: number;
  ssrc: number;
  payloadType: number;
  sequence: number;
  timestamp: number;
  endSample: number;
  rtpChannel: number;
  rtcpChannel: number;
  sample: number;
  fragment: number;
  packets: number;
  octets: number;
  reports: number;
}

export interface RtspPiece {
  offset: number;
  objectOffset: number;
  length: number;
}

export function encodeIpSection(section: IpSection): LayerSection {
  return { layer: "ip", version: VERSION, state: encoding("section", "ip", () => v1.IpSection.encode(section)) };
}

export function decodeIpSection(section: LayerSection): IpSection {
  return decode(section, "ip", (state) => {
    const { ttl, dscp } = v1.IpSection.decode(state);
    return { ttl, dscp };
  });
}

export function encodeTcpSection(state: TcpState): LayerSection {
  return {
    layer: "tcp",
    version: VERSION,
    state: encoding("section", "tcp", () => v1.TcpSection.encode({ state })),
  };
}

export function decodeTcpSection(section: LayerSection): TcpState {
  return decode(section, "tcp", (bytes) => {
    const { state } = v1.TcpSection.decode(bytes);
    if (!state) throw new TypeError("no TCP state");
    return plainTcpState(state);
  });
}

export function encodeHttpSection(section: HttpSection): LayerSection {
  const { requests, begun, unkept, current, queued } = section;
  const wire = { ...current, requests, begun, unkept, queued };
  const state = encoding("section", "http", () => v1.HttpSection.encode(wire));
  const upstream = begun || unkept.length > 0 || [current, ...queued].some((response) => response?.making);
  return { layer: "http", version: upstream ? UPSTREAM_VERSION : VERSION, state };
}

export function decodeHttpSection(section: LayerSection): HttpSection {
  const version = section.version === UPSTREAM_VERSION ? VERSION : section.version;
  return decode({ ...section, version }, "http", (state) => {
    const wire = v1.HttpSection.decode(state);
    const result: HttpSection = {
      requests: number(wire.requests),
      begun: wire.begun,
      unkept: buffer(wire.unkept),
      queued: wire.queued.map(plainResponse),
    };
    if (wire.requestHead.length > 0 || wire.responseHead.length > 0) result.current = plainResponse(wire);
    return result;
  });
}

export function encodeAppSection(section: AppSection): LayerSection {
  return { layer: "app", version: VERSION, state: encoding("section", "app", () => v1.AppSection.encode(section)) };
}

export function decodeAppSection(section: LayerSection): AppSection {
  return decode(section, "app", (bytes) => {
    const { application, version, state } = v1.AppSection.decode(bytes);
    return { application, version, state: buffer(state) };
  });
}

export function encodeFtpSection(section: FtpSection): LayerSection {
  return { layer: "ftp", version: VERSION, state: encoding("section", "ftp", () => v1.FtpSection.encode(section)) };
}

export function decodeFtpSection(section: LayerSection): FtpSection {
  return decode(section, "ftp", (bytes) => {
    const { transfer, restart, facts, ports, ...plain } = v1.FtpSection.decode(bytes);
    const { user, named, failures, directory, renameFrom, extendedOnly, passivePort, activePort, begun } = plain;
    return {
      ...{ user, named, failures, directory, renameFrom, extendedOnly, passivePort, activePort, begun },
      restart: number(restart),
      facts: [...facts],
      ports: [...ports],
      ...(transfer ? { transfer: plainTransfer(transfer) } : {}),
    };
  });
}

export function encodeFtpDataSection(section: FtpDataSection): LayerSection {
  const state = encoding("section", "ftp-data", () => v1.FtpDataSection.encode(section));
  return { layer: "ftp-data", version: VERSION, state };
}

export function decodeFtpDataSection(section: LayerSection): FtpDataSection {
  return decode(section, "ftp-data", (bytes) => {
    const { transfer, sha256, length, listed, complete } = v1.FtpDataSection.decode(bytes);
    return {
      sha256: buffer(sha256),
      length: number(length),
      listed: number(listed),
      complete,
      ...(transfer ? { transfer: plainTransfer(transfer) } : {}),
    };
  });
}

function plainTransfer(nested: baton.v1.IFtpTransfer): FtpTransfer {
  const { verb, user, path, start, listedAtMs, facts, connectionId } = nested as baton.v1.FtpTransfer;
  return { verb, user, path, start: number(start), listedAtMs: number(listedAtMs), facts: [...facts], connectionId };
}

export function encodeRtspSection(section: RtspSection): LayerSection {
  return { layer: "rtsp", version: VERSION, state: encoding("section", "rtsp", () => v1.RtspSection.encode(section)) };
}

export function decodeRtspSection(section: LayerSection): RtspSection {
  return decode(section, "rtsp", (bytes) => {
    const { requests, framed, session, past, user, failures } = v1.RtspSection.decode(bytes);
    return {
      ...{ requests: number(requests), framed: number(framed), user, failures },
      past: past.map(plainRange),
      ...(session ? { session: plainSession(session) } : {}),
    };
  });
}

function plainSession(nested: baton.v1.IRtspSession): RtspSession {
  const { range, tracks, ...wire } = nested as baton.v1.RtspSession;
  const { id, base, objectId, validator, cname, playing, ended, leads } = wire;
  return {
    ...{ id, base, objectId, validator, cname, playing, ended, leads },
    tracks: tracks.map((track) => {
      const { number, ssrc, sequence, timestamp, transport, rtp, rtcp, serverRtp, serverRtcp } =
        track as baton.v1.RtspTrack;
      return { number, ssrc, sequence, timestamp, transport, rtp, rtcp, serverRtp, serverRtcp };
    }),
    ...(range ? { range: plainRange(range) } : {}),
  };
}

function plainRange(nested: baton.v1.IRtspRange): RtspRange {
  const wire = nested as baton.v1.RtspRange;
  const { objectId, validator, cname, reportUs, payloadMax } = wire;
  return {
    ...{ objectId, validator, cname, reportUs, payloadMax },
    startUs: number(wire.startUs),
    endUs: number(wire.endUs),
    wallUs: number(wire.wallUs),
    offset: number(wire.offset),
    lanes: wire.lanes.map((lane) => {
      const { packets, octets, ...rest } = lane as baton.v1.RtspLane;
      const { track, ssrc, payloadType, sequence, timestamp, endSample, rtpChannel, rtcpChannel } = rest;
      const { sample, fragment, reports } = rest;
      return {
        ...{ track, ssrc, payloadType, sequence, timestamp, endSample, rtpChannel, rtcpChannel },
        ...{ sample, fragment, packets: number(packets), octets: number(octets), reports },
      };
    }),
    pieces: wire.pieces.map((piece) => {
      const { offset, objectOffset, length } = piece as baton.v1.RtspPiece;
      return { offset: number(offset), objectOffset: number(objectOffset), length: number(length) };
    }),
  };
}

/**
 * A section in plain values for people and JSON: heads as text, an application's state as the JSON that it is written in, what this
 * version does not know as hexadecimal bytes.
 */
export function describeSection(section: LayerSection): Record<string, unknown> {
  try {
    switch (section.layer) {
      case "ip":
        return { ...decodeIpSection(section) };
      case "tcp": {
        const { unknown, ...state } = decodeTcpSection(section);
        return state;
      }
      case "http": {
        const { requests, begun, current, queued } = decodeHttpSection(section);
        return {
          requests,
          ...(begun ? { begun } : {}),
          ...(current && describeResponse(current)),
          queued: queued.map(describeResponse),
        };
      }
      case "app": {
        const { application, version, state } = decodeAppSection(section);
        return { application, version, state: jsonObject(state) ?? state.toString("hex") };
      }
      case "ftp":
        return { ...decodeFtpSection(section) };
      case "ftp-data": {
        const { sha256, ...rest } = decodeFtpDataSection(section);
        return { ...rest, sha256: sha256.toString("hex") };
      }
      case "rtsp":
        return { ...decodeRtspSection(section) };
    }
  } catch (error) {
    if (!(error instanceof BatonError)) throw error;
  }
  return { bytes: section.state.toString("hex") };
}

/** What the bytes say if they are a JSON object (a number, say, could as well be hexadecimal). */
function jsonObject(bytes: Buffer): object | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString());
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

function describeResponse(response: HttpResponse): Record<string, unknown> {
  return {
    ...response,
    requestHead: response.requestHead.toString("latin1"),
    responseHead: response.responseHead.toString("latin1"),
    ...(response.making ? { making: { ...response.making, sha256: response.making.sha256.toString("hex") } } : {}),
  };
}

function plainResponse(nested: baton.v1.IHttpSection): HttpResponse {
  const wire = nested as baton.v1.HttpSection;
  return {
    requestHead: buffer(wire.requestHead),
    responseHead: buffer(wire.responseHead),
    objectId: wire.objectId,
    validator: wire.validator,
    firstByteSeq: wire.firstByteSeq,
    firstByteOffset: number(wire.firstByteOffset),
    objectOffset: number(wire.objectOffset),
    length: number(wire.length),
    keepAlive: wire.keepAlive,
    ...(wire.making ? { making: plainMaking(wire.making as baton.v1.HttpMaking) } : {}),
  };
}

function plainMaking({ bytes, sha256, framing, length }: baton.v1.HttpMaking): Making {
  const known = framings.find((one) => one === framing);
  if (!known) throw new TypeError(`framing "${framing}" is not known`);
  return { bytes: number(bytes), sha256: buffer(sha256), framing: known, length: number(length) };
}

function decode<T>(section: LayerSection, layer: string, read: (state: Buffer) => T): T {
  if (section.layer !== layer) throw new BatonError("RECORD_INVALID", `section "${section.layer}" is not of ${layer}`);
  if (section.version !== VERSION) {
    throw new BatonError("RECORD_VERSION", `section ${layer} has version ${section.version}, known is ${VERSION}`);
  }
  return decoding(`section ${layer}`, () => read(section.state));
}
