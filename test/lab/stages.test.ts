import { createHash, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import type { ExecutionContext } from "ava";
import { within } from "../../proto/deadline.js";
import { Capture, factsOf } from "../support/capture.js";
import { Dialer, stopReading } from "../support/dialer.js";
import { eventually } from "../support/eventually.js";
import { cutLink, killAgent, signal } from "../support/fault.js";
import { assertOneConnection, labTest } from "../support/fixture.js";
import { hostOf, LAB, lives, pidOf, runOn, VIP } from "../support/host.js";
import { get, ResponseReader } from "../support/http.js";
import { labHeal } from "../support/lab.js";
import { digestOfGenerated } from "./generated.js";

/**
 * A server is lost while its connections are in every stage of a request, and each comes out as docs/OPERATIONS.md says. Pairs of
 * stage and loss that are left out stand in executions.test.ts and upstream.test.ts.
 */
const { test, lab } = labTest();
const PORT = 8080;
const WAIT_MS = 30_000;
const KIB = 1024;
/** The client's receive buffer, and an object of which it has all but some hundred bytes as long as nobody reads. */
const BUFFER = 32 * KIB;
const ALMOST = 29_750;

type Loss = "killed" | "cut" | "alone" | "drained";

const LOSSES: Record<Loss, string> = {
  killed: "its agent is killed",
  cut: "its host is cut off",
  alone: "its upstream is killed, and not its agent",
  drained: "it is drained",
};

interface Scene {
  socket: Socket;
  reader: ResponseReader;
  port: number;
  capture: Capture;
  /** Its upload's name. */
  name: string;
  /** What the application keeps back until this is open comes after the loss. */
  gate: string;
}

interface Stage {
  /** What the client writes before the loss. */
  before: (scene: Scene) => string | Buffer;
  /** Resolves when the stage is reached. */
  reached: (scene: Scene) => Promise<unknown>;
  /** What it writes after the loss. */
  after?: string | Buffer;
  /** SHA-256 of the bodies that it is to get. */
  wants: Array<string | (() => Promise<string>)>;
  /** It reads nothing until the loss. */
  isStopped?: true;
  /** A drain waits for its end: it does not move by plan. */
  stays?: true;
  /** What comes of it: each response, whether that was the end of the connection, how often an upload was executed. */
  out: Partial<Record<Loss, string>>;
}

const LARGE = randomBytes(10 * KIB * KIB);
const SMALL = randomBytes(50_000);
const sha256 = (bytes: Buffer | string) => createHash("sha256").update(bytes).digest("hex");
const answerTo = (body: Buffer) => sha256(`${sha256(body)}\n`);

function upload(method: string, path: string, body: Buffer, sent = body.length): Buffer {
  const head = get(`/app/upload/${path}`, { "content-length": String(body.length) }, method);
  return Buffer.concat([Buffer.from(head), body.subarray(0, sent)]);
}

/** An upload of which one half of the body is written before the loss. */
function halfSent(method: string, body: Buffer): Pick<Stage, "before" | "reached" | "after" | "wants"> {
  const half = body.length / 2;
  return {
    before: ({ name }) => upload(method, name, body, half),
    reached: ({ port }) => lab.control.connectionOf(port, ({ bytesReceived }) => bytesReceived > half),
    after: body.subarray(half),
    wants: [answerTo(body)],
  };
}

/** An upload that was executed and has no answer yet. */
function executed(method: string): Pick<Stage, "before" | "reached" | "wants" | "stays"> {
  return {
    before: ({ name, gate }) => upload(method, `${name}?gate=${gate}`, SMALL),
    reached: ({ name }) => eventually("it was executed", async () => (await executions(name)) === 1),
    wants: [answerTo(SMALL)],
    stays: true,
  };
}

/** A response of which so much is made before the loss. */
function generated(bytes: number, open: number, method = "GET"): Omit<Stage, "out"> {
  return {
    before: ({ gate }) => get(`/app/stream?bytes=${bytes}&seed=5&open=${open}&gate=${gate}`, {}, method),
    reached: come(open),
    wants: [digestOfGenerated(bytes, "5")],
    stays: true,
  };
}

const come = (bytes: number) => (scene: Scene) =>
  eventually(`${bytes} bytes have come`, () => scene.socket.bytesRead >= bytes);

const windowShut = ({ capture, port }: Scene) =>
  eventually("its window is shut", () =>
    capture.segments.some((one) => one.fromClient && !one.syn && one.client.port === port && one.window === 0),
  );

const digestOf = (name: string) => () => lab.digestOf(name);
const HEAD = get("/1m.bin", { "x-padding": "p".repeat(600) });

const STAGES: Record<string, Stage> = {
  "the request's head": {
    before: () => HEAD.slice(0, 300),
    reached: ({ port }) => lab.control.connectionOf(port, ({ bytesReceived }) => bytesReceived >= 300),
    after: HEAD.slice(300),
    wants: [digestOf("1m.bin")],
    out: { killed: "exact", cut: "exact", alone: "502", drained: "exact" },
  },
  "the body of a PUT of 10 MiB": {
    ...halfSent("PUT", LARGE),
    stays: true,
    out: {
      killed: "exact, executed 1",
      cut: "exact, executed 1",
      alone: "502, end, executed 0",
      drained: "exact, executed 1",
    },
  },
  "the body of a POST of 10 MiB": {
    ...halfSent("POST", LARGE),
    stays: true,
    out: { cut: "502, end, executed 0", alone: "502, end, executed 0", drained: "exact, executed 1" },
  },
  "the body of a POST of 50 kB": {
    ...halfSent("POST", SMALL),
    out: {
      killed: "exact, executed 1",
      cut: "exact, executed 1",
      alone: "502, executed 0",
      drained: "exact, executed 1",
    },
  },
  "a PUT that is executed": {
    ...executed("PUT"),
    out: { cut: "exact, executed 2", alone: "502, executed 1", drained: "exact, executed 1" },
  },
  "a POST that is executed": {
    ...executed("POST"),
    out: { cut: "502, executed 1", alone: "502, executed 1", drained: "exact, executed 1" },
  },
  "the first bytes of a generated response": {
    ...generated(300_000, 1_000),
    out: { killed: "exact", cut: "exact", alone: "exact", drained: "exact" },
  },
  "the middle of a generated response": {
    ...generated(300_000, 150_000),
    out: { cut: "exact", alone: "exact", drained: "exact" },
  },
  "the last bytes of a generated response": {
    ...generated(300_000, 299_000),
    out: { killed: "exact", cut: "exact", alone: "exact", drained: "exact" },
  },
  "a response that is announced as unprotected": {
    ...generated(300_000, 150_000, "POST"),
    reached: async (scene) => {
      await come(150_000)(scene);
      const announced = "its request may not be executed again to make its response once more";
      await lab.control.connectionOf(scene.port, (one) => !one.protected && one.reason === announced);
    },
    out: { killed: "reset", cut: "reset", alone: "reset", drained: "exact" },
  },
  "the middle of an object": {
    before: () => get("/10m.bin"),
    reached: windowShut,
    wants: [digestOf("10m.bin")],
    isStopped: true,
    out: { drained: "exact" },
  },
  "the last bytes of an object": {
    before: () => get("/100k.bin", { range: `bytes=0-${ALMOST - 1}` }),
    reached: windowShut,
    wants: [() => lab.digestOf("100k.bin", 0, ALMOST)],
    isStopped: true,
    out: { killed: "exact", cut: "exact", alone: "exact", drained: "exact" },
  },
  "the time between two requests": {
    before: () => get("/1k.bin"),
    reached: come(KIB + 1),
    wants: [digestOf("1k.bin")],
    out: { killed: "exact", cut: "exact", drained: "exact" },
  },
  "the first of three requests that came as one": {
    ...generated(300_000, 150_000),
    before: (scene) => generated(300_000, 150_000).before(scene) + get("/100k.bin") + get("/1m.bin"),
    wants: [digestOfGenerated(300_000, "5"), digestOf("100k.bin"), digestOf("1m.bin")],
    out: {
      killed: "exact, exact, exact",
      cut: "exact, exact, exact",
      alone: "exact, exact, exact",
      drained: "exact, exact, exact",
    },
  },
};

async function executions(name: string): Promise<number> {
  return Number(await runOn("client", "curl", "-sf", `http://${VIP}:${PORT}/app/executions/${name}`));
}

/** So many connections, all of one server; others that were made on the way are let go. */
async function ofOneServer(count: number, gate: string, capture: Capture): Promise<[server: string, Scene[]]> {
  const dialer = await Dialer.start();
  const scenes: Scene[] = [];
  // One of three servers must have so many.
  while (scenes.length < 3 * count) {
    const { socket, localPort: port } = await dialer.connect({ port: PORT });
    scenes.push({ socket, port, reader: new ResponseReader(socket), capture, name: `stage${port}`, gate });
  }
  const servers = await eventually("every handshake was seen", () => {
    const answers = capture.segments.filter((one) => !one.fromClient && one.syn);
    const of = new Map(answers.map(({ client, mac }) => [client.port, hostOf(mac)]));
    return scenes.every(({ port }) => of.has(port)) && of;
  });
  const byServer = new Map<string, Scene[]>();
  for (const scene of scenes) {
    const server = servers.get(scene.port)!;
    byServer.set(server, [...(byServer.get(server) ?? []), scene]);
  }
  const [server, most] = [...byServer].toSorted(([, a], [, b]) => b.length - a.length)[0]!;
  const kept = most.slice(0, count);
  for (const scene of scenes) if (!kept.includes(scene)) scene.socket.destroy();
  return [server, kept];
}

/** Reads what a stage's client is to get. @returns what came of it */
async function read({ wants }: Stage, { reader }: Scene): Promise<string> {
  const out: string[] = [];
  try {
    for (const want of wants) {
      const head = await reader.head();
      const { sha256 } = await reader.body(head);
      const isRight = sha256 === (typeof want === "string" ? want : await want());
      out.push(head.status >= 300 ? String(head.status) : isRight ? "exact" : "other bytes");
      if (head.headers.connection !== "close") continue;
      // What the client still writes may be answered by a reset.
      out.push((await reader.ended().catch(() => true)) ? "end" : "more behind the end");
      break;
    }
  } catch (error) {
    out.push((error as NodeJS.ErrnoException).code === "ECONNRESET" ? "reset" : (error as Error).message);
  }
  return out.join(", ");
}

interface Play {
  title: string;
  stage: Stage;
  scene: Scene;
  wanted: string;
}

const elsewhere = (server: string, { scene, title }: Play) =>
  lab.control
    .connectionOf(scene.port, ({ owner, phase }) => owner !== server && phase === "LIVE", WAIT_MS)
    .catch((error: Error) => Promise.reject(new Error(`${title}: ${error.message}`)));

/** Lets a server be lost. @returns what is to be waited for when every stage has come out */
const LOSE: Record<Loss, (t: ExecutionContext, server: string, plays: Play[]) => Promise<() => Promise<unknown>>> = {
  killed: async (_t, server) => {
    killAgent(server);
    return async () => {};
  },
  cut: async (_t, server) => {
    await cutLink(server);
    return async () => {};
  },
  alone: async (_t, server) => {
    const nginx = signal(pidOf(server, "upstream"), "SIGKILL");
    await eventually("it is gone", () => !lives(nginx));
    return async () => {};
  },
  drained: async (t, server, plays) => {
    const begun = performance.now();
    const drained = lab.control.drain(server, WAIT_MS);
    await Promise.all(plays.filter(({ stage }) => !stage.stays).map((play) => elsewhere(server, play)));
    const movedMs = Math.round(performance.now() - begun);
    return async () => {
      const { remaining, reasons } = await drained;
      t.log(`what moves at once was gone after ${movedMs} ms, all after ${Math.round(performance.now() - begun)} ms`);
      t.is(remaining, 0, JSON.stringify(reasons));
    };
  },
};

for (const [loss, what] of Object.entries(LOSSES) as Array<[Loss, string]>) {
  test(`a server's connections are in every stage of a request when ${what}`, async (t) => {
    const capture = await Capture.start(`tcp port ${PORT}`);
    await runOn("client", "sysctl", "-q", `net.ipv4.tcp_rmem=4096 ${BUFFER} ${BUFFER}`);
    const rows = Object.entries(STAGES).filter(([, { out }]) => out[loss]);
    const gate = `open-${loss}`;
    const [server, scenes] = await ofOneServer(rows.length, gate, capture);
    const plays = rows.map(([title, stage], at) => ({ title, stage, scene: scenes[at]!, wanted: stage.out[loss]! }));

    const reading = new Map<Play, () => Promise<string>>();
    await Promise.all(
      plays.map(async (play) => {
        const { title, stage, scene } = play;
        const goOn = stage.isStopped ? stopReading(scene.socket) : () => {};
        const out = read(stage, scene);
        reading.set(play, () => {
          goOn();
          return within(WAIT_MS, out, () => new Error("nothing")).catch((error: Error) => error.message);
        });
        scene.socket.write(stage.before(scene));
        await within(WAIT_MS, stage.reached(scene), () => new Error(`not reached: ${title}`));
      }),
    );
    const over = await LOSE[loss](t, server, plays);
    writeFileSync(`${LAB}/uploads/${gate}`, "");

    const outs = plays.map((play) => {
      if (play.stage.after) play.scene.socket.write(play.stage.after);
      return reading.get(play)!();
    });
    // Whatever is to be answered by 502 is asked while there is no upstream.
    await Promise.all(outs.filter((_, at) => plays[at]!.wanted.startsWith("502")));
    if (loss === "alone") await labHeal();
    for (const [at, { title, scene, wanted }] of plays.entries()) {
      const out = await outs[at];
      t.is(wanted.includes("executed") ? `${out}, executed ${await executions(scene.name)}` : out, wanted, title);
    }
    await over();
    const kept = plays.filter(({ wanted }) => !/reset|end/.test(wanted));
    for (const { title, scene } of kept) {
      scene.socket.write(get("/100k.bin"));
      const next = within(WAIT_MS, scene.reader.next(), () => new Error("nothing"));
      t.is((await next).sha256, await lab.digestOf("100k.bin"), title);
    }
    const segments = await capture.stop();
    for (const { scene } of kept) assertOneConnection(t, factsOf(segments, scene.port));
  });
}
