import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BundleWatch, splitByEvents } from "../../support/bundles.js";
import { ClientProgram } from "../../support/client_program.js";
import { Dialer } from "../../support/dialer.js";
import { eventually } from "../../support/eventually.js";
import { burn } from "../../support/fault.js";
import { makeFilm } from "../../support/film.js";
import { labTest } from "../../support/fixture.js";
import { DataReader, FtpSession } from "../../support/ftp_session.js";
import { VIP } from "../../support/host.js";
import { isRun, Receiver, RtspClient } from "../../support/rtsp.js";
import { sha256Of } from "../../support/sha256.js";
import { writeRandomFile } from "../content.js";

const directory = mkdtempSync(join(tmpdir(), "baton-bundles-"));
const [FILM, FILE] = ["film.mp4", "large.bin"];
const URL = `rtsp://${VIP}/${FILM}`;
const BURNT = "s1";
/** For the load to be seen, and everything to be moved away from it. */
const LEFT_MS = 45_000;
const TEST_MS = 180_000;

const pictures = makeFilm(directory, FILM, 60);
writeRandomFile(join(directory, FILE), "large", 64 * 1024 * 1024);
const { test, lab } = labTest({ content: directory }, () => rmSync(directory, { recursive: true }));

const controls = async () => (await lab.control.connections()).filter(({ id, bundle }) => id === bundle);

async function setUp(client: RtspClient): Promise<{ Session: string }> {
  let session = {} as { Session: string };
  for (const track of [1, 2]) {
    const transport = `RTP/AVP/TCP;unicast;interleaved=${2 * track - 2}-${2 * track - 1}`;
    const { headers } = await client.ask("SETUP", `${URL}/trackID=${track}`, { ...session, Transport: transport });
    session = { Session: headers.get("Session")!.split(";")[0]! };
  }
  return session;
}

test(
  "something else burns CPU on a server: its busy bundles leave it, each as one, and the others are not hurt",
  async (t) => {
    const dialer = await Dialer.start();
    const receivers = (["tcp", "udp"] as const).map((transport) => new Receiver(directory, FILM, transport));
    const connected = [await dialer.connect({ port: 554 }), await dialer.connect({ port: 554 })];
    const clients = connected.map(({ socket }) => new RtspClient(socket));
    const [ready, paused] = clients as [RtspClient, RtspClient];
    const [readySession, pausedSession] = [await setUp(ready), await setUp(paused)];
    await paused.ask("PLAY", URL, pausedSession);
    await eventually("it plays", () => paused.sequences(0).length > 50);
    await paused.ask("PAUSE", URL, pausedSession);
    const heard = paused.sequences(0).length;

    const [idle, announced] = [await FtpSession.open(dialer), await FtpSession.open(dialer, { ipv6: true })];
    const port = await announced.announce();
    const download = ["curl", "-sS", "--limit-rate", "1M", "-o", FILE, `ftp://${VIP}/${FILE}`];
    const reading = new ClientProgram(() => download);

    const all = await eventually("all are protected", async () => {
      const present = await controls();
      return present.length === 7 && present.every((one) => one.protected && one.phase === "LIVE") && present;
    });
    // A move may be undone, for instance where a related connection has just come.
    const bring = (id: string) =>
      eventually(`${id} is at ${BURNT}`, async () => {
        const { result, reason } = await lab.control.move(id, BURNT);
        if (result !== "ok") t.log(`${result}: ${reason}`);
        return result === "ok";
      });
    for (const { id, owner } of all) if (owner !== BURNT) await bring(id);
    const still = await Promise.all(
      [...connected.map(({ localPort }) => localPort), idle.port, announced.port].map((one) =>
        lab.control.connectionOf(one),
      ),
    );
    const busy = all.map(({ id }) => id).filter((id) => still.every((one) => one.id !== id));
    const watch = new BundleWatch(lab.control);
    const events = lab.control.follow();
    const burners = [burn(BURNT), burn(BURNT)]; // one alone is hardly more than what a busy machine makes the others wait for
    const gone = async () => {
      const ours = (await controls()).filter(({ id }) => busy.includes(id));
      return ours.length === busy.length && ours.every(({ owner, phase }) => owner !== BURNT && phase === "LIVE");
    };
    await eventually("those that are busy have left", gone, LEFT_MS, 100).catch(async (error) => {
      t.log(JSON.stringify(await lab.control.servers()));
      t.log(JSON.stringify(await lab.control.connections()));
      t.log(JSON.stringify(events.seen));
      throw error;
    });
    for (const burner of burners) burner.close();
    await watch.end();
    t.deepEqual(watch.split, [], `in ${watch.looks} looks`);
    t.deepEqual(splitByEvents(events.seen), []);
    const moves = events.seen.filter(({ kind, connection, bundle }) => kind === "migration" && connection === bundle);
    t.deepEqual(moves.map(({ connection }) => connection).toSorted(), busy.toSorted(), "each once, and no other");
    t.deepEqual(
      moves.filter(({ result, reason }) => result !== "ok" || !/^overload of s1: /.test(reason)),
      [],
    );

    t.is((await ready.ask("PLAY", URL, readySession)).status, 200);
    await eventually("the one plays", () => ready.sequences(0).length > 50);
    t.is(paused.sequences(0).length, heard, "the other is paused");
    t.is((await paused.ask("PLAY", URL, pausedSession)).status, 200);
    await eventually("and goes on", () => paused.sequences(0).length > heard + 50);
    for (const client of clients) {
      const sequences = client.sequences(0);
      t.true(isRun(sequences));
    }
    await idle.command("PWD", 257);
    const late = await announced.connect(port);
    await announced.command(`RETR ${FILE}`, 150);
    t.is(await new DataReader(late).end(), await lab.digestOf(FILE));
    await announced.expect(226);
    const { exit, output } = await reading.done;
    t.is(exit, 0, output);
    t.is(await sha256Of(join(reading.folder, FILE)), await lab.digestOf(FILE));
    for (const receiver of receivers) {
      const received = await receiver.done;
      t.is(received.exit, 0, received.error);
      t.deepEqual(received.pictures, pictures);
    }
    dialer.close();
  },
  TEST_MS,
);
