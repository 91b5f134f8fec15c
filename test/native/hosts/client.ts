/** A client with an ordinary socket, read only when it is told to. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { answerCalls } from "./host.js";

let socket: Socket;
let received = Buffer.alloc(0);
let ended = false;
const errors: string[] = [];

export const functions = {
  async connect(address: string): Promise<number> {
    socket = connect({ host: address, port: 80, allowHalfOpen: true });
    socket.on("error", (error: NodeJS.ErrnoException) => errors.push(error.code ?? error.message));
    await once(socket, "connect");
    socket.pause();
    return socket.localPort!;
  },
  write(text: string) {
    socket.write(text);
  },
  end() {
    socket.end();
  },
  read() {
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk]);
    });
    socket.on("end", () => {
      ended = true;
    });
    socket.resume();
  },
  async received(bytes: number): Promise<Buffer> {
    for (let tries = 0; received.length < bytes; tries++) {
      if (tries > 2000) throw new Error(`${received.length} of ${bytes} bytes after 10 s`);
      await sleep(5);
    }
    return received;
  },
  async ended(): Promise<string[]> {
    for (let tries = 0; !ended; tries++) {
      if (tries > 2000) throw new Error(`no end after 10 s: ${errors}`);
      await sleep(5);
    }
    return errors;
  },
  errors: () => errors,
};

answerCalls(functions);
