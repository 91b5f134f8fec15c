import { createHash, randomUUID } from "node:crypto";
import { appendFileSync, createWriteStream, existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { generated } from "./generated.js";

/**
 * The dynamic part of what the lab's agents stand before, behind nginx:
 *
 *   GET, POST /app/stream?bytes=N&seed=S&ms=M   N bytes in chunks, M ms between them, the same for the same seed; without one others each time
 *   PUT, POST /app/upload/NAME?ms=M       stores the body for all servers; M ms later answers with its SHA-256
 *   GET /app/executions/NAME              how often that was done, on all servers together
 *
 * With &gate=NAME what is left waits until there is an upload of that name: the answer to an upload; of a stream what is behind &open=N bytes.
 */
const UPLOADS = "/run/baton/lab/uploads";
const EXECUTIONS = "/run/baton/lab/executions";
for (const folder of [UPLOADS, EXECUTIONS]) mkdirSync(folder, { recursive: true });

const server = createServer((request, response) => {
  const { method = "", url = "/" } = request;
  const { pathname, searchParams } = new URL(url, "http://localhost");
  const [, what, name] = /^\/app\/(upload|executions)\/([A-Za-z0-9._-]+)$/.exec(pathname) ?? [];
  if (["GET", "POST"].includes(method) && pathname === "/app/stream") void stream(searchParams, response);
  else if (name && what === "upload" && ["PUT", "POST"].includes(method)) {
    upload(name, searchParams, request, response).catch(() => response.destroy());
  } else if (name && what === "executions" && method === "GET") response.end(`${executions(name)}\n`);
  else response.writeHead(404).end();
});

async function upload(
  name: string,
  query: URLSearchParams,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const hash = createHash("sha256");
  const file = `${UPLOADS}/${name}`;
  const part = `${file}.${randomUUID()}`;
  const hashing = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      done(null, chunk);
    },
  });
  await pipeline(request, hashing, createWriteStream(part));
  renameSync(part, file);
  appendFileSync(`${EXECUTIONS}/${name}`, "x"); // one system call: whoever does so at the same time is counted as well
  await delay(Number(query.get("ms") ?? 0));
  await gate(query, response);
  response.end(`${hash.digest("hex")}\n`);
}

/** Resolves when the gate is open, or nobody waits at it any more. */
async function gate(query: URLSearchParams, response: ServerResponse): Promise<void> {
  const name = query.get("gate");
  while (name && !existsSync(`${UPLOADS}/${name}`) && !response.destroyed) await delay(10);
}

function executions(name: string): number {
  try {
    return readFileSync(`${EXECUTIONS}/${name}`).length;
  } catch {
    return 0;
  }
}

async function stream(query: URLSearchParams, response: ServerResponse): Promise<void> {
  const ms = Number(query.get("ms") ?? 0);
  const openTo = Number(query.get("open") ?? Number.POSITIVE_INFINITY);
  let sent = 0;
  response.setHeader("Content-Type", "application/octet-stream");
  let open = true;
  response.once("close", () => {
    open = false;
  });
  for (const chunk of generated(Number(query.get("bytes") ?? 0), query.get("seed") ?? randomUUID())) {
    if (sent >= openTo) await gate(query, response);
    sent += chunk.length;
    if (!response.write(chunk)) await new Promise((resolve) => response.once("drain", resolve).once("close", resolve));
    if (ms > 0) await delay(ms);
    if (!open) return;
  }
  response.end();
}

// usage: application.js PORT
server.listen(Number(process.argv[2]), "127.0.0.1");
