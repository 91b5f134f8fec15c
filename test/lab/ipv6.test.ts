import { Dialer } from "../support/dialer.js";
import { cutLink, killAgent } from "../support/fault.js";
import { assertSurvived, labTest, watchedDownload } from "../support/fixture.js";
import { get, ResponseReader } from "../support/http.js";

const { test, lab } = labTest();
const FILE = "100m.bin";
const BYTES = 100 * 1024 * 1024;

for (const [name, fault] of Object.entries({ "agent killed": killAgent, "host cut off": cutLink })) {
  test(`a download over IPv6 outlives its server: ${name}`, async (t) => {
    const outcome = await watchedDownload(FILE, { rate: "25M", ipv6: true }, async (download) => {
      await download.reached(BYTES / 4);
      const before = await lab.control.connectionOf(download.port, (one) => one.protected);
      t.regex(before.client, /^\[fd77::10\]:\d+$/);
      t.is(before.vip, "[fd77::100]:80");
      await fault(before.owner);
      await lab.control.connectionOf(download.port, (one) => one.owner !== before.owner && one.phase === "LIVE");
    });
    assertSurvived(t, outcome, await lab.digestOf(FILE));
    t.is(outcome.facts.senders.length, 2);
  });
}

test("an idle IPv6 client keeps its connection", async (t) => {
  const dialer = await Dialer.start();
  const { socket, localPort } = await dialer.connect({ ipv6: true });
  const reader = new ResponseReader(socket);
  for (const path of ["1m.bin", "100k.bin"]) {
    socket.write(get(`/${path}`));
    t.is((await reader.next()).sha256, await lab.digestOf(path));
    const before = await lab.control.connectionOf(localPort, (one) => one.phase === "LIVE");
    killAgent(before.owner);
    await lab.control.connectionOf(localPort, (one) => one.owner !== before.owner && one.phase === "LIVE");
  }
  socket.destroy();
  dialer.close();
});
