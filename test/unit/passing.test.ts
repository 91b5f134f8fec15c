import "../support/quiet.js";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { listen } from "../../agent/connection/acceptor.js";
import { CommitMeter } from "../../agent/connection/commit_meter.js";
import type { LiveConnection } from "../../agent/connection/connection.js";
import { Exposures } from "../../agent/connection/exposures.js";
import type { ConnectionHost } from "../../agent/connection/host.js";
import { LeadTable } from "../../agent/connection/lead_table.js";
import { ConnectionTable } from "../../agent/connection/table.js";
import { DirectoryContent } from "../../agent/content/index.js";
import { native } from "../../agent/native/index.js";
import { applicationProtocols, IpLayer, Stack, TcpLayer } from "../../agent/protocols/index.js";
import { takeConnections } from "../../agent/replace/passed_connections.js";
import { Passing } from "../../agent/replace/passing.js";
import { Taking } from "../../agent/replace/taking.js";
import { decodeRecord } from "../../proto/record.js";
import { eventually } from "../support/eventually.js";
import { get, ResponseReader } from "../support/http.js";
import { noBundles } from "../support/no_bundles.js";

const nobodyLeads = () => Promise.reject(new Error("nobody leads here"));
const BYTES = 8 * 1024 * 1024;
const body = Buffer.alloc(BYTES, "a body that is longer than what any buffer takes; ");
const wanted = createHash("sha256").update(body).digest("hex");

interface Side {
  table: ConnectionTable;
  /** What the store got from this side, oldest first. */
  commits: Array<{ revision: number; unprotected: string }>;
}

/** The revisions that a store of one connection has. */
let revisions = 0;

/** A worker without its guard and its store. */
async function worker(content: DirectoryContent): Promise<Side> {
  const commits: Side["commits"] = [];
  const guarded = {
    ...{ phase: "LIVE", flags: 0, options: 0, clientIsn: 1, serverIsn: 2, consumed: 2, clampedSinceNs: 0n },
    ...{ mss: 1448, sendScale: 7, receiveScale: 3 },
  };
  const host = {
    ...{
      serverId: "s1",
      incarnation: 1,
      writer: "s1/1",
      native,
      limits: {
        ...{ inputBytes: 262_144, bodyBytes: () => 0, recordBytes: 524_288 },
        ...{ connectionsPerClient: 100, halfOpenPerClient: 100 },
      },
      unprotected: false,
    },
    guard: { lookup: () => guarded, change: () => guarded },
    commits: new CommitMeter(() => {}),
    exposures: new Exposures(),
    bucket: {
      commit: async (_id: string, bytes: Uint8Array, expected: number) => {
        if (expected !== revisions) throw new Error(`revision ${expected} was expected, it is ${revisions}`);
        commits.push({ revision: expected, unprotected: decodeRecord(bytes).unprotectedReason });
        return ++revisions;
      },
      remove: async () => 0,
    },
    bundles: noBundles(),
    ended: (connection: LiveConnection) => table.drop(connection),
  } as unknown as ConnectionHost;
  const http = await applicationProtocols.http.factory({
    content: async () => content,
    origin: undefined,
    repeat: "idempotent",
    literalBytes: 65_536,
    native,
    inputBytes: 262_144,
    users: undefined,
    realm: undefined,
    directory: undefined,
    state: "",
    port: 80,
    relatedPorts: undefined,
    multicast: [],
    leads: new LeadTable({ commitLead: nobodyLeads, read: nobodyLeads }, () => undefined),
  });
  const table: ConnectionTable = new ConnectionTable(
    host,
    (connection, offset) =>
      new Stack(
        [new IpLayer(), new TcpLayer(connection.identity.tcp, () => connection.tcpState())],
        http(connection, offset, false),
        () => {},
      ),
    60_000,
  );
  return { table, commits };
}

interface Scene {
  directory: string;
  socket: Socket;
  reader: ResponseReader;
  /** The worker that has the connection now, and then the next one. */
  present(): Side;
  pass(): Promise<LiveConnection>;
}

