import { once } from "node:events";
import type { Socket } from "node:net";
import type { ExecutionContext } from "ava";
import { distance } from "../../proto/sequence.js";
import { Capture, factsOf } from "../support/capture.js";
import { Dialer } from "../support/dialer.js";
import { eventually } from "../support/eventually.js";
import { killAgent, signal } from "../support/fault.js";
import { assertOneConnection, labTest } from "../support/fixture.js";
import { lives, pidOf, spawnOn, VIP } from "../support/host.js";
import { labHeal } from "../support/lab.js";
import { LineReader } from "../support/lines.js";

const { test, lab } = labTest();
const PORT = 7;

/** A server that takes connections now; one that was killed is left out until it is back. */
async function another(owner: string): Promise<string> {
  return (await lab.control.servers()).find((one) => one.id !== owner && one.state === "UP")!.id;
}
const numbered = (number: number, line: string) => `${number} ${line}`;
const lineOf = (number: number) => `line ${"-".repeat(number % 50)} of ${number}\n`;
const linesOf = (count: number) => Array.from({ length: count }, (_, index) => lineOf(index + 1)).join("");

class Conversation {
  readonly reader: LineReader;
  #answered = 0;

  constructor(
    readonly t: ExecutionContext,
    readonly socket: Socket,
    readonly port: number,
    readonly capture: Capture,
  ) {
    this.reader = new LineReader(socket);
  }

  /** Every answer up to the one to line `last` is the right one, and comes once and in order. */
  async answered(last: number, line = lineOf): Promise<void> {
    while (this.#answered < last) {
      const number = ++this.#answered;
      const answer = await this.reader.next();
      if (answer !== numbered(number, line(number))) this.t.is(answer, numbered(number, line(number)));
    }
    this.t.pass();
  }

  /** Nothing more comes but the server's end. */
  async ended(): Promise<void> {
    this.t.is(await this.reader.next(), "");
  }

  /** It may be refused: on a busy machine a server is suspected for a moment, and what it has is held. */
  async move(): Promise<void> {
    await eventually("it is moved", async () => {
      const { id, owner } = await this.live();
      const { result, reason } = await lab.control.move(id, await another(owner));
      if (result !== "ok" && result !== "refused") this.t.is(result, "ok", reason);
      return result === "ok";
    });
  }

  async kill(): Promise<void> {
    const { owner } = await this.live();
    killAgent(owner);
    await lab.control.connectionOf(this.port, (one) => one.owner !== owner && one.phase === "LIVE");
  }

  live() {
    return lab.control.connectionOf(this.port, (one) => one.protected && one.phase === "LIVE");
  }
}

/** One connection to the sample under capture; it must have been one, and neither side may have reset it. */
function conversation(
  title: string,
  play: (conversation: Conversation) => Promise<void>,
  options: { ipv6?: boolean } = {},
): void {
  test(title, async (t) => {
    const capture = await Capture.start(`tcp port ${PORT}`);
    const dialer = await Dialer.start();
    const { socket, localPort } = await dialer.connect({ ...options, port: PORT });
    await play(new Conversation(t, socket, localPort, capture));
    socket.destroy();
    dialer.close();
    assertOneConnection(t, factsOf(await capture.stop(), localPort));
  });
}

for (const ipv6 of [false, true]) {
  conversation(
    `question and answer, through 20 moves and 2 killed owners: IPv${ipv6 ? 6 : 4}`,
    async (conversation) => {
      const { t, socket } = conversation;
      let disturbing = true;
      const disturbed = (async () => {
        for (let move = 1; move <= 20; move++) {
          await conversation.move();
          if (move % 8 !== 0) continue;
          await conversation.kill();
          await labHeal();
        }
      })().finally(() => {
        disturbing = false;
      });
      disturbed.catch(() => {}); // it is awaited when the conversation is over
      let asked = 0;
      while (disturbing || asked < 300) {
        socket.write(lineOf(++asked));
        await conversation.answered(asked);
      }
      await disturbed;
      const { layers } = await lab.control.connection((await conversation.live()).id);
      const app = layers.find(({ layer }) => layer === "app");
      t.deepEqual(JSON.parse(app!.stateJson), { application: "echo", version: 1, state: { lines: asked } });
      t.log(`${asked} lines`);
      socket.end();
      await conversation.ended();
    },
    { ipv6 },
  );
}

conversation("half a line is sent when its server goes: moved, then killed, then moved", async (conversation) => {
  const { socket, port } = conversation;
  const line = "a line in four parts, the last of them \\r\\n\r\n";
  let sent = 0;
  const part = async (end: number) => {
    socket.write(line.slice(sent, end));
    sent = end;
    await lab.control.connectionOf(port, (one) => one.bytesReceived >= lineOf(1).length + end);
  };
  socket.write(lineOf(1));
  await conversation.answered(1);
  await part(10);
  await conversation.move();
  await part(20);
  await conversation.kill();
  await part(line.length - 1);
  await conversation.move();
  socket.write("\n");
  await conversation.answered(2, () => line);
  socket.end("no end");
  await conversation.answered(3, () => "no end");
  await conversation.ended();
});

