import "../support/quiet.js";
import { type EventEmitter, once } from "node:events";
import { readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { connect } from "@nats-io/transport-node";
import test, { type ExecutionContext } from "ava";
import { EmbeddedNats, maxPayload, runsNats } from "../../controller/nats/index.js";
import { parseConfig } from "../../proto/config/index.js";
import { testDirectory } from "../support/directory.js";
import { eventually } from "../support/eventually.js";
import { freeAddress } from "../support/listen.js";

async function place(t: ExecutionContext) {
  const state = testDirectory(t);
  const options = { state, name: "test", listen: await freeAddress(), maxPayload: 1_048_576 };
  // Teardowns run in reverse: this one before the directory goes.
  t.teardown(() => {
    try {
      process.kill(pidOf(state), "SIGKILL");
    } catch {
      // it is gone, as it should be
    }
  });
  return options;
}

function pidOf(state: string): number {
  return Number(readFileSync(join(state, "nats.pid"), "utf8"));
}

async function withBucket<T>(
  listen: string,
  use: (bucket: Awaited<ReturnType<Kvm["create"]>>) => Promise<T>,
): Promise<T> {
  const connection = await connect({ servers: listen });
  try {
    return await use(await new Kvm(jetstream(connection)).create("test"));
  } finally {
    await connection.close();
  }
}

test("killed, it is back within a second with its data, under a new pid", async (t) => {
  const options = await place(t);
  const nats = await EmbeddedNats.start(options);
  t.is(pidOf(options.state), nats.pid ?? 0);
  t.is(nats.problem, undefined);
  await withBucket(options.listen, (bucket) => bucket.put("key", "before"));

  const former = nats.pid ?? 0;
  const ready = once(nats as EventEmitter, "ready");
  const began = performance.now();
  process.kill(former, "SIGKILL");
  await eventually("the death is noticed", () => nats.problem !== undefined, 1000, 1);
  await ready;
  const tookMs = performance.now() - began;
  t.log(`back after ${tookMs.toFixed(0)} ms`);
  t.true(tookMs < 2000); // the bar is one second on an idle machine
  t.is(nats.problem, undefined);
  t.not(nats.pid, former);
  t.is(pidOf(options.state), nats.pid ?? 0);
  t.is(await withBucket(options.listen, async (bucket) => (await bucket.get("key"))?.string()), "before");
  await nats.stop();
});

test("it outlives its controller, which adopts it, and an adopted one is looked after as well", async (t) => {
  const options = await place(t);
  const first = await EmbeddedNats.start(options);
  const pid = first.pid ?? 0;
  // A session of its own: field 6 of /proc/PID/stat.
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  t.is(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[3], String(pid));
  t.is(readlinkSync(`/proc/${pid}/fd/0`), "/dev/null");
  first.close();

  const second = await EmbeddedNats.start(options);
  t.is(second.pid, pid);
  const ready = once(second as EventEmitter, "ready");
  process.kill(pid, "SIGKILL");
  await ready;
  t.not(second.pid, pid);
  await second.stop();
  t.is(second.pid, undefined);
});

test("changed settings start it anew; a pid file of something else is not believed", async (t) => {
  const options = await place(t);
  const first = await EmbeddedNats.start(options);
  const pid = first.pid;
  first.close();
  const second = await EmbeddedNats.start({ ...options, maxPayload: 2_097_152 });
  t.not(second.pid, pid);
  const connection = await connect({ servers: options.listen });
  t.is(connection.info?.max_payload, 2_097_152);
  t.true((await (await jetstreamManager(connection)).getAccountInfo()).limits.max_storage !== 0);
  await connection.close();
  await second.stop();

  writeFileSync(join(options.state, "nats.pid"), `${process.pid}\n`);
  const third = await EmbeddedNats.start(options);
  t.not(third.pid, process.pid);
  await third.stop();
});

test("what is in its way is said in a sentence", async (t) => {
  const options = await place(t);
  const other = createServer().listen(Number(options.listen.split(":")[1]), "127.0.0.1");
  await once(other, "listening");
  await t.throwsAsync(EmbeddedNats.start(options), {
    code: "PORT_TAKEN",
    message: `The embedded nats-server cannot listen on ${options.listen}: it is in use.`,
  });
  other.close();
  await t.throwsAsync(EmbeddedNats.start({ ...options, program: "/nonexistent/nats-server" }), {
    code: "STORE_UNAVAILABLE",
    message: "The embedded nats-server cannot be started: nats-server is not installed.",
  });
  await t.throwsAsync(EmbeddedNats.start({ ...options, program: "/bin/false" }), {
    code: "STORE_UNAVAILABLE",
    message: /^The embedded nats-server ended at its start: /,
  });
  await t.throwsAsync(EmbeddedNats.start({ ...options, listen: "192.0.2.1:4222" }), {
    code: "STORE_UNAVAILABLE",
    message: /^The embedded nats-server ended at its start: .*192\.0\.2\.1:4222/,
  });
});

test("it stands beside the first controller, unless others run it", (t) => {
  const text = `
vips: [10.77.0.100]
controllers: [{ id: lb1, listen: "10.77.0.1:7600" }, { id: lb2, listen: "10.77.0.2:7600" }]
servers: [{ id: s1, address: 10.77.0.101 }]
services: [{ name: http, port: 80, protocol: http, directory: a }]
`;
  const own = parseConfig(text, "f");
  t.true(runsNats(own, "lb1"));
  t.false(runsNats(own, "lb2"));
  t.false(runsNats(parseConfig(`${text}nats: { url: "nats://a:1" }\n`, "f"), "lb1"));
  t.true(maxPayload(own) >= 2 * own.limits.inputBytes);
});
