import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { BundleWatch, bundlesIn, splitByEvents } from "../support/bundles.js";
import { ClientProgram } from "../support/client_program.js";
import { answeredBy, crowd } from "../support/crowd.js";
import { Dialer } from "../support/dialer.js";
import { eventually } from "../support/eventually.js";
import { cutLink, killAgent, signal } from "../support/fault.js";
import { labTest } from "../support/fixture.js";
import { DataReader, FtpSession, type SessionOptions, writeAll } from "../support/ftp_session.js";
import { LAB, pidOf, VIP, VIP6 } from "../support/host.js";
import { labHeal } from "../support/lab.js";
import { sha256Of } from "../support/sha256.js";

const { test, lab } = labTest();
const FILES = `${LAB}/ftp`;
const WRITER: SessionOptions = { user: "lab", password: "lab" };
const MANY = 3_000;
const SERVERS = 3;

/** Brings a session to where it stands. @returns what it does from there on, and what is wrong then; "" = nothing */
type Stage = (session: FtpSession, name: string) => Promise<() => Promise<string>>;

const wrong = (is: unknown, wanted: unknown, what: string) => (is === wanted ? "" : `${what}: ${is}, not ${wanted}`);

async function downloaded(session: FtpSession, name: string): Promise<string> {
  const data = await session.open();
  await session.command(`RETR ${name}`, 150);
  const digest = await new DataReader(data).end();
  await session.expect(226);
  return wrong(digest, await lab.digestOf(name), name);
}

const reading: Record<string, Stage> = {
  idle: async (session) => async () => {
    await session.command("PWD", 257);
    return downloaded(session, "100k.bin");
  },
  announced: async (session) => {
    const port = await session.announce();
    return async () => {
      const data = await session.connect(port);
      await session.command("RETR 100k.bin", 150);
      const digest = await new DataReader(data).end();
      await session.expect(226);
      return wrong(digest, await lab.digestOf("100k.bin"), "digest");
    };
  },
  opened: async (session) => {
    const data = await session.open();
    return async () => {
      await session.command("RETR 100k.bin", 150);
      const digest = await new DataReader(data).end();
      await session.expect(226);
      return wrong(digest, await lab.digestOf("100k.bin"), "digest");
    };
  },
  "commanded ahead": async (session) => {
    const port = await session.announce();
    session.say("RETR 100k.bin");
    return async () => {
      const data = await session.connect(port);
      await session.expect(150);
      const digest = await new DataReader(data).end();
      await session.expect(226);
      return wrong(digest, await lab.digestOf("100k.bin"), "digest");
    };
  },
  retrieving: async (session) => {
    const reader = new DataReader(await session.open());
    await session.command("REST 1000", 350);
    await session.command("RETR 10m.bin", 150);
    await reader.reach(1_000_000);
    return async () => {
      const digest = await reader.end();
      await session.expect(226);
      return wrong(digest, await lab.digestOf("10m.bin", 1_000), "digest") || downloaded(session, "1k.bin");
    };
  },
};

const writing: Record<string, Stage> = {
  listing: async (session) => {
    const reader = new DataReader(await session.open());
    await session.command("NLST many", 150);
    await reader.reach(1_000);
    return async () => {
      const digest = await reader.end();
      await session.expect(226);
      const names = readdirSync(`${FILES}/many`).sort();
      const list = createHash("sha256").update(names.map((name) => `${name}\r\n`).join(""));
      return wrong(digest, list.digest("hex"), `listing of ${reader.bytes} bytes`);
    };
  },
  storing: async (session, name) => {
    const bytes = randomBytes(6_000_000);
    const data = await session.open();
    await session.command(`STOR ${name}`, 150);
    await writeAll(data, bytes.subarray(0, 3_000_000));
    return async () => {
      await writeAll(data, bytes.subarray(3_000_000));
      data.end();
      await session.expect(226);
      return readFileSync(`${FILES}/${name}`).equals(bytes) ? "" : "it is stored wrongly";
    };
  },
  appending: async (session, name) => {
    writeFileSync(`${FILES}/${name}`, "at first. ");
    const data = await session.open();
    await session.command(`APPE ${name}`, 150);
    await writeAll(data, Buffer.from("then this, "));
    return async () => {
      data.end("and that.");
      await session.expect(226);
      return wrong(readFileSync(`${FILES}/${name}`, "utf8"), "at first. then this, and that.", name);
    };
  },
  renaming: async (session, name) => {
    writeFileSync(`${FILES}/${name}`, "x");
    await session.command(`RNFR ${name}`, 350);
    return async () => {
      await session.command(`RNTO ${name}.new`, 250);
      await session.command(`SIZE ${name}.new`, 213);
      await session.command(`DELE ${name}.new`, 250);
      return "";
    };
  },
};

const drain = (server: string) => lab.control.drain(server, 20_000);
const faults: Record<string, (server: string) => unknown> = {
  "its agent killed": killAgent,
  "its host cut off": cutLink,
  "it is drained": drain,
};

