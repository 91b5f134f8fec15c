import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import type { ExecutionContext } from "ava";
import { Capture, factsOf } from "../support/capture.js";
import { Dialer } from "../support/dialer.js";
import { eventually } from "../support/eventually.js";
import { killAgent } from "../support/fault.js";
import { assertOneConnection, labTest } from "../support/fixture.js";
import { LAB, runOn, VIP } from "../support/host.js";
import { get, ResponseReader } from "../support/http.js";
import { labHeal } from "../support/lab.js";
import { Replacement } from "../support/replacement.js";
import { sha256Of } from "../support/sha256.js";

const { test, lab } = labTest();
const PORT = 8080;
const BODY = randomBytes(50_000);
const ANSWER = `${createHash("sha256").update(BODY).digest("hex")}\n`;
/** Long enough for a server to be killed between an execution and its answer. */
const MS = 4_000;

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

async function executions(name: string): Promise<number> {
  return Number(await runOn("client", "curl", "-sf", `http://${VIP}:${PORT}/app/executions/${name}`));
}

function upload(method: string, name: string, headers: Record<string, string> = {}): Buffer {
  const head = get(`/app/upload/${name}?ms=${MS}`, { "content-length": String(BODY.length), ...headers }, method);
  return Buffer.concat([Buffer.from(head), BODY]);
}

/** An upload whose server is killed after it was executed and before it was answered. */
async function killedWhileExecuted(
  t: ExecutionContext,
  method: string,
  name: string,
  headers: Record<string, string> = {},
) {
  const capture = await Capture.start(`tcp port ${PORT}`);
  const { socket, localPort } = await (await Dialer.start()).connect({ port: PORT });
  const reader = new ResponseReader(socket);
  socket.write(upload(method, name, headers));
  await eventually("it was executed", async () => (await executions(name)) === 1);
  const { id, owner } = await lab.control.connectionOf(localPort);
  const to = (await lab.control.servers()).find((one) => one.id !== owner)!.id;
  t.is((await lab.control.move(id, to)).reason, "a request is being executed");
  killAgent(owner);
  const answer = await reader.next();
  socket.write(get("/100k.bin"));
  t.is((await reader.next()).sha256, await lab.digestOf("100k.bin"), "the connection goes on");
  await labHeal();
  assertOneConnection(t, factsOf(await capture.stop(), localPort));
  t.deepEqual(readFileSync(`${LAB}/uploads/${name}`), BODY);
  return { ...answer, executions: await executions(name) };
}

test("what is uploaded is stored, once, and answered", async (t) => {
  const { socket } = await (await Dialer.start()).connect({ port: PORT });
  const reader = new ResponseReader(socket);
  for (const method of ["PUT", "POST"]) {
    socket.write(upload(method, method));
    t.like(await reader.next(), { status: 200, sha256: sha256(ANSWER) });
    t.deepEqual(readFileSync(`${LAB}/uploads/${method}`), BODY);
    t.is(await executions(method), 1);
  }
});

test("stock curl: chunked, and with a body that waits for its invitation", async (t) => {
  const command = (name: string, ...more: string[]) => [
    ...["curl", "-sS", "--fail", "--max-time", "20", "--data-binary", `@${LAB}/content/1k.bin`, ...more],
    `http://${VIP}:${PORT}/app/upload/${name}`,
  ];
  const wanted = `${await lab.digestOf("1k.bin")}\n`;
  t.is(await runOn("client", ...command("chunked", "-H", "Transfer-Encoding: chunked")), wanted);
  t.is(await runOn("client", ...command("invited", "-H", "Expect: 100-continue", "--expect100-timeout", "15")), wanted);
});

test("a POST whose server dies is executed once, and its client gets to know that nobody knows", async (t) => {
  t.like(await killedWhileExecuted(t, "POST", "post"), { status: 502, executions: 1 });
});

test("a PUT whose server dies is executed again", async (t) => {
  t.like(await killedWhileExecuted(t, "PUT", "put"), { status: 200, sha256: sha256(ANSWER), executions: 2 });
});

