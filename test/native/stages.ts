/** Life stages of what the addon opens: run as `node stages.js STAGE FOLDER`; whatever is open then, the process must exit with 0. */
import { spawn } from "node:child_process";
import { createConnection, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import type { Connection, ConnectionHandlers } from "../../agent/native/index.js";
import { native } from "../../agent/native/index.js";

const file = process.execPath; // large, and always there
const socketPath = join(process.argv[3] ?? "", "socket");
const ignore: ConnectionHandlers = { onInput() {}, onInputEnd() {}, onDrained() {}, onError() {} };

async function connected(
  handlers: Partial<ConnectionHandlers> = {},
): Promise<{ connection: Connection; client: Socket }> {
  let client: Socket;
  const fd = await new Promise<number>((resolve) => {
    const listener = native.listen({
      address: "127.0.0.1",
      port: 0,
      backlog: 8,
      onAccept: ([one]) => {
        listener.close();
        resolve(one!.fd);
      },
    });
    client = createConnection({ host: "127.0.0.1", port: listener.port });
    client.on("error", () => {});
  });
  return {
    connection: native.connection(fd, { sendOffset: 0, handlers: { ...ignore, ...handlers } }),
    client: client!,
  };
}

async function pumping(): Promise<{ connection: Connection; client: Socket }> {
  const both = await connected();
  both.client.resume();
  both.connection.append([{ fd: native.openFile(file), offset: 0, length: 50_000_000 }]);
  both.connection.setLimit(50_000_000);
  await sleep(1);
  return both;
}

export const stages: Record<string, () => unknown> = {
  imported() {},
  async listenerClosed() {
    const listener = native.listen({ address: "127.0.0.1", port: 0, backlog: 1, onAccept() {} });
    await sleep(5);
    listener.close();
    listener.close();
  },
  exitListening() {
    native.listen({ address: "127.0.0.1", port: 0, backlog: 1, onAccept() {} });
    process.exit(0);
  },
  async exitConnected() {
    await connected();
    process.exit(0);
  },
  async exitPumping() {
    await pumping();
    process.exit(0);
  },
  async closedPumping() {
    const { connection, client } = await pumping();
    connection.close();
    client.destroy();
  },
  async closedSilentlyPumping() {
    const { connection, client } = await pumping();
    connection.closeSilently();
    client.destroy();
  },
  async detachedPumping() {
    const { connection, client } = await pumping();
    native.closeInRepair(connection.detach().fd);
    client.destroy();
  },
  async closedInHandler() {
    const { connection, client } = await connected({ onInput: () => connection.close() });
    client.end("x");
  },
  async exitInHandler() {
    const { client } = await connected({ onInput: () => process.exit(0) });
    client.write("x");
    await sleep(5000);
    throw new Error("still here");
  },
  async throwInHandler() {
    process.once("uncaughtException", (error) => process.exit(error.message === "thrown by a handler" ? 0 : 1));
    const { client } = await connected({
      onInput() {
        throw new Error("thrown by a handler");
      },
    });
    client.write("x");
    await sleep(5000);
    throw new Error("still here");
  },
  async collected() {
    // Connections and listeners hold themselves while they are open, whatever the collector thinks.
    let got = "";
    let accepted = 0;
    const { port } = native.listen({ address: "127.0.0.1", port: 0, backlog: 8, onAccept: () => accepted++ });
    const clients = await Promise.all(
      Array.from({ length: 20 }, async () => (await connected({ onInput: (chunk) => (got += chunk) })).client),
    );
    for (let i = 0; i < 5; i++) {
      globalThis.gc!();
      await sleep(1);
    }
    for (const client of clients) client.write("x");
    await sleep(100);
    createConnection({ host: "127.0.0.1", port });
    await sleep(100);
    if (accepted !== 1) throw new Error("the listener was collected");
    if (got.length !== clients.length) throw new Error(`${got.length} of ${clients.length} bytes`);
    process.exit(0);
  },
  hashing() {
    void native.hashFile(file);
  },
  async exitHashing() {
    void native.hashFile(file);
    await sleep(20);
    process.exit(0);
  },
  async watching() {
    const child = spawn("sleep", ["0.1"]);
    await new Promise<void>((resolve) => native.watchProcess(child.pid!, resolve));
  },
  watchClosed() {
    const watch = native.watchProcess(process.ppid, () => process.exit(1));
    watch.close();
    watch.close();
  },
  exitReceivingDescriptors() {
    native.receiveDescriptors(socketPath, () => {});
    process.exit(0);
  },
  async receivingClosed() {
    const receiver = native.receiveDescriptors(socketPath, () => {});
    await native.sendDescriptors(socketPath, [0, 1], Buffer.from("x"));
    receiver.close();
    receiver.close();
  },
  async workerThread() {
    const worker = new Worker(fileURLToPath(import.meta.url), { argv: ["pumpingInWorker"] });
    await new Promise((resolve, reject) => worker.on("error", reject).on("exit", resolve));
  },
  async pumpingInWorker() {
    await pumping();
    native.listen({ address: "127.0.0.1", port: 0, backlog: 1, onAccept() {} });
    void native.hashFile(file);
    process.exit();
  },
  async terminatedWorker() {
    const worker = new Worker(fileURLToPath(import.meta.url), { argv: ["collected"] });
    await sleep(150);
    await worker.terminate();
  },
};

await stages[process.argv[2] ?? "imported"]?.();
