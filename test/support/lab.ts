import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { root } from "../../proto/paths.js";
import { LAB } from "./host.js";

const run = promisify(execFile);

export interface LabOptions {
  servers?: number;
  /** Directory for every server; without it the lab makes files (test/lab/content.ts). */
  content?: string;
  /** Server id to a directory of its own. */
  ownContent?: Record<string, string>;
  /** A configuration file in place of the one that the lab writes. */
  config?: string;
}

/** Address of the lab's API, from every namespace. */
export const API = `unix:${LAB}/lb1/api.sock`;

async function lab(command: "up" | "heal" | "down", variables: Record<string, string> = {}): Promise<void> {
  // What the caller's shell says about a lab of its own must not leak into the test's.
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(CONTENT.*|CONFIG|SERVERS|LBS|NATS|MODE)$/.test(name),
  );
  try {
    await run(join(root, "test/lab", command), {
      env: { ...Object.fromEntries(inherited), ...variables },
      timeout: 120_000,
    });
  } catch (error) {
    throw new Error(`lab ${command} failed: ${(error as { stderr?: string }).stderr || error}`);
  }
}

/** Starts a new lab; one that stands is replaced. */
export function labUp(options: LabOptions = {}): Promise<void> {
  const variables: Record<string, string> = { SERVERS: String(options.servers ?? 3) };
  if (options.content) variables.CONTENT = options.content;
  if (options.config) variables.CONFIG = options.config;
  for (const [server, directory] of Object.entries(options.ownContent ?? {})) {
    variables[`CONTENT_${server}`] = directory;
  }
  return lab("up", variables);
}

/** Restarts what a test killed, stopped or cut; every server is UP afterwards. */
export function labHeal(): Promise<void> {
  return lab("heal");
}

/** The configuration file that the standing lab goes by. */
export function labConfigFile(): string {
  return /^CONFIG=(.*)$/m.exec(readFileSync(`${LAB}/env`, "utf8"))![1]!;
}

/** What a daemon of a host says from now on, whenever it is asked. */
export function logOf(host: string, daemon: "agent" | "controller"): () => string {
  const file = `${LAB}/${host}/${daemon}.log`;
  const known = readFileSync(file).length;
  return () => readFileSync(file).toString("utf8", known);
}

/** Starts a host's daemon as the lab does, and nothing else. */
export async function startHost(host: string): Promise<void> {
  const script = '. "$1/lib.sh"; find_cgroup; config=$(. $lab/env && echo "$CONFIG"); start_host "$2"';
  await run("bash", ["-c", script, "start", join(root, "test/lab"), host]);
}

export function labDown(): Promise<void> {
  return lab("down");
}
