#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { root } from "../../proto/paths.js";
import { describeError } from "./failure.js";

// Modules are imported by the command that needs them: gRPC alone takes longer to load than most commands run.
const read = () => import("./read.js");
const change = () => import("./change.js");
const local = () => import("./local.js");
const daemon = () => import("./daemon.js");

const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
const program = new Command("baton")
  .description("Keeps live TCP connections alive when the server behind them dies or is drained")
  .version(version)
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "baton: ")) })
  .addHelpText(
    "after",
    "\nBATON_API says where the controller is: unix:PATH or HOST:PORT. Unset: the lab's appliances in turn.",
  )
  .exitOverride();

/** Milliseconds. */
function duration(text: string): number {
  const match = /^(\d{1,7})(ms|s|m)$/.exec(text);
  if (!match) throw new InvalidArgumentError("It must look like 500ms, 60s or 5m.");
  return Number(match[1]) * { ms: 1, s: 1000, m: 60_000 }[match[2] as "ms" | "s" | "m"];
}

function positiveInteger(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError("It must be a positive whole number.");
  return Number(text);
}

program
  .command("status")
  .description("version, leader, servers, VIPs, and what is wrong if something is")
  .option("--json", "for programs")
  .action(async (options) => (await read()).showStatus(options));
program
  .command("servers")
  .description("servers with state, load and lease")
  .option("--json", "for programs")
  .action(async (options) => (await read()).showServers(options));
program
  .command("connections")
  .description("connections, and why one is not protected")
  .option("--server <id>", "only those of this owner")
  .option("--protocol <name>", "only those of this protocol")
  .option("--json", "for programs")
  .action(async (options) => (await read()).showConnections(options));
program
  .command("connection <id>")
  .description("everything about one connection, with its history")
  .option("--json", "for programs")
  .action(async (id, options) => (await read()).showConnection(id, options));
program
  .command("events")
  .description("finished takeovers and state changes, with each phase's microseconds")
  .option("--follow", "go on with what happens from now on")
  .option("--limit <n>", "only the last n", positiveInteger)
  .option("--json", "JSON lines, for programs")
  .action(async (options) => (await read()).showEvents(options));
program
  .command("check <file>")
  .description("validate a configuration; errors with line and column")
  .option("--json", "print it with all defaults")
  .action(async (file, options) => (await local()).checkFile(file, options));
program
  .command("schema")
  .description("the configuration's JSON Schema, for editors")
  .action(async () => (await local()).showSchema());
program
  .command("ftp-user <name> <directory>")
  .description("a line for the file of FTP users; the password is read from standard input")
  .option("--writable", "the user may change what is there")
  .action(async (name, directory, { writable = false }) => (await daemon()).printFtpUser(name, directory, writable));
program
  .command("rtsp-user <name>")
  .description("a line for the file of RTSP users; the password is read from standard input")
  .option("--realm <text>", "of the service", "baton")
  .action(async (name, { realm }) => (await daemon()).printRtspUser(name, realm));
program
  .command("controller")
  .description("run an appliance's controller")
  .requiredOption("--config <file>", "the configuration")
  .requiredOption("--id <id>", "which of its controllers this is")
  .action(async ({ config, id }) => (await daemon()).runController(config, id));
program
  .command("agent")
  .description("run a server's agent")
  .requiredOption("--config <file>", "the configuration")
  .requiredOption("--id <id>", "which of its servers this is")
  .option("--replace", "take the place of the agent that runs here, with its live connections: for an upgrade")
  .addOption(new Option("--unload", "remove what a stopped agent left in the kernel, and exit").conflicts("replace"))
  .action(async ({ config, id, unload, replace = false }) => {
    const { runAgent, unloadAgent } = await daemon();
    await (unload ? unloadAgent(config, id) : runAgent(config, id, replace));
  });
// Started by the agent, which hands it an IPC channel.
program
  .command("worker", { hidden: true })
  .requiredOption("--config <file>")
  .requiredOption("--id <id>")
  .action(async ({ config, id }) => (await daemon()).runWorker(config, id));
program
  .command("move <id>")
  .description("move a live connection to another server; prints each phase's microseconds")
  .requiredOption("--to <server>", "the server that gets it")
  .option("--dry-run", "only say what would be done")
  .option("--json", "for programs")
  .action(async (id, options) => (await change()).move(id, options));
program
  .command("drain <server>")
  .description("take a server out of rotation and move its connections away")
  .option("--timeout <time>", "how long to go on with those that cannot move yet: 500ms, 60s, 5m", duration, 60_000)
  .option("--dry-run", "only say what would be done")
  .option("--json", "JSON lines, for programs")
  .action(async (server, options) => (await change()).drain(server, options));
program
  .command("undrain <server>")
  .description("put a server back into rotation")
  .action(async (server) => (await change()).undrain(server));

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode; // commander has said why
  } else {
    process.stderr.write(`${describeError(error)}\n`);
    process.exit(1); // a daemon that failed half-way may hold handles that would keep it alive
  }
}
