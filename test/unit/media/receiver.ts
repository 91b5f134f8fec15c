/** What a receiver makes of RTP packets: written from the RFCs, with nothing of what is under test. */
export interface Packet {
  marker: boolean;
  type: number;
  sequence: number;
  timestamp: number;
  ssrc: number;
  payload: Buffer;
}

export function parsePacket(bytes: Buffer): Packet {
  if (bytes[0] !== 0x80) throw new Error("not RTP without extras");
  return {
    marker: (bytes.readUInt8(1) & 0x80) !== 0,
    type: bytes.readUInt8(1) & 0x7f,
    sequence: bytes.readUInt16BE(2),
    timestamp: bytes.readUInt32BE(4),
    ssrc: bytes.readUInt32BE(8),
    payload: bytes.subarray(12),
  };
}

export interface AccessUnit {
  timestamp: number;
  /** NAL units, or one AAC frame. */
  units: Buffer[];
}

/** RFC 6184 with packetization-mode 1. */
export function receiveVideo(packets: Packet[]): AccessUnit[] {
  return gather(packets, (unit, { payload }) => {
    const type = payload.readUInt8(0) & 0x1f;
    if (type < 24) {
      unit.units.push(payload);
      return;
    }
    if (type !== 28) throw new Error(`type ${type}`);
    const fu = payload.readUInt8(1);
    if (fu & 0x80) unit.units.push(Buffer.from([(payload.readUInt8(0) & 0xe0) | (fu & 0x1f)]));
    unit.units.push(Buffer.concat([unit.units.pop() ?? Buffer.alloc(0), payload.subarray(2)]));
  });
}

/** RFC 3640, AAC-hbr. */
export function receiveAudio(packets: Packet[]): AccessUnit[] {
  const sizes: number[] = [];
  const list = gather(packets, (unit, { payload }) => {
    if (payload.readUInt16BE(0) !== 16) throw new Error("more than one AU header");
    if (unit.units.length === 0) sizes.push(payload.readUInt16BE(2) >> 3);
    unit.units = [Buffer.concat([...unit.units, payload.subarray(4)])];
  });
  for (const [at, { units }] of list.entries()) {
    if (units[0]?.length !== sizes[at]) throw new Error("an access unit is not as long as its header says");
  }
  return list;
}

function gather(packets: Packet[], add: (unit: AccessUnit, packet: Packet) => void): AccessUnit[] {
  const list: AccessUnit[] = [];
  let open: AccessUnit | undefined;
  let expected = packets[0]?.sequence;
  for (const packet of packets) {
    if (packet.sequence !== expected) throw new Error(`a packet is missing before ${packet.sequence}`);
    expected = (packet.sequence + 1) & 0xffff;
    open ??= { timestamp: packet.timestamp, units: [] };
    if (open.timestamp !== packet.timestamp) throw new Error("two times in one access unit");
    add(open, packet);
    if (!packet.marker) continue;
    list.push(open);
    open = undefined;
  }
  if (open) throw new Error("the last access unit has no end");
  return list;
}

/** NAL units of an Annex B stream. */
export function annexB(stream: Buffer): Buffer[] {
  const units: Buffer[] = [];
  let start = -1;
  for (let at = stream.indexOf("000001", 0, "hex"); at >= 0; at = stream.indexOf("000001", start, "hex")) {
    if (start >= 0) units.push(withoutZeros(stream.subarray(start, at)));
    start = at + 3;
  }
  units.push(withoutZeros(stream.subarray(start)));
  return units;
}

function withoutZeros(unit: Buffer): Buffer {
  let end = unit.length;
  while (unit[end - 1] === 0) end--;
  return unit.subarray(0, end);
}

/** The AAC frames of an ADTS stream without checksums. */
export function adts(stream: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at < stream.length; ) {
    const length =
      ((stream.readUInt8(at + 3) & 3) << 11) | (stream.readUInt8(at + 4) << 3) | (stream.readUInt8(at + 5) >> 5);
    frames.push(stream.subarray(at + 7, at + length));
    at += length;
  }
  return frames;
}
