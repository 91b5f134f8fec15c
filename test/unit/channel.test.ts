import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { Channel, listenForChannels } from "../../agent/channel.js";
import { eventually } from "../support/eventually.js";

function socketPath(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), "baton-channel-test-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "c.sock");
}

test("messages of any size arrive whole and in order, also those that come before anybody listens", async (t) => {
  const path = socketPath(t);
  let server: Channel<{ text: string }, number> | undefined;
  const listening = await listenForChannels<{ text: string }, number>(path, (channel) => {
    server = channel;
  });
  const client = await Channel.connect<number, { text: string }>(path);
  const sent = ["", "a", "ä\n".repeat(3), "x".repeat(3 * 1024 * 1024), "last"];
  for (const text of sent) client.send({ text });
  const got: string[] = [];
  const channel = await eventually("it is there", () => server);
  channel.onMessage(({ text }) => got.push(text));
  await eventually("everything has come", () => got.length === sent.length);
  t.deepEqual(got, sent);
  channel.send(1);
  channel.close();
  const answers: number[] = [];
  client.onMessage((number) => answers.push(number));
  await client.closed;
  t.deepEqual(answers, [1], "what was sent before the end has left");
  listening.close();
});

test("nobody there, and somebody who does not speak JSON", async (t) => {
  const path = socketPath(t);
  await t.throwsAsync(Channel.connect(path), { code: "AGENT_UNAVAILABLE", message: /c\.sock: ENOENT\.$/ });
  const gone: Array<Promise<void>> = [];
  const listening = await listenForChannels(path, (channel) => {
    channel.onMessage(() => t.fail());
    gone.push(channel.closed);
  });
  const socket = connect(path);
  socket.write("GET / HTTP/1.1\r\n\r\n");
  socket.on("error", () => {});
  await eventually("it is met", () => gone.length === 1);
  await gone[0];
  socket.destroy();
  listening.close();
  t.pass();
});
