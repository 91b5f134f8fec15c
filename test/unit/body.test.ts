import { once } from "node:events";
import { createServer, get, type IncomingMessage, type ServerResponse } from "node:http";
import test, { type ExecutionContext } from "ava";
import { Body } from "../../agent/upstream/body.js";

const IDLE_MS = 200;

/** The body of an answer that the test gives bit by bit. */
async function scene(t: ExecutionContext): Promise<{ body: Body; message: IncomingMessage; response: ServerResponse }> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const asked = once(server, "request");
  const request = get({ host: "127.0.0.1", port: (server.address() as { port: number }).port });
  request.on("error", () => {});
  const [, response] = (await asked) as [IncomingMessage, ServerResponse];
  response.flushHeaders();
  const [message] = (await once(request, "response")) as [IncomingMessage];
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return { body: new Body(message, IDLE_MS), message, response };
}

test("a body that stands still while it is waited for is given up", async (t) => {
  const { body, message, response } = await scene(t);
  const parts = body.parts();
  response.write("first");
  t.deepEqual((await parts.next()).value, Buffer.from("first"));
  await t.throwsAsync(parts.next(), { message: `nothing came of a body for ${IDLE_MS} ms` });
  t.true(message.destroyed);
});

test("a body for which nobody waits may stand still", async (t) => {
  const { body, response } = await scene(t);
  const parts = body.parts();
  response.write("first");
  t.deepEqual((await parts.next()).value, Buffer.from("first"));
  await new Promise((resolve) => setTimeout(resolve, 2 * IDLE_MS)); // a client that takes nothing
  response.end("last");
  t.deepEqual((await parts.next()).value, Buffer.from("last"));
  t.true((await parts.next()).done);
});

test("who leaves before the end ends the connection", async (t) => {
  const { body, message, response } = await scene(t);
  response.write("much");
  t.is(await body.collect(3), undefined);
  t.true(message.destroyed);
});
