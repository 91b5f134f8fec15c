import { BatonError } from "../../proto/errors.js";
import { parseConnectionId } from "../../proto/flow.js";
import { accept, type Listening } from "./acceptor.js";
import type { ConnectionTable } from "./table.js";

/** A client that asks to be connected to is there: what does not answer by then is behind something that lets nobody in. */
const DIAL_MS = 10_000;

/** Opens connections to clients that have asked for it, from VIPs. */
export class Dialler {
  constructor(
    private readonly table: ConnectionTable,
    private readonly doors: readonly Listening[],
  ) {}

  /**
   * To the client of a bundle's control connection, between these ports. Resolves when it is a connection as any, which the guard knows.
   * Throws TCP_FAILED, or DEADLINE_PASSED.
   */
  dial(bundle: string, vipPort: number, clientPort: number): Promise<void> {
    const { native, limits } = this.table.host;
    const { flow } = parseConnectionId(bundle);
    const door = this.doors.find(({ port }) => port === flow.vip.port);
    if (!door) throw new BatonError("INTERNAL", `no service has port ${flow.vip.port}`);
    const endpoints = { local: { ...flow.vip, port: vipPort }, remote: { ...flow.client, port: clientPort } };
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        dialling.close();
        reject(new BatonError("DEADLINE_PASSED", "the client's port does not answer"));
      }, DIAL_MS);
      const onDone = (fd: number | undefined, code = "") => {
        clearTimeout(timer);
        if (fd === undefined) return reject(new BatonError("TCP_FAILED", `the client's port: ${code}`));
        accept(this.table, { ...door, role: "related" }, fd, endpoints, bundle);
        resolve();
      };
      const dialling = native.dial({ endpoints, receiveBuffer: limits.inputBytes, onDone });
    });
  }
}
