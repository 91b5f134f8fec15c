import protobuf from "protobufjs/minimal.js";

/** What was found on the wire and this version has no name for: kept, and written again at the end of its message. */
export interface UnknownField {
  /** Field number and wire type, as on the wire. */
  tag: number;
  /** Number, Long or bytes, as the wire type says. */
  value: unknown;
}

/** Wire types of the protobuf encoding: varint 0, 64-bit 1, length-delimited 2, 32-bit 5. */
export type WireType = 0 | 1 | 2 | 5;

/** A message class as pbjs generates it. */
interface GeneratedType {
  encode(message: object, writer?: protobuf.Writer): protobuf.Writer;
  decode(reader: protobuf.Reader | Uint8Array, length?: number, ...rest: unknown[]): object;
}

/**
 * Makes a generated class keep unknown fields in the property `unknown`, at this level of nesting: protobufjs drops them.
 * Nested messages find their classes at run time, so each class is treated once and by itself. Known fields with a wire
 * type other than the schema's are refused, which the generated code does not check either.
 * @param known the schema's fields: number to wire type
 */
export function keepUnknown(type: object, known: Readonly<Record<number, WireType>>): void {
  const generated = type as GeneratedType;
  const { encode, decode } = generated;

  generated.decode = (input, length, ...rest) => {
    const reader = input instanceof protobuf.Reader ? input : protobuf.Reader.create(input);
    const start = reader.pos;
    const unknown = scan(reader, length === undefined ? reader.len : start + length, known);
    reader.pos = start;
    const message = decode(reader, length, ...rest) as { unknown?: UnknownField[] };
    if (unknown) message.unknown = unknown;
    return message;
  };

  generated.encode = (message, target) => {
    const writer = encode(message, target);
    for (const field of (message as { unknown?: UnknownField[] }).unknown ?? []) write(writer, field);
    return writer;
  };
}

/** Walks over one message's fields. @returns the unknown ones in their order. */
function scan(
  reader: protobuf.Reader,
  end: number,
  known: Readonly<Record<number, WireType>>,
): UnknownField[] | undefined {
  if (end > reader.len) throw new RangeError(`a message ends at ${end}, its bytes at ${reader.len}`);
  let unknown: UnknownField[] | undefined;
  while (reader.pos < end) {
    const tag = reader.uint32();
    const expected = known[tag >>> 3];
    if (expected === undefined) {
      unknown ??= [];
      unknown.push({ tag, value: read(reader, tag) });
    } else if (expected === (tag & 7)) {
      reader.skipType(tag & 7);
    } else {
      throw new TypeError(`field ${tag >>> 3} has wire type ${tag & 7}`);
    }
  }
  if (reader.pos !== end) throw new RangeError(`a field ends at ${reader.pos}, its message at ${end}`);
  return unknown;
}

function read(reader: protobuf.Reader, tag: number): unknown {
  switch (tag & 7) {
    case 0:
      return reader.uint64();
    case 1:
      return reader.fixed64();
    case 2:
      return reader.bytes();
    case 5:
      return reader.fixed32();
    default:
      throw new TypeError(`field ${tag >>> 3} has wire type ${tag & 7}`);
  }
}

function write(writer: protobuf.Writer, { tag, value }: UnknownField): void {
  writer.uint32(tag);
  switch (tag & 7) {
    case 0:
      writer.uint64(value as number);
      return;
    case 1:
      writer.fixed64(value as number);
      return;
    case 2:
      writer.bytes(value as Uint8Array);
      return;
    case 5:
      writer.fixed32(value as number);
  }
}