conversation("many lines under way all the time, through 10 moves and a killed owner", async (conversation) => {
  const { t, socket } = conversation;
  const BURST = 500;
  let disturbing = true;
  const disturbed = (async () => {
    for (let move = 1; move <= 10; move++) {
      await conversation.move();
      if (move === 5) await conversation.kill();
    }
  })().finally(() => {
    disturbing = false;
  });
  disturbed.catch(() => {});
  let asked = 0;
  const asking = (async () => {
    while (disturbing) {
      const burst = Array.from({ length: BURST }, () => lineOf(++asked)).join("");
      if (!socket.write(burst)) await once(socket, "drain");
    }
    socket.end();
  })();
  for (let read = BURST; disturbing; read += BURST) await conversation.answered(read);
  await disturbed;
  await asking;
  await conversation.answered(asked);
  await conversation.ended();
  t.log(`${asked} lines`);
});

conversation(
  "a client that writes and does not read: it is moved, its server is killed, then it reads",
  async (conversation) => {
    const { t, socket, port, capture } = conversation;
    const lines = 60_000;
    const sent = linesOf(lines);
    socket.write(sent);
    await eventually("the client's window is shut", () =>
      capture.segments.some((one) => one.fromClient && one.client.port === port && !one.syn && one.window === 0),
    );
    await conversation.move();
    await conversation.kill();
    await conversation.move();
    const { bytesReceived, bytesSent } = await conversation.live();
    t.true(bytesReceived < sent.length, `${bytesReceived} of ${sent.length} were read`);
    t.log(`${bytesReceived} bytes read, ${bytesSent} sent`);
    await conversation.answered(lines);
    socket.end();
    await conversation.ended();
  },
);

conversation(
  "its owner dies between the store's word and its own, which shuts the client's window",
  async (conversation) => {
    const { socket, port, capture } = conversation;
    const lines = 200_000;
    socket.write(linesOf(lines));
    const answered = conversation.answered(lines);
    const { id, owner } = await conversation.live();
    const told = () => capture.segments.findLast((one) => !one.fromClient && one.client.port === port)!;
    const standsBetween = async () => {
      const worker = signal(pidOf(owner, "agent"), "SIGSTOP");
      const isShut = await eventually("the window is shut", () => told().window === 0, 2_000).catch(() => false);
      const tcp = (await lab.control.connection(id)).layers.find(({ layer }) => layer === "tcp")!;
      const { clientSeq } = JSON.parse(tcp.stateJson) as { clientSeq: number };
      if (isShut && distance(told().ack, clientSeq) > 0) return true;
      if (!lives(worker)) return true; // its supervisor found that it stood still for too long
      signal(worker, "SIGCONT");
      await eventually("the window is open", () => told().window > 0);
      return false;
    };
    await eventually("its owner stands still with lines stored that the client was not told of", standsBetween, 60_000);
    await conversation.kill();
    await answered;
    socket.end();
    await conversation.ended();
  },
);

conversation("a half-closed client that reads slowly is moved, and its server killed", async (conversation) => {
  const { socket } = conversation;
  const lines = 20_000;
  socket.end(linesOf(lines));
  for (let read = 1000; read <= lines; read += 1000) {
    await conversation.answered(read);
    if (read <= 3000) await conversation.move();
    if (read === 4000) await conversation.kill();
  }
  await conversation.ended();
});

conversation("a line without an end: one sentence, then the server's end", async (conversation) => {
  const { t, socket, reader } = conversation;
  socket.write(lineOf(1));
  await conversation.answered(1);
  socket.write("x".repeat(300_000));
  t.is(await reader.next(), "Line 2 is longer than 65536 bytes, the most that is echoed: the connection ends here.\n");
  await conversation.ended();
  socket.end();
  await once(socket, "finish");
});

test("a stock client, a shell's own socket, talks through a move and a killed owner", async (t) => {
  const script = `exec 3<>/dev/tcp/${VIP}/${PORT}; while read -r line; do echo "$line" >&3; read -r -u 3 answer; echo "$answer"; done`;
  const shell = spawnOn("client", ["bash", "-c", script], { stdio: ["pipe", "pipe", "inherit"] });
  const answers = (shell.stdout as NodeJS.ReadableStream)[Symbol.asyncIterator]();
  const ask = async (number: number) => {
    shell.stdin!.write(lineOf(number));
    t.is(String((await answers.next()).value), numbered(number, lineOf(number)));
  };
  const only = () =>
    eventually("the shell's connection", async () => {
      const found = await lab.control.connections({ protocol: "app" });
      return found.find((one) => one.protected && one.phase === "LIVE");
    });
  await ask(1);
  const { id, owner } = await only();
  t.is((await lab.control.move(id, await another(owner))).result, "ok");
  await ask(2);
  killAgent((await only()).owner);
  await ask(3);
  shell.stdin!.end();
  const [code] = await once(shell, "exit");
  t.is(code, 0);
});
