import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { closeWithTest } from "./cleanup.js";
import { CLIENT, CLIENT6, VIP, VIP6 } from "./host.js";
import { freshPort } from "./ports.js";

interface Request {
  number: number;
  host: string;
  from: string;
  port: number;
  localPort: number;
}
interface Answer {
  number: number;
  error?: string;
}

/**
 * Connects from the client's namespace and hands the sockets to this process: a socket stays in the namespace in which
 * it was made. What comes back is paused.
 */
export class Dialer {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (socket: Socket) => void; reject: (error: Error) => void }>();
  readonly #sockets = new Set<Socket>();
  #number = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    closeWithTest(this);
    child.on("message", (message, handle) => {
      const answer = message as Answer;
      const waiting = this.#waiting.get(answer.number);
      this.#waiting.delete(answer.number);
      const socket = handle as Socket | undefined;
      if (socket) {
        this.#sockets.add(socket);
        socket.once("close", () => this.#sockets.delete(socket));
        waiting?.resolve(socket);
      } else waiting?.reject(new Error(answer.error));
    });
  }

  static async start(): Promise<Dialer> {
    const child = fork(fileURLToPath(import.meta.url), [], {
      execPath: "/usr/bin/nsenter",
      execArgv: ["--net=/run/netns/baton-client", "--", process.execPath],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    await once(child, "message");
    return new Dialer(child);
  }

  /** A connection to a port of the VIP. @returns the socket and the client's port */
  async connect(options: { ipv6?: boolean; port?: number } = {}): Promise<{ socket: Socket; localPort: number }> {
    const request: Request = {
      number: this.#number++,
      host: options.ipv6 ? VIP6 : VIP,
      from: options.ipv6 ? CLIENT6 : CLIENT,
      port: options.port ?? 80,
      localPort: freshPort(),
    };
    const socket = await new Promise<Socket>((resolve, reject) => {
      this.#waiting.set(request.number, { resolve, reject });
      this.#child.send(request);
    });
    return { socket, localPort: request.localPort };
  }

  /** Resets what is still open. */
  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    if (this.#child.connected) this.#child.disconnect();
  }
}

/** What Node does not name: the libuv handle of a socket. */
interface Handle {
  readStart(): void;
  readStop(): void;
}

/** Nothing is read of the socket, not even ahead into Node's own buffers. @returns what ends that */
export function stopReading(socket: Socket): () => void {
  const { _handle } = socket as Socket & { _handle: Handle };
  _handle.readStop();
  return () => _handle.readStart();
}

function dial(request: Request): void {
  const socket = connect({
    host: request.host,
    port: request.port,
    localAddress: request.from,
    localPort: request.localPort,
    noDelay: true,
  });
  socket.pause();
  socket.once("error", (error) => process.send!({ number: request.number, error: error.message } satisfies Answer));
  socket.once("connect", () => process.send!({ number: request.number } satisfies Answer, socket));
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.send) {
  process.on("message", (request: Request) => dial(request));
  process.send({ ready: true });
}