test("a POST with an Idempotency-Key whose server dies is executed again", async (t) => {
  const answer = await killedWhileExecuted(t, "POST", "keyed", { "idempotency-key": "1" });
  t.like(answer, { status: 200, sha256: sha256(ANSWER), executions: 2 });
});

test("a POST that is being executed is answered before its agent is replaced", async (t) => {
  const { socket, localPort } = await (await Dialer.start()).connect({ port: PORT });
  const reader = new ResponseReader(socket);
  socket.write(upload("POST", "replaced"));
  await eventually("it was executed", async () => (await executions("replaced")) === 1);
  const { owner, reason } = await lab.control.connectionOf(localPort, (one) => !one.protected);
  t.is(reason, "a request is being executed that may not be executed again");
  await new Replacement(owner).done();
  t.like(await reader.next(), { status: 200, sha256: sha256(ANSWER) });
  socket.write(get("/100k.bin"));
  t.is((await reader.next()).sha256, await lab.digestOf("100k.bin"), "and goes on with the new one");
  t.is(await executions("replaced"), 1);
});

const size = 100 * 1024 * 1024;

/** curl, in the middle of the upload of 100 MiB by PUT. */
async function uploading(name: string, ...more: string[]) {
  const url = `http://${VIP}:${PORT}/app/upload/${name}`;
  const curl = [
    "curl",
    "-sS",
    "--max-time",
    "60",
    "-w",
    "%{http_code} %{num_connects}",
    "--limit-rate",
    "20M",
    ...more,
  ];
  const answer = runOn("client", ...curl, "-T", `${LAB}/content/100m.bin`, url);
  const [found] = await eventually("it is under way", async () => {
    const all = await lab.control.connections();
    const large = all.filter((one) => one.vip.endsWith(`:${PORT}`) && one.bytesReceived > size / 4);
    return large.length === 1 && (large as [(typeof large)[number]]);
  });
  return { answer, found };
}

for (const [what, ...more] of [["of a stated length"], ["in chunks", "-H", "Transfer-Encoding: chunked"]] as const) {
  test(`a large body ${what} that may be sent again survives the death of two servers`, async (t) => {
    const name = `kept${more.length}`;
    const { answer, found } = await uploading(name, ...more);
    t.true(found.protected, found.reason);
    killAgent(found.owner);
    const { owner } = await eventually("it goes on", async () => {
      const after = await lab.control.connections();
      return after.find(({ id, owner, bytesReceived }) => {
        return id === found.id && owner !== found.owner && bytesReceived > found.bytesReceived + size / 8;
      });
    });
    killAgent(owner);
    t.is(await answer, `${await lab.digestOf("100m.bin")}\n200 1`);
    t.is(await sha256Of(`${LAB}/uploads/${name}`), await lab.digestOf("100m.bin"));
    t.is(await executions(name), 1, "no upload that broke off was one");
    await labHeal();
  });
}

test("a large body that may not be sent again is handed on, unprotected, and said so", async (t) => {
  const upload = (name: string, ...more: string[]) =>
    runOn(
      "client",
      ...["curl", "-sS", "--max-time", "60", "-w", "%{http_code}", "-T", `${LAB}/content/100m.bin`, ...more],
      `http://${VIP}:${PORT}/app/upload/${name}`,
    );
  t.is(await upload("large", "-X", "POST"), `${await lab.digestOf("100m.bin")}\n200`);
  t.is(await sha256Of(`${LAB}/uploads/large`), await lab.digestOf("100m.bin"));

  const broken = upload("broken", "-X", "POST", "--limit-rate", "10M");
  const [{ owner, reason }] = await eventually("it is under way", async () => {
    const found = await lab.control.connections();
    const large = found.filter((one) => one.vip.endsWith(`:${PORT}`) && one.bytesReceived > size / 10);
    return large.length === 1 && (large as [(typeof large)[number]]);
  });
  t.is(reason, "the body of its request is not kept");
  killAgent(owner);
  t.regex(await broken, /502$/);
  t.is(await executions("broken"), 0);
});