/** The overload policy may have taken it up already. */
async function moveTo(server: string, port: number): Promise<void> {
  await eventually(`${port} is at ${server}`, async () => {
    const { id, owner } = await lab.control.connectionOf(port, (one) => one.protected);
    return owner === server || (await lab.control.move(id, server)).result === "ok";
  });
}

function makeMany(): void {
  mkdirSync(`${FILES}/many`, { recursive: true });
  for (let i = 0; i < MANY; i++) writeFileSync(`${FILES}/many/file-${i}-with-a-name-of-some-length`, "");
}

for (const [what, fault] of Object.entries(faults)) {
  test(`sessions in every state, moved to one server, then ${what}`, async (t) => {
    makeMany();
    const dialer = await Dialer.start();
    const watch = new BundleWatch(lab.control);
    const before = (await lab.control.events()).length;
    const stages = [
      ...Object.entries(reading).map(([name, stage]) => ({ name, stage, options: {} })),
      ...Object.entries(writing).map(([name, stage]) => ({ name, stage, options: WRITER })),
    ];
    const sessions = await Promise.all(
      stages.map(async ({ name, stage, options }, at) => {
        const session = await FtpSession.open(dialer, { ...options, ipv6: at % 2 === 1 });
        return { name, session, goOn: await stage(session, `${name}-${at}`) };
      }),
    );
    for (const { session } of sessions) {
      await moveTo("s1", session.port);
    }
    await fault("s1");
    for (const { name, session } of sessions) {
      await lab.control
        .connectionOf(session.port, ({ owner, phase }) => owner !== "s1" && phase === "LIVE", 10_000)
        .catch(async (error) => {
          t.log(name, JSON.stringify((await lab.control.events()).slice(before)));
          throw error;
        });
      t.log(name);
    }
    const after = (await lab.control.events()).slice(before);
    t.deepEqual(
      after.filter(({ kind, result }) => (kind === "takeover" || kind === "migration") && result !== "ok"),
      [],
    );
    for (const [bundle, rows] of bundlesIn(await lab.control.connections())) {
      t.is(new Set(rows.map(({ owner }) => owner)).size, 1, bundle);
    }
    const ends = await Promise.all(
      sessions.map(async ({ name, goOn }) => [name, await goOn().catch((error: Error) => error.message)] as const),
    );
    t.deepEqual(
      ends.filter(([, said]) => said !== ""),
      [],
    );
    for (const { session } of sessions) await session.command("QUIT", 221);
    await watch.end();
    t.deepEqual(watch.split, [], `in ${watch.looks} looks`);
    t.deepEqual(splitByEvents((await lab.control.events()).slice(before)), []);
    dialer.close();
    if (fault === drain) await lab.control.undrain("s1");
  });
}

test("data has come, and 226 has not been recorded: it comes from the next server", async (t) => {
  const dialer = await Dialer.start();
  const session = await FtpSession.open(dialer);
  const data = await session.open();
  const reader = new DataReader(data);
  await session.command("RETR 100k.bin", 150);
  const { owner } = await lab.control.connectionOf(session.port, (one) => one.protected);
  const store = signal(pidOf("lb1", "nats"), "SIGSTOP");
  try {
    t.is(await reader.end(), await lab.digestOf("100k.bin"));
    killAgent(owner);
  } finally {
    signal(store, "SIGCONT");
  }
  await session.expect(226);
  t.is(await downloaded(session, "1k.bin"), "");
  dialer.close();
});

const PYTHON = `
import ftplib, io, sys
for host in sys.argv[1:]:
    ftp = ftplib.FTP(host)
    ftp.login("lab", "lab")
    ftp.mkd("from-python")
    ftp.cwd("from-python")
    ftp.storbinary("STOR a", io.BytesIO(b"a" * 100000))
    assert ftp.size("a") == 100000
    ftp.rename("a", "b")
    assert [name for name, facts in ftp.mlsd() if facts["type"] == "file"] == ["b"]
    out = io.BytesIO()
    ftp.retrbinary("RETR b", out.write, rest=10)
    assert out.getvalue() == b"a" * 99990
    ftp.delete("b")
    ftp.cwd("..")
    ftp.rmd("from-python")
    assert ftp.quit().startswith("221")
print("done")
`;

const clients: Record<string, (folder: string) => string[]> = {
  "curl, to its own port": (folder) => [
    ...[
      "sh",
      "-c",
      `curl -sS -P - -T ${LAB}/content/10m.bin ftp://lab:lab@${VIP}/up.bin && curl -sS -P - -g ftp://lab:lab@[${VIP6}]/up.bin -o ${folder}/got`,
    ],
  ],
  "curl, uploading": (folder) => [
    ...[
      "sh",
      "-c",
      `curl -sS -T ${LAB}/content/10m.bin ftp://lab:lab@${VIP}/up.bin && curl -sS -g ftp://lab:lab@[${VIP6}]/up.bin -o ${folder}/got`,
    ],
  ],
  "Python's ftplib": () => ["python3", "-c", PYTHON, VIP, VIP6],
  lftp: (folder) => ["lftp", "-c", `open ${VIP}; mirror --parallel=4 / ${folder}/tree`],
  "the BSD ftp": (folder) => [
    ...[
      "sh",
      "-c",
      `printf 'user anonymous x\\nbinary\\npassive\\nget 10m.bin ${folder}/got\\nbye\\n' | ftp -n ${VIP}`,
    ],
  ],
};

