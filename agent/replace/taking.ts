import { BatonError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import { type Channel, listenForChannels } from "../channel.js";
import type { Native } from "../native/api.js";
import { type Arrived, type Passage, type PassedMessage, socketsOf } from "./passage.js";

const log = logger("replace");

export interface Takers {
  listener(address: string, port: number, fd: number): void;
  /** Resolves when the connections, those of a bundle or one alone, go on here. */
  connections(messages: PassedMessage[], fds: number[]): Promise<void>;
}

/** The end of the worker that comes next: state and descriptors come on two ways and are put together by their number. */
export class Taking {
  private readonly messages = new Map<number, { passage: Passage; channel: Channel<Passage, Arrived> }>();
  private readonly descriptors = new Map<number, number[]>();
  private readonly listening: Array<{ close(): void }> = [];

  private constructor(private readonly takers: Takers) {}

  static async listen(native: Native, state: string, takers: Takers): Promise<Taking> {
    const taking = new Taking(takers);
    const paths = socketsOf(state);
    taking.listening.push(
      native.receiveDescriptors(paths.descriptors, (fds, message) => {
        const number = Number(message.toString());
        taking.descriptors.set(number, fds);
        taking.put(number);
      }),
      await listenForChannels<Passage, Arrived>(paths.passages, (channel) =>
        channel.onMessage((passage) => {
          taking.messages.set(passage.number, { passage, channel });
          taking.put(passage.number);
        }),
      ),
    );
    return taking;
  }

  close(): void {
    for (const one of this.listening) one.close();
  }

  private put(number: number): void {
    const message = this.messages.get(number);
    const fds = this.descriptors.get(number);
    if (!message || !fds) return;
    this.messages.delete(number);
    this.descriptors.delete(number);
    // Where this rejects it is a fault of this program, which ends as it always does then: as a worker that dies.
    void this.take(message.passage, fds).then(() => message.channel.send({ number }));
  }

  private async take({ listener, connections }: Passage, fds: number[]): Promise<void> {
    const [fd] = fds;
    if (fd === undefined) throw new BatonError("PROTOCOL_VIOLATED", "something was passed without its descriptor");
    if (listener) {
      this.takers.listener(listener.address, listener.port, fd);
      log.info(listener, "a listening socket was taken over");
    } else if (connections) await this.takers.connections(connections, fds);
  }
}
