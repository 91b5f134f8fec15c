import { Download } from "../support/download.js";
import { labTest } from "../support/fixture.js";
import { countersOf } from "../support/host.js";

const { test, lab } = labTest();
const MOVES = 10_000;
const CLIENTS = 8;
const SERVERS = ["s1", "s2", "s3"];
const MINUTES = 40;

/** Downloads one file after the other until `over`, and moves each connection on and on. @returns what went wrong */
async function client(over: () => boolean, moved: () => void, wanted: string): Promise<string[]> {
  const wrong: string[] = [];
  while (!over()) {
    const download = new Download("/100m.bin", { rate: "6M" });
    let running = true;
    const done = download.done.finally(() => {
      running = false;
    });
    await download.reached(64 * 1024);
    while (running && !over()) {
      const { id, owner } = await lab.control
        .connectionOf(download.port, (one) => one.phase === "LIVE")
        .catch(() => ({
          id: "",
          owner: "",
        }));
      if (!id) break; // it has just ended
      const to = SERVERS[(SERVERS.indexOf(owner) + 1) % SERVERS.length]!;
      const event = await lab.control.move(id, to).catch(() => undefined);
      if (event?.result === "ok") moved();
    }
    const result = await done;
    if (result.exit !== 0 || result.sha256 !== wanted || result.connects !== 1) wrong.push(JSON.stringify(result));
  }
  return wrong;
}

test(
  `${MOVES} moves of live downloads: no byte wrong, no reset, nobody waited for a timeout`,
  async (t) => {
    const wanted = await lab.digestOf("100m.bin");
    const before = await countersOf("client");
    let moves = 0;
    const clients = Array.from({ length: CLIENTS }, () =>
      client(
        () => moves >= MOVES,
        () => moves++,
        wanted,
      ),
    );
    t.deepEqual((await Promise.all(clients)).flat(), []);
    const after = await countersOf("client");
    const grown = (name: string) => (after[name] ?? 0) - (before[name] ?? 0);
    t.log(
      `${moves} moves; client: RetransSegs ${grown("Tcp.RetransSegs")}, loss probes ${grown("TcpExt.TCPLossProbes")}`,
    );
    t.is(grown("Tcp.EstabResets"), 0, "resets that the client got");
    t.is(grown("TcpExt.TCPTimeouts"), 0, "timeouts of the client");
    const events = (await lab.control.events()).filter((event) => event.kind === "migration");
    const counts: Record<string, number> = {};
    for (const { result } of events) counts[result] = (counts[result] ?? 0) + 1;
    t.log(JSON.stringify(counts));
  },
  MINUTES * 60_000,
);
