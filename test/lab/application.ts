import { randomUUID } from "node:crypto";
import { createServer, type ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { generated } from "./generated.js";

/**
 * The dynamic part of what the lab's agents stand before, behind nginx:
 *
 *   GET /app/stream?bytes=N&seed=S&ms=M   N bytes in chunks, M ms between them, the same for the same seed; without one others each time
 */
const server = createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://localhost");
  if (request.method === "GET" && url.pathname === "/app/stream") void stream(url.searchParams, response);
  else response.writeHead(404).end();
});

async function stream(query: URLSearchParams, response: ServerResponse): Promise<void> {
  const ms = Number(query.get("ms") ?? 0);
  response.setHeader("Content-Type", "application/octet-stream");
  let open = true;
  response.once("close", () => {
    open = false;
  });
  for (const chunk of generated(Number(query.get("bytes") ?? 0), query.get("seed") ?? randomUUID())) {
    if (!response.write(chunk)) await new Promise((resolve) => response.once("drain", resolve).once("close", resolve));
    if (ms > 0) await delay(ms);
    if (!open) return;
  }
  response.end();
}

// usage: application.js PORT
server.listen(Number(process.argv[2]), "127.0.0.1");
