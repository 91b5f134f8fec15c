/** A server that sends one file to one client, and can take a connection over from another. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Connection, Endpoints, Segment, SocketImage } from "../../../agent/native/index.js";
import { native } from "../../../agent/native/index.js";
import { answerCalls } from "./host.js";

/** What a server promises: a head, a file's bytes, the FIN. */
export interface Content {
  head: string;
  path: string;
  size: number;
}

let listener: { port: number; close(): void } | undefined;
let connection: Connection | undefined;
let fd = -1;
let file = -1;
let born: SocketImage | undefined;
let input = Buffer.alloc(0);
let inputEnded = false;
const errors: string[] = [];
let drained = -1;

const handlers = {
  onInput(chunk: Buffer) {
    input = Buffer.concat([input, chunk]);
  },
  onInputEnd() {
    inputEnded = true;
  },
  onDrained(offset: number) {
    drained = offset;
  },
  onError(code: string) {
    errors.push(code);
  },
};

/** What is left of the content from a stream offset on. */
function send({ head, path, size }: Content, from: number, limit: number): void {
  file = native.openFile(path);
  const literal = Buffer.from(head);
  if (from < literal.length) connection!.append([{ literal: literal.subarray(from) }]);
  const done = Math.max(0, from - literal.length);
  if (done < size) connection!.append([{ fd: file, offset: done, length: size - done }]);
  if (from <= literal.length + size) connection!.append([{ fin: true }]);
  connection!.setLimit(limit);
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 2000) throw new Error(`${what}: not after 10 s`);
    await sleep(5);
  }
}

export const functions = {
  /** @returns the port. Accepts one client; `born` is what repair says about its connection before a byte went either way */
  listen(address: string, receiveBuffer?: number): number {
    listener = native.listen({
      address,
      port: 80,
      backlog: 16,
      ...(receiveBuffer && { receiveBuffer }),
      onAccept(accepted) {
        fd = accepted[0]!.fd;
        born = native.capture(fd);
        native.resume(fd);
      },
    });
    return listener.port;
  },
  async accepted(): Promise<SocketImage> {
    await until("a client", () => born !== undefined);
    return born!;
  },
  stopListening() {
    listener!.close();
  },
  connect(sendOffset: number, paused = false) {
    connection = native.connection(fd, { sendOffset, handlers });
    if (paused) connection.pauseInput();
  },
  send(content: Content, from: number, limit: number) {
    send(content, from, limit);
  },
  async received(text: string): Promise<number> {
    await until(`"${text}" from the client`, () => input.includes(text));
    return input.length;
  },
  input: () => input,
  async inputEnded(): Promise<void> {
    await until("the client's FIN", () => inputEnded);
  },
  setLimit(limit: number) {
    connection!.setLimit(limit);
  },
  async sent(offset: number): Promise<void> {
    await until(`offset ${offset} to be sent`, () => connection!.sentOffset() >= offset);
  },
  async acknowledged(): Promise<void> {
    await until("everything to be acknowledged", () => connection!.info().sendQueueBytes === 0);
  },
  state() {
    return { sent: connection?.sentOffset() ?? -1, drained, errors, info: native.info(connection?.fd ?? fd) };
  },
  closeSilently() {
    connection!.closeSilently();
  },
  detach(): number {
    fd = connection!.detach().fd;
    connection = undefined;
    return fd;
  },
  write(text: string, offset: number) {
    connection ??= native.connection(fd, { sendOffset: offset, handlers });
    connection.append([{ literal: Buffer.from(text) }]);
    connection.setLimit(Number.MAX_SAFE_INTEGER);
  },
  fin() {
    connection!.append([{ fin: true }]);
  },
  /** Asks for the FIN of a connection that was detached. */
  shutdown() {
    connection = native.connection(fd, { sendOffset: 0, handlers });
    connection.append([{ fin: true }]);
    connection.setLimit(1);
    return new Promise((resolve) => setTimeout(resolve, 20)).then(() => {
      fd = connection!.detach().fd;
    });
  },
  capture: () => native.capture(fd),
  resume() {
    native.resume(fd);
  },
  closeInRepair() {
    native.closeInRepair(fd);
  },
  prepare(endpoints: Endpoints) {
    fd = native.prepare(endpoints);
  },
  rebuild(image: SocketImage) {
    native.rebuild(fd, revived(image));
  },
  activate(image: SocketImage) {
    native.activate(fd, revived(image));
  },
  rebuildBatch: (image: SocketImage) => native.rebuildBatch([{ fd, image: revived(image) }]),
  sendSegments: (segments: Segment[]) =>
    native.sendSegments(segments.map((s) => (s.payload ? { ...s, payload: Buffer.from(s.payload) } : s))),
  destroyOrphans: (address: string) => native.destroyOrphans([{ address, port: 80 }]),
  destroyOrphan: (endpoints: Endpoints) => native.destroyOrphan(endpoints),
  endpoints: () => native.endpoints(fd),
};

/** Buffers arrive from the other process as plain byte arrays. */
function revived(image: SocketImage): SocketImage {
  const { receiveQueue, sendQueue, unsentQueue } = image;
  return {
    ...image,
    receiveQueue: Buffer.from(receiveQueue),
    sendQueue: Buffer.from(sendQueue),
    unsentQueue: Buffer.from(unsentQueue),
  };
}

answerCalls(functions);
