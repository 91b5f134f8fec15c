import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { runOn, VIP } from "../support/host.js";

const REQUESTS = 1_500;
const BODY_BYTES = 60_000;
const DEADLINE_MS = 60_000;

/**
 * Bytes a second that a client gets rid of: pipelined requests with bodies, over one connection, from its first byte to the last
 * response's head. Every byte is committed before it is acknowledged, where the service is protected.
 */
export async function upload(port: number): Promise<number> {
  return Number(await runOn("client", process.execPath, fileURLToPath(import.meta.url), String(port)));
}

/** In the client's namespace. */
function send(port: number): void {
  const head = `GET /1k.bin HTTP/1.1\r\nhost: ${VIP}\r\ncontent-length: ${BODY_BYTES}\r\n\r\n`;
  const request = Buffer.concat([Buffer.from(head), Buffer.alloc(BODY_BYTES, "x")]);
  const socket = connect({ host: VIP, port, noDelay: true });
  let begunAt = 0;
  let answered = 0;
  let rest = "";
  let sent = 0;
  const more = () => {
    while (sent < REQUESTS) {
      sent++;
      if (!socket.write(request)) return;
    }
  };
  socket.on("drain", more);
  socket.once("connect", () => {
    begunAt = performance.now();
    more();
  });
  socket.on("data", (chunk: Buffer) => {
    const text = rest + chunk.toString("latin1");
    answered += text.split("HTTP/1.1 200").length - 1;
    rest = text.slice(-("HTTP/1.1 200".length - 1)); // shorter than what is counted, so nothing is counted twice
    if (answered < REQUESTS) return;
    console.log((REQUESTS * request.length * 1000) / (performance.now() - begunAt));
    process.exit(0);
  });
  const fail = (why: string) => {
    console.error(`upload: ${why} after ${answered} of ${REQUESTS} answers`);
    process.exit(1);
  };
  socket.once("error", (error) => fail(error.message));
  setTimeout(() => fail(`not finished after ${DEADLINE_MS} ms`), DEADLINE_MS);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) send(Number(process.argv[2]));
