import { createHash } from "node:crypto";
import type { Control } from "./control.js";
import type { Dialer } from "./dialer.js";
import { get, ResponseReader } from "./http.js";

/** The lab's and the benchmarks' file of this size. */
const FILE = "/100k.bin";
const FILE_BYTES = 100 * 1024;
const READ_FIRST = 8 * 1024;
const AT_ONCE = 200;

/** A client in the middle of a response that it does not read on. */
export interface HalfRead {
  /** The connection's id. */
  id: string;
  /** Reads the rest and closes. @returns the body's SHA-256 */
  finish(): Promise<string>;
}

/** Which server a connection gets is the hash's decision: connections are made until this one has so many; those of others are let go. */
export async function halfReadOn(server: string, count: number, dialer: Dialer, control: Control): Promise<HalfRead[]> {
  const found: HalfRead[] = [];
  while (found.length < count) {
    const batch = new Map(
      await Promise.all(
        Array.from({ length: AT_ONCE }, async () => {
          const { socket, localPort } = await dialer.connect();
          const reader = new ResponseReader(socket);
          const hash = createHash("sha256");
          socket.write(get(FILE));
          await reader.head();
          await reader.read(READ_FIRST, hash);
          return [localPort, { socket, reader, hash }] as const;
        }),
      ),
    );
    for (const { id, client, owner, protected: isProtected } of await control.connections()) {
      const port = Number(client.slice(client.lastIndexOf(":") + 1));
      const one = batch.get(port);
      if (!one || owner !== server || !isProtected || found.length >= count) continue;
      batch.delete(port);
      const { socket, reader, hash } = one;
      const finish = async () => {
        await reader.read(FILE_BYTES - READ_FIRST, hash);
        socket.destroy();
        return hash.digest("hex");
      };
      found.push({ id, finish });
    }
    for (const { socket } of batch.values()) socket.destroy();
  }
  return found;
}
