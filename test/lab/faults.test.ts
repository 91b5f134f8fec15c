import type { EventMessage } from "../../proto/rpc/index.js";
import { eventually } from "../support/eventually.js";
import { signal } from "../support/fault.js";
import { assertSurvived, labTest, watchedDownload } from "../support/fixture.js";
import { lives, pidOf } from "../support/host.js";
import { labHeal } from "../support/lab.js";
import { inGuard, PHASES, type Way } from "../support/park.js";

const { test, lab } = labTest();
const FILE = "100m.bin";
const SERVERS = ["s1", "s2", "s3"];

type PhaseName = keyof typeof PHASES;
type Party = "owner" | "target" | "controller" | "nats";

/** How a move ends of which one party is killed in a phase. */
type Exit =
  /** The owner keeps the connection and was never without it. */
  | "stays"
  /** It was held or frozen; undone, the owner goes on. */
  | "resumedOnOld"
  /** It is the target's. */
  | "moved"
  /** Whoever had it is dead: a takeover like any other. */
  | "takeover";

/**
 * Each cell's exit. Where a store that comes back decides a race of two claims, both exits are right: exactly one of the claims lands.
 * The lab has one appliance, so its controller is the one that decides; the embedded store is a process of its own beside it.
 */
const EXITS: Record<PhaseName, Record<Party, Exit[]>> = {
  PREPARING: { owner: ["takeover"], target: ["stays"], controller: ["stays"], nats: ["moved", "stays"] },
  HELD: { owner: ["takeover"], target: ["resumedOnOld"], controller: ["moved"], nats: ["moved", "resumedOnOld"] },
  FROZEN: { owner: ["takeover"], target: ["resumedOnOld"], controller: ["resumedOnOld"], nats: ["resumedOnOld"] },
  UNREADY: {
    owner: ["takeover", "moved"],
    target: ["resumedOnOld"],
    controller: ["resumedOnOld", "moved"],
    nats: ["resumedOnOld", "moved"],
  },
  COMMITTED: { owner: ["moved"], target: ["takeover"], controller: ["moved"], nats: ["moved"] },
};

const processOf: Record<Party, (way: Way) => [host: string, name: string]> = {
  owner: ({ owner }) => [owner, "agent"],
  target: ({ target }) => [target, "agent"],
  controller: () => ["lb1", "controller"],
  nats: () => ["lb1", "nats"],
};

let cell = 0;
for (const [phase, row] of Object.entries(EXITS) as Array<[PhaseName, (typeof EXITS)[PhaseName]]>) {
  for (const [party, exits] of Object.entries(row) as Array<[Party, Exit[]]>) {
    const ipv6 = cell++ % 2 === 1;
    const title = `${phase}, ${party} killed: ${exits.join(" or ")} (IPv${ipv6 ? 6 : 4})`;
    test(title, async (t) => {
      const events = lab.control.follow();
      const outcome = await watchedDownload(FILE, { rate: "15M", ipv6 }, async (download) => {
        await download.reached(1024 * 1024);
        const { id, owner } = await lab.control.connectionOf(download.port, (one) => one.protected);
        const target = SERVERS[(SERVERS.indexOf(owner) + 1) % SERVERS.length]!;
        const way: Way = { control: lab.control, connection: id, owner, target };
        let answer: Promise<unknown> = Promise.resolve();
        const unpark = await PHASES[phase](way, () => {
          answer = lab.control.move(id, target).catch((error: Error) => error);
        });
        await kill(...processOf[party](way));
        // What the owner's own deadline undoes, with the way still blocked.
        if (exits.join() === "resumedOnOld" && phase !== "HELD") await inGuard(owner, id, "LIVE");
        if (party === "nats")
          await eventually("the store is back", async () => (await lab.control.status()).store?.connected);
        unpark();
        await answer;
        download.pause(); // it is not to be over before it can be seen whose it is
        await labHeal();
        t.log(await exitOf(way, events.seen, exits));
        download.goOn();
      });
      events.close();
      assertSurvived(t, outcome, await lab.digestOf(FILE));
    });
  }
}

async function kill(host: string, name: string): Promise<void> {
  const pid = signal(pidOf(host, name), "SIGKILL");
  await eventually(`${host}'s ${name} has ended`, () => !lives(pid));
}

/** The exit that the events tell, once the connection is where they say. */
async function exitOf({ connection, owner, target }: Way, seen: readonly EventMessage[], exits: Exit[]): Promise<Exit> {
  const of = (kind: string, result: string) =>
    seen.some((e) => e.connection === connection && e.kind === kind && e.result === result);
  const told = (at: string): Exit | undefined => {
    if (of("takeover", "ok")) return "takeover";
    if (of("migration", "ok")) return at === target ? "moved" : undefined;
    if (at !== owner) return undefined;
    return of("migration", "resumedOnOld") ? "resumedOnOld" : "stays";
  };
  return eventually(`its events say ${exits.join(" or ")}`, async () => {
    const one = (await lab.control.connections()).find(({ id }) => id === connection);
    const exit = one?.phase === "LIVE" ? told(one.owner) : undefined;
    return exit && exits.includes(exit) && exit;
  });
}