for (const [name, command] of Object.entries(clients)) {
  test(`stock clients: ${name}`, async (t) => {
    const client = new ClientProgram(command);
    const { exit, output } = await client.done;
    t.is(exit, 0, output);
    const got = readdirSync(client.folder).includes("got") ? `${client.folder}/got` : undefined;
    if (got) t.is(await sha256Of(got), await lab.digestOf("10m.bin"));
    if (name === "lftp") t.is(await sha256Of(`${client.folder}/tree/100m.bin`), await lab.digestOf("100m.bin"));
    rmSync(`${FILES}/up.bin`, { force: true });
  });
}

test("lftp mirrors with four connections through three deaths", async (t) => {
  const client = new ClientProgram((folder) => [
    ...["lftp", "-c", `set net:limit-total-rate 2000000; open ${VIP}; mirror --parallel=4 / ${folder}/tree`],
  ]);
  for (let deaths = 0; deaths < 3; deaths++) {
    const owner = await eventually("it is at work", async () => {
      if (client.isOver) throw new Error("it is over");
      return (await lab.control.connections({ protocol: "ftp" })).find(({ bundle, id }) => bundle !== id)?.owner;
    });
    killAgent(owner);
    await labHeal();
  }
  const { exit, output } = await client.done;
  t.is(exit, 0, output);
  for (const name of readdirSync(`${LAB}/content`)) {
    t.is(await sha256Of(`${client.folder}/tree/${name}`), await lab.digestOf(name), name);
  }
});

test("a data connection to the client's own port outlives its server", async (t) => {
  const client = new ClientProgram((folder) => [
    ...["curl", "-sS", "-P", "-", "--limit-rate", "20M", `ftp://${VIP}/100m.bin`, "-o", `${folder}/got`],
  ]);
  const { owner } = await eventually("it is under way", async () =>
    (await lab.control.connections({ protocol: "ftp" })).find(
      ({ vip, bytesSent }) => vip.endsWith(":20") && bytesSent > 0,
    ),
  );
  killAgent(owner);
  const { exit, output } = await client.done;
  t.is(exit, 0, output);
  t.is(await sha256Of(`${client.folder}/got`), await lab.digestOf("100m.bin"));
});

test("what is bad is answered, and hurts nothing", async (t) => {
  const dialer = await Dialer.start();
  const session = await FtpSession.open(dialer);
  for (const [line, code] of [
    ["RETR ../../../etc/passwd", 425],
    ["SIZE ../../../etc/passwd", 550],
    ["CWD /../..", 250],
    ["CWD no/such/place", 550],
    ["STOR x", 425],
    ["DELE 1k.bin", 550],
    ["MKD x", 550],
    ["AUTH TLS", 504],
    ["PROT P", 503],
    ["PORT 10,77,0,1,100,22", 501],
    ["PORT 10,77,0,10,0,22", 501],
    ["EPRT |2|fd77::1|9999|", 501],
    ["TYPE E", 504],
    ["NOSUCH", 502],
    ["\u0001\u0002", 500],
    [`CWD ${"x".repeat(5_000)}`, 500],
    ["NOOP", 200],
  ] as const) {
    t.notThrows(
      await session.command(line, code).then(
        () => () => {},
        (error) => () => {
          throw error;
        },
      ),
      line,
    );
  }
  const rest = await FtpSession.open(dialer, WRITER);
  t.regex(await rest.command("PWD", 257), /"\/"/);
  const { socket } = await dialer.connect({ port: 21 });
  socket.write(Buffer.alloc(40_000, "x"));
  await once(socket.resume(), "end");
  dialer.close();
});

const CROWDED = 3_000;
const HALF_OPEN_MAX = 256;

test(`${CROWDED} half-open sessions of one client leave room for the others`, async (t) => {
  const dialer = await Dialer.start();
  const before = await FtpSession.open(dialer, { ipv6: true });
  const reader = new DataReader(await before.open());
  await before.command("RETR 10m.bin", 150);
  const answers = await crowd(21, CROWDED, "");
  t.log(JSON.stringify(answers));
  const [greeted, turnedAway] = [answeredBy(answers, "220"), answeredBy(answers, "421")];
  t.is(greeted + turnedAway, CROWDED);
  t.true(greeted <= HALF_OPEN_MAX * SERVERS);
  t.is(await reader.end(), await lab.digestOf("10m.bin"));
  await before.expect(226);
  const after = await FtpSession.open(dialer, { ipv6: true });
  t.is(await downloaded(after, "100k.bin"), "");
  t.is((await lab.control.connections({ protocol: "ftp" })).filter(({ phase }) => phase !== "LIVE").length, 0);
  dialer.close();
});
