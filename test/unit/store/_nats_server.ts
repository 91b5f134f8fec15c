import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A nats-server of the test's own: random port, store in a temporary directory. */
export class NatsServer {
  readonly port: number;
  readonly #directory: string;
  readonly #settings: string;
  #child: ChildProcess | undefined;

  private constructor(port: number, settings: string) {
    this.port = port;
    this.#settings = settings;
    this.#directory = mkdtempSync(join(tmpdir(), "baton-store-test-"));
  }

  /** @param settings lines for its configuration file */
  static async start(settings = ""): Promise<NatsServer> {
    const server = new NatsServer(await freePort(), settings);
    await server.up();
    return server;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  async up(): Promise<void> {
    const file = join(this.#directory, "nats.conf");
    mkdirSync(this.#directory, { recursive: true });
    writeFileSync(file, this.#settings);
    const options = ["-a", "127.0.0.1", "-p", String(this.port), "-js", "-sd", this.#directory, "-c", file];
    this.#child = spawn("nats-server", options, { stdio: "ignore" });
    while (!(await answers(this.port))) await new Promise((resolve) => setTimeout(resolve, 10));
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await gone;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Resolves when each of its threads stands still: until then one that runs may answer yet. SIGCONT ends it. */
  async freeze(): Promise<void> {
    this.signal("SIGSTOP");
    const tasks = `/proc/${this.pid}/task`;
    const stands = (task: string) => readFileSync(`${tasks}/${task}/stat`, "utf8").split(") ")[1]?.startsWith("T");
    while (!readdirSync(tasks).every(stands)) await new Promise((resolve) => setTimeout(resolve, 1));
  }

  forget(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async stop(): Promise<void> {
    await this.kill();
    this.forget();
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
