import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { makeUserLine } from "../../agent/protocols/rtsp/users.js";
import { Dialer } from "../support/dialer.js";
import { eventually } from "../support/eventually.js";
import { signal } from "../support/fault.js";
import { makeFilm } from "../support/film.js";
import { labTest } from "../support/fixture.js";
import { cgroupMount, lives, pidOf, VIP } from "../support/host.js";
import { logOf } from "../support/lab.js";
import { authorization, isRun, Receiver, type RtspAnswer, RtspClient } from "../support/rtsp.js";
import { takeOver } from "../support/takeover.js";
import { labConfig } from "./config.js";

const directory = mkdtempSync(join(tmpdir(), "baton-passwords-"));
const FILM = "film.mp4";
const PORT = 8554;
const BASE = `rtsp://${VIP}:${PORT}`;
const URL = `${BASE}/${FILM}`;
const SERVERS = ["s1", "s2", "s3"];
const users = join(directory, "rtsp-users");
const anna = makeUserLine({ name: "anna", realm: "films" }, "secret");
writeFileSync(users, `${anna}\n`, { mode: 0o600 });

const pictures = makeFilm(directory, FILM, 8);
const { services, ...rest } = labConfig({ servers: SERVERS.length, content: directory, cgroups: cgroupMount() });
const guarded = { name: "films", port: PORT, protocol: "rtsp", directory, users, realm: "films" };
const config = join(directory, "config.yaml");
writeFileSync(config, stringify({ ...rest, services: [...services, { ...guarded, relatedPorts: "31200-31299" }] }));
const { test, lab } = labTest({ config }, () => rmSync(directory, { recursive: true }));

const withPassword = (user: string, password: string) => `rtsp://${user}:${password}@${VIP}:${PORT}`;
const answerTo = (challenged: RtspAnswer, method: string, target = URL) =>
  authorization(challenged, { user: "anna", password: "secret", method, target });

test("a film with a password outlives its server, over the connection and in datagrams", async (t) => {
  const base = withPassword("anna", "secret");
  const both = [new Receiver(directory, FILM, "tcp", base), new Receiver(directory, FILM, "udp", base)];
  const [connection] = await eventually("they play", async () => {
    const all = await lab.control.connections({ protocol: "rtsp" });
    const controls = all.filter(({ bundle, id }) => bundle === id);
    return all.filter(({ bytesSent }) => Number(bytesSent) > 100_000).length >= 2 && controls;
  });
  const { layers } = await lab.control.connection(connection!.id);
  t.regex(JSON.stringify(layers), /anna/, "whose it is can be seen");
  await takeOver(t, lab.control, connection!.id);
  for (const receiver of both) {
    const received = await receiver.done;
    t.is(received.exit, 0, received.error);
    t.deepEqual(received.pictures, pictures);
  }
});

test("without the right password nothing is played, and elsewhere none is asked for", async (t) => {
  for (const base of [withPassword("anna", "guess"), withPassword("ben", "secret"), BASE]) {
    const { exit, error } = await new Receiver(directory, FILM, "tcp", base).done;
    t.not(exit, 0);
    t.regex(error, /401/);
  }
  const { exit, error } = await new Receiver(directory, FILM, "tcp").done;
  t.is(exit, 0, error);
});

test("a server dies between challenge and answer, and while it plays for who gave one", async (t) => {
  const dialer = await Dialer.start();
  const { socket, localPort } = await dialer.connect({ port: PORT });
  const client = new RtspClient(socket);
  const challenged = await client.ask("DESCRIBE", URL);
  t.is(challenged.status, 401);
  const { id } = await lab.control.connectionOf(localPort);
  await takeOver(t, lab.control, id);
  t.is((await client.ask("DESCRIBE", URL, answerTo(challenged, "DESCRIBE"))).status, 200, "on another server");

  const track = `${URL}/trackID=1`;
  const transport = { Transport: "RTP/AVP/TCP;unicast;interleaved=0-1" };
  const set = await client.ask("SETUP", track, { ...transport, ...answerTo(challenged, "SETUP", track) });
  t.is(set.status, 200);
  const session = { Session: set.headers.get("Session")!.split(";")[0]! };
  t.is((await client.ask("PLAY", URL, session)).status, 401, "every request says who asks");
  t.is((await client.ask("PLAY", URL, { ...session, ...answerTo(challenged, "PLAY") })).status, 200);
  await eventually("it plays", () => client.sequences(0).length > 50);
  await takeOver(t, lab.control, id);
  const count = client.sequences(0).length;
  await eventually("it plays on", () => client.sequences(0).length > count + 50);
  t.is((await client.ask("PAUSE", URL, session)).status, 401);
  t.is((await client.ask("PAUSE", URL, { ...session, ...answerTo(challenged, "PAUSE") })).status, 200);
  const sequences = client.sequences(0);
  t.true(isRun(sequences));
  socket.end();
});

test("users come and go with SIGHUP, and a file that is wrong changes nothing", async (t) => {
  const dialer = await Dialer.start();
  const { socket } = await dialer.connect({ port: PORT });
  const client = new RtspClient(socket);
  const challenged = await client.ask("DESCRIBE", URL);
  t.is((await client.ask("DESCRIBE", URL, answerTo(challenged, "DESCRIBE"))).status, 200);
  const supervisors = () => SERVERS.map((server) => pidOf(server, "supervisor"));
  const before = supervisors();

  writeFileSync(users, "anna:secret\n");
  const log = logOf("s1", "agent");
  signal(before[0]!, "SIGHUP");
  await eventually(
    "it says why",
    () => /rtsp-users:1: 2 fields instead of/.test(log()) && !log().includes("secret"),
    60_000,
  );
  t.deepEqual(supervisors(), before);

  writeFileSync(users, `${anna}\n${makeUserLine({ name: "ben", realm: "films" }, "other")}\n`);
  for (const pid of before) signal(pid, "SIGHUP");
  await eventually("others serve", () => before.every((pid, at) => !lives(pid) && supervisors()[at] !== pid), 60_000);
  const stale = await client.ask("DESCRIBE", URL, answerTo(challenged, "DESCRIBE"));
  t.is(stale.status, 401);
  t.regex(stale.headers.get("WWW-Authenticate") ?? "", /stale=true/, "nobody is asked for the password again");
  t.is((await client.ask("DESCRIBE", URL, answerTo(stale, "DESCRIBE"))).status, 200);
  const { exit, error } = await new Receiver(directory, FILM, "tcp", withPassword("ben", "other")).done;
  t.is(exit, 0, error);
  socket.end();
});
