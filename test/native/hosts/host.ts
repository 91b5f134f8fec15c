import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { HostName, Network } from "./network.js";

type Functions = Record<string, (...args: never[]) => unknown>;
type Remote<F extends Functions> = {
  [K in keyof F]: (...args: Parameters<F[K]>) => Promise<Awaited<ReturnType<F[K]>>>;
};

interface Call {
  number: number;
  name: string;
  args: unknown[];
}
interface Answer {
  number: number;
  value?: unknown;
  error?: { message: string; code?: string; step?: string };
}

/** A process on a host of the network, whose functions are called from here. */
export class Host<F extends Functions> {
  readonly child: ChildProcess;
  readonly call: Remote<F>;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #number = 0;

  /** @param module a module of this folder that calls `answerCalls` */
  constructor(network: Network, host: HostName, module: string) {
    const [nsenter, net] = network.enter(host);
    this.child = fork(fileURLToPath(new URL(`./${module}.js`, import.meta.url)), [], {
      execPath: `/usr/bin/${nsenter}`,
      execArgv: [net, process.execPath],
      serialization: "advanced",
    });
    this.child.on("message", (answer: Answer) => {
      this.#waiting.get(answer.number)?.(answer);
      this.#waiting.delete(answer.number);
    });
    this.child.on("exit", (code, signal) => {
      for (const [number, settle] of this.#waiting) {
        settle({ number, error: { message: `${host} ended with ${code ?? signal}` } });
      }
    });
    this.call = new Proxy({} as Remote<F>, {
      get:
        (_, name) =>
        (...args: unknown[]) =>
          this.#ask(String(name), args),
    });
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill("SIGKILL");
    await once(this.child, "exit");
  }

  #ask(name: string, args: unknown[]): Promise<unknown> {
    const number = this.#number++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, ({ value, error }) => {
        if (error) reject(Object.assign(new Error(error.message), error));
        else resolve(value);
      });
      this.child.send({ number, name, args } satisfies Call);
    });
  }
}

/** In the child: answers calls of these functions until the parent goes. */
export function answerCalls(functions: Functions): void {
  process.on("message", async ({ number, name, args }: Call) => {
    try {
      const value = await functions[name]!(...(args as never[]));
      process.send!({ number, value } satisfies Answer);
    } catch (error) {
      const { message, code, step } = error as Error & { code?: string; step?: string };
      process.send!({ number, error: { message, ...(code && { code }), ...(step && { step }) } } satisfies Answer);
    }
  });
  process.on("disconnect", () => process.exit(0));
}