async function scene(t: ExecutionContext, hashFile = (path: string) => native.hashFile(path)): Promise<Scene> {
  const state = mkdtempSync(join(tmpdir(), "baton-passing-test-"));
  const directory = join(state, "content");

  mkdirSync(directory);
  writeFileSync(join(directory, "f.bin"), body);
  revisions = 0;
  const open = async () => {
    const content = await DirectoryContent.open({ directory, validator: "sha256", hashFile });
    return worker(content);
  };
  let present = await open();
  const service = { service: "http", protocol: "http", port: 0, recorded: true, role: "alone" as const };
  let listener = listen(present.table, "127.0.0.1", service);
  const listeners = [listener];
  const { port } = listener;
  const socket = connect(port, "127.0.0.1");
  t.teardown(() => {
    socket.destroy();
    for (const one of listeners) one.close();
    present.table.abandon("the test is over");
    rmSync(state, { recursive: true, force: true });
  });
  const only = async () => {
    let found: LiveConnection | undefined;
    await eventually("a connection", () => {
      present.table.each((one) => {
        found = one;
      });
      return found !== undefined;
    });
    return found!;
  };
  await only();
  return {
    ...{ directory, socket, reader: new ResponseReader(socket) },
    present: () => present,
    pass: async () => {
      const next = await open();
      const taking = await Taking.listen(native, state, {
        listener: (_address, _port, fd) => {
          listener = listen(next.table, "127.0.0.1", service, fd);
          listeners.push(listener);
        },
        connections: (messages, fds) => takeConnections(next.table, messages, fds),
      });
      const passing = await Passing.begin(native, state);
      await passing.passListeners([{ address: "127.0.0.1", port, listener }]);
      t.is(await passing.passConnections(present.table), 1);
      t.is(present.table.size, 0);
      passing.close();
      taking.close();
      present = next;
      return only();
    },
  };
}

test.serial("a download, passed again and again, and the next request on its connection", async (t) => {
  const { socket, reader, pass } = await scene(t);
  socket.write(get("/f.bin"));
  const hash = createHash("sha256");
  t.is((await reader.head()).status, 200);
  for (let passed = 0; passed < 4; passed++) {
    await reader.read(BYTES / 8, hash);
    const connection = await pass();
    t.is(connection.epoch, 1);
    t.is(connection.phase.phase, "LIVE");
  }
  await reader.read(BYTES / 2, hash);
  t.is(hash.digest("hex"), wanted);
  // Everything is acknowledged by now: the record's last piece is no more than a reminder.
  const connection = await pass();
  connection.commit();
  await eventually("a commit", () => revisions > 1);
  const request = get("/f.bin", { "x-padding": "p".repeat(500) });
  socket.write(request.slice(0, 200));
  await eventually("half a request", () => connection.describe().bytesReceived > 200);
  await pass();
  socket.write(request.slice(200));
  t.is((await reader.next()).sha256, wanted);
});

test.serial("before its first record, and with what waits in the backlog", async (t) => {
  const { socket, reader, present, pass } = await scene(t);
  t.is(present().commits.length, 0);
  await pass();
  await eventually("the record is written by the next worker", () => present().commits.length === 1);
  socket.write(get("/f.bin"));
  t.is((await reader.next()).sha256, wanted);
});

test.serial("a digest that is pending is made by the next worker, of the very content that was promised", async (t) => {
  let release: () => void = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const { socket, reader, present, pass, directory } = await scene(t, async (path) => {
    await released;
    return native.hashFile(path);
  });
  socket.write(get("/f.bin"));
  t.is((await reader.head()).status, 200);
  t.is(present().commits.at(-1)?.unprotected, "digest pending");
  writeFileSync(join(directory, "new"), "something else");
  renameSync(join(directory, "new"), join(directory, "f.bin"));
  const connection = await pass();
  t.is(connection.protectionGap, "digest pending");
  release();
  await eventually("it is protected", () => connection.protectionGap === "");
  await eventually("and the record says so", () => present().commits.at(-1)?.unprotected === "");
  t.is(await reader.digest(BYTES), wanted);
});
