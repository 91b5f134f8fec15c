import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { root } from "../../proto/paths.js";
import { add, distance } from "../../proto/sequence.js";
import { Capture } from "../support/capture.js";
import { Download } from "../support/download.js";
import { killAgent } from "../support/fault.js";
import { labTest } from "../support/fixture.js";
import { CLIENT, VIP } from "../support/host.js";
import { API } from "../support/lab.js";

const { test, lab } = labTest();
const run = promisify(execFile);

async function baton(...words: string[]) {
  const { stdout } = await run(join(root, "node_modules/.bin/baton"), words, {
    env: { ...process.env, BATON_API: API },
  });
  return JSON.parse(stdout);
}

test("`baton connection ID --json` says what the client's capture says, before and after a takeover", async (t) => {
  const capture = await Capture.start();
  const download = new Download("/100m.bin", { rate: "15M" });
  await download.reached(10_000_000);
  const { id } = await lab.control.connectionOf(download.port, (one) => one.protected);
  const mine = () => capture.segments.filter((one) => one.client.port === download.port);

  const check = async (owner: string | undefined) => {
    const lowest = mine().findLast((one) => one.fromClient)!.ack;
    download.pause(); // the command takes a second or more to start: the download is not to be over by then
    const seen = await baton("connection", id, "--json");
    download.goOn();
    const syn = mine().find((one) => one.fromClient && one.syn)!;
    const synAck = mine().find((one) => !one.fromClient && one.syn)!;
    const request = mine().find((one) => one.fromClient && one.payload > 0)!;
    t.is(seen.client, `${CLIENT}:${download.port}`);
    t.is(seen.vip, `${VIP}:80`);
    t.is(seen.transport, "tcp");
    t.is(seen.protocol, "http");
    t.is(seen.object, "/100m.bin");
    t.deepEqual(seen.initialSeq, { client: syn.seq, server: synAck.seq });
    t.is(seen.currentSeq.client, add(request.seq, request.payload), "the client has sent its request and no more");
    // The download goes on meanwhile: between what the client had before and what it has after the question.
    await download.reached(download.bytes + 4_000_000);
    const highest = mine().findLast((one) => one.fromClient)!.ack;
    const window = 8 * 1024 * 1024;
    t.true(distance(lowest, seen.currentSeq.server) >= 0, "not behind the client's ack");
    t.true(distance(seen.currentSeq.server, add(highest, window)) >= 0, "not far ahead of it");
    // The body begins behind the response's head: file size and stream end tell where.
    t.true(
      distance(add(synAck.seq, 1), seen.firstByteSeq) > 0 && distance(add(synAck.seq, 1), seen.firstByteSeq) < 2000,
    );
    t.is(seen.serverId, seen.owner);
    if (owner) t.not(seen.owner, owner);
    t.false(Number.isNaN(Date.parse(seen.takenAt)));
    t.deepEqual(
      seen.layers.map((one: { layer: string }) => one.layer),
      ["ip", "tcp", "http"],
    );
    return seen;
  };

  const before = await check(undefined);
  killAgent(before.owner);
  await lab.control.connectionOf(download.port, (one) => one.owner !== before.owner && one.phase === "LIVE");
  const after = await check(before.owner);
  t.is(after.firstByteSeq, before.firstByteSeq);
  t.is(after.epoch, before.epoch + 1);

  const result = await download.finish();
  t.is(result.sha256, await lab.digestOf("100m.bin"));
  // What came before the first byte is the head: all that the server sent less the body.
  const fin = (await capture.stop()).filter(
    (one) => !one.fromClient && one.client.port === download.port && one.payload > 0,
  );
  const end = fin.reduce(
    (highest, one) => (distance(highest, add(one.seq, one.payload)) > 0 ? add(one.seq, one.payload) : highest),
    fin[0]!.seq,
  );
  t.is(
    add(before.firstByteSeq, 100 * 1024 * 1024),
    end,
    "first byte's sequence number plus the file's size is the end",
  );
});

test("every read command speaks JSON", async (t) => {
  // Longer than the commands take to start on a busy machine.
  const download = new Download("/100m.bin", { rate: "5M" });
  await download.reached(1_000_000);
  const { connections } = await baton("connections", "--json");
  const one = connections.find((row: { client: string }) => row.client === `${CLIENT}:${download.port}`);
  for (const field of [
    "id",
    "client",
    "vip",
    "transport",
    "protocol",
    "owner",
    "epoch",
    "phase",
    "ageSeconds",
    "bytesSent",
    "bytesReceived",
    "bundle",
    "object",
    "offset",
    "protected",
    "reason",
  ]) {
    t.true(field in one, field);
  }
  const { servers } = await baton("servers", "--json");
  t.deepEqual(servers.map((server: { id: string }) => server.id).toSorted(), ["s1", "s2", "s3"]);
  for (const field of ["id", "state", "connections", "load", "leaseAgeMs", "reason"])
    t.true(field in servers[0], field);
  for (const field of ["cpu", "pressure", "loopDelayMs", "egressBytesPerSecond"])
    t.true(field in servers[0].load, field);
  const status = await baton("status", "--json");
  t.deepEqual(status.vips, ["10.77.0.100", "fd77::100"]);
  download.abort();
  await download.done;
});
