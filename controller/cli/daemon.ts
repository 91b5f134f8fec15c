import { existsSync, readFileSync } from "node:fs";
import {
  type Config,
  controllerOf,
  loadConfig,
  parseConfig,
  requireContent,
  serverOf,
} from "../../proto/config/index.js";
import { BatonError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import { describeError } from "./failure.js";

/** What every daemon's entry module exports. `run` may return when the daemon is up: open handles keep it alive. */
interface Daemon {
  run(options: DaemonOptions): Promise<void>;
}
interface Unloader {
  unload(options: DaemonOptions): Promise<void>;
}
interface UserLines<User> {
  makeUserLine(user: User, password: string): string | Promise<string>;
}
interface DaemonOptions {
  config: Config;
  id: string;
  /** For an agent only. */
  replace?: boolean;
}

export async function runController(file: string, id: string): Promise<void> {
  const config = loadConfig(file);
  controllerOf(config, id);
  await start("controller", "../daemon.js", { config, id });
}

export async function runAgent(file: string, id: string, replace: boolean): Promise<void> {
  const config = loadConfig(file);
  serverOf(config, id);
  requireContent(config, id);
  await start("agent", "../../agent/supervisor/main.js", { config, id, replace });
}

/** What its agent was started with comes on its standard input: the file may say something else by now. */
export async function runWorker(file: string, id: string): Promise<void> {
  const config = process.connected ? parseConfig(readFileSync(0, "utf8"), file) : loadConfig(file);
  serverOf(config, id);
  requireContent(config, id);
  await start("worker", "../../agent/worker.js", { config, id });
}

export async function unloadAgent(file: string, id: string): Promise<void> {
  const config = loadConfig(file);
  serverOf(config, id);
  requireKernel("agent");
  const { unload } = await load<Unloader>("../../agent/supervisor/main.js");
  await unload({ config, id });
}

export function printFtpUser(name: string, directory: string, writable: boolean): Promise<void> {
  return printUserLine("../../agent/protocols/ftp/users.js", { name, directory, writable });
}

export function printRtspUser(name: string, realm: string): Promise<void> {
  return printUserLine("../../agent/protocols/rtsp/users.js", { name, realm });
}

/** Prints a line for a file of users; the password comes on standard input, up to the end of its first line. */
async function printUserLine<User>(module: string, user: User): Promise<void> {
  const [password = ""] = readFileSync(0, "utf8").split(/\r?\n/);
  if (password === "")
    throw new BatonError("CONFIG_INVALID", "The password is read from standard input, and nothing came.");
  const { makeUserLine } = await load<UserLines<User>>(module);
  process.stdout.write(`${await makeUserLine(user, password)}\n`);
}

async function start(name: string, module: string, options: DaemonOptions): Promise<void> {
  requireKernel(name);
  const fail = (error: unknown) => {
    // The operator gets a sentence; the log gets what a developer needs.
    if (!(error instanceof BatonError)) logger(name).fatal({ err: error }, "unexpected error");
    process.stderr.write(`${describeError(error)}\n`);
    process.exit(1);
  };
  process.on("uncaughtException", fail);
  process.on("unhandledRejection", fail);
  const { run } = await load<Daemon>(module);
  await run(options);
}

/** The one place where both sides of Baton are named: by path, so that neither is compiled into the other. */
async function load<T>(module: string): Promise<T> {
  return (await import(new URL(module, import.meta.url).href)) as T;
}

function requireKernel(name: string): void {
  if (process.getuid?.() !== 0) {
    throw new BatonError("NOT_PERMITTED", `The ${name} loads BPF programs and must be started by root.`);
  }
  if (!existsSync("/sys/kernel/btf/vmlinux")) {
    throw new BatonError(
      "KERNEL_UNSUPPORTED",
      "The kernel has no BTF (/sys/kernel/btf/vmlinux); Baton's BPF programs need CONFIG_DEBUG_INFO_BTF.",
    );
  }
}
