import { connect as connectTcp } from "node:net";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { parseEndpoint } from "../../proto/flow.js";

/** Whether anything takes TCP connections on ADDRESS:PORT. */
export function isListening(listen: string, timeoutMs = 500): Promise<boolean> {
  const { address, port } = parseEndpoint(listen);
  return new Promise((resolve) => {
    const socket = connectTcp({ host: address, port });
    const answer = (value: boolean) => {
      socket.destroy();
      resolve(value);
    };
    socket.setTimeout(timeoutMs, () => answer(false));
    socket.once("connect", () => answer(true));
    socket.once("error", () => answer(false));
  });
}

/** Whether a NATS server answers there and its JetStream does as well. */
export async function isReady(listen: string): Promise<boolean> {
  if (!(await isListening(listen))) return false;
  try {
    const connection = await connect({ servers: listen, reconnect: false, timeout: 1000, name: "baton readiness" });
    try {
      await jetstreamManager(connection, { timeout: 1000 }); // asks for the account's JetStream
      return true;
    } finally {
      await connection.close();
    }
  } catch {
    return false;
  }
}
