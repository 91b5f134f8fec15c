import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import type { SocketImage } from "../../agent/native/index.js";
import { add, distance } from "../../proto/sequence.js";
import { Host } from "./hosts/host.js";
import { addresses, type Family, families, Network } from "./hosts/network.js";
import type { functions } from "./hosts/server.js";
import { Sniffer } from "./hosts/sniffer.js";

type Server = Host<typeof functions>;

const SIZE = 30 * 1024 * 1024;
const HEAD = `HTTP/1.1 200 OK\r\nContent-Length: ${SIZE}\r\nConnection: close\r\n\r\n`;
const EVERYTHING = Number.MAX_SAFE_INTEGER;
const PSH_ACK = 24;

const folder = mkdtempSync(join(tmpdir(), "bt-native-"));
const content = { head: HEAD, path: join(folder, "content"), size: SIZE };
const bytes = randomBytes(SIZE);
test.before(() => writeFileSync(content.path, bytes));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

/** A stock client's download. */
function download(network: Network, family: Family, rate: string): Promise<{ code: number | null; sha256: string }> {
  const url = family === "IPv4" ? addresses.IPv4.vip : `[${addresses.IPv6.vip}]`;
  const target = join(folder, `download-${family}`);
  const [nsenter, net] = network.enter("client");
  const curl = spawn(
    nsenter,
    [net, "curl", "-sS", "--limit-rate", rate, "--max-time", "60", "-o", target, `http://${url}/`],
    { stdio: "inherit" },
  );
  return new Promise((resolve) =>
    curl.on("close", (code) =>
      resolve({ code, sha256: createHash("sha256").update(readFileSync(target)).digest("hex") }),
    ),
  );
}

/** Sequence number of the client's first byte; some may have come before the capture. */
function clientStart(born: SocketImage): number {
  return add(born.receiveNext, -born.receiveQueue.length);
}

/** The image of a connection at a position, made from what was known at its birth alone: as from a record. */
function imageAt(born: SocketImage, position: number, consumed: number, clock: number, window: number): SocketImage {
  const sendUna = add(born.sendUna, position);
  const receiveNext = add(clientStart(born), consumed);
  return {
    ...born,
    sendUna,
    receiveNext,
    timestampClock: clock,
    window: { sndWl1: receiveNext, sndWnd: window, maxWindow: window, rcvWnd: 65536, rcvWup: receiveNext },
    receiveQueue: Buffer.alloc(0),
    sendQueue: Buffer.alloc(0),
    unsentQueue: Buffer.alloc(0),
    state: 1,
  };
}

for (const family of families) {
  test.serial(
    `${family}: curl's download survives the loss of its server, rebuilt at the ack that a probe elicits`,
    async (t) => {
      const { vip } = addresses[family];
      const network = new Network(`bt-native-takeover${family.slice(3)}`);
      const s1: Server = new Host(network, "s1", "server");
      const s2: Server = new Host(network, "s2", "server");
      let sniffer: Sniffer | undefined;
      try {
        await s1.call.listen(vip);
        const done = download(network, family, "20M");
        const born = await s1.call.accepted();
        t.is(born.state, 1);
        t.true(born.timestamps && born.sack && born.windowScaling);
        await s1.call.connect(0);
        const consumed = await s1.call.received("\r\n\r\n");
        await s1.call.send(content, 0, EVERYTHING);
        await s1.call.sent(5_000_000);
        // The middle of a transfer: some of what was sent arrived, some did not.
        network.cut("s1");
        const { sent } = await s1.call.state();
        await s1.call.closeSilently();
        t.true(sent > 5_000_000 && sent < SIZE);

        network.giveVipTo("s2");
        sniffer = await Sniffer.start(network, "s2");
        await s2.call.listen(vip);
        await s2.call.prepare(born);
        // The true byte at a position that the client has acknowledged long ago, with the clock of the socket to come.
        const clock = add(born.timestampClock, 100_000);
        const floor = 1_000_000;
        const probe = {
          local: born.local,
          remote: born.remote,
          seq: add(born.sendUna, floor - 1),
          ack: add(clientStart(born), consumed),
          flags: PSH_ACK,
          window: 512,
          timestamps: { value: clock, echo: 0 },
          payload: bytes.subarray(floor - 1 - HEAD.length, floor - HEAD.length),
        };
        t.is(await s2.call.sendSegments([probe]), 1);
        const answer = await sniffer.next();
        t.is(answer.flags, ".");
        t.is(answer.length, 0);
        const position = distance(born.sendUna, answer.ack);
        t.true(position > floor && position <= sent, `${floor} < ${position} <= ${sent}`);

        network.open("s2");
        const image = imageAt(born, position, consumed, clock, 65536);
        await s2.call.rebuild(image);
        await s2.call.activate(image);
        await s2.call.connect(position);
        await s2.call.send(content, position, EVERYTHING);
        t.deepEqual(await done, { code: 0, sha256: createHash("sha256").update(bytes).digest("hex") });
        const after = await s2.call.state();
        t.is(after.drained, HEAD.length + SIZE + 1);
        t.deepEqual(after.errors, []);
        // Full segments from the start, as negotiated: 1460 less the timestamps; IPv6 has 20 less.
        t.is(after.info.sendMss, family === "IPv4" ? 1448 : 1428);
      } finally {
        sniffer?.stop();
        await s1.kill();
        await s2.kill();
        network.remove();
      }
    },
  );
}
