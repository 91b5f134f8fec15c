import { randomInt } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { digestOfGenerated } from "../lab/generated.js";
import { Download } from "../support/download.js";
import { killAgent } from "../support/fault.js";
import { labTest } from "../support/fixture.js";
import { LAB, runOn, VIP } from "../support/host.js";
import { labHeal } from "../support/lab.js";

const { test, lab } = labTest();
const KILLS = Number(process.env.KILLS ?? 200);
const PORT = 8080;
const SERVERS = ["s1", "s2", "s3"];
const MINUTES = 60;
const BODY = "1k.bin";
const LARGE = "10m.bin";

/** What a client asks for, over and over. @returns what went wrong; "" = nothing */
type Client = (number: number) => Promise<string>;

async function downloaded(path: string, sha256: string, curl: string[] = [], rate?: string): Promise<string> {
  const result = await new Download(path, { servicePort: PORT, seconds: 110, curl, ...(rate ? { rate } : {}) }).done;
  const right = result.exit === 0 && result.sha256 === sha256 && result.connects === 1;
  return right ? "" : `${path}: exit ${result.exit}, status ${result.status}, ${result.bytes} bytes, ${result.error}`;
}

async function executions(name: string): Promise<number> {
  return Number(
    await runOn("client", "curl", "-sS", "--max-time", "60", `http://${VIP}:${PORT}/app/executions/${name}`),
  );
}

/** @returns the status that the client got */
async function upload(method: string, name: string, body: string, ...headers: string[]): Promise<number> {
  const url = `http://${VIP}:${PORT}/app/upload/${name}?ms=${randomInt(300)}`;
  const more = headers.flatMap((header) => ["-H", header]);
  const command = [
    "-sS",
    "-X",
    method,
    "--data-binary",
    `@${LAB}/content/${body}`,
    "-o",
    "/dev/null",
    "-w",
    "%{http_code}",
  ];
  return Number(await runOn("client", "curl", ...command, "--max-time", "60", ...more, url));
}

const stored = (name: string, body: string) =>
  readFileSync(`${LAB}/uploads/${name}`).equals(readFileSync(`${LAB}/content/${body}`))
    ? ""
    : `${name} is stored wrongly`;

const clients: Record<string, Client> = {
  static: async () => downloaded("/10m.bin", await lab.digestOf("10m.bin"), [], "3M"),
  ranged: async (number) => {
    const start = (number * 777_777) % 5_000_000;
    const digest = await lab.digestOf("10m.bin", start, start + 4_000_000);
    return downloaded("/10m.bin", digest, ["-r", `${start}-${start + 3_999_999}`], "2M");
  },
  generated: (number) => {
    const seed = String(number);
    return downloaded(`/app/stream?bytes=2000000&seed=${seed}&ms=1`, digestOfGenerated(2_000_000, seed));
  },
  put: async (number) => {
    const name = `put${number}`;
    const status = await upload("PUT", name, BODY);
    return status === 200 ? stored(name, BODY) : `${name}: status ${status}`;
  },
  large: async (number) => {
    const name = `large${number}`;
    const status = await upload("PUT", name, LARGE);
    const problem = status === 200 ? stored(name, LARGE) : `${name}: status ${status}`;
    rmSync(`${LAB}/uploads/${name}`, { force: true });
    return problem;
  },
  keyed: async (number) => {
    const name = `keyed${number}`;
    const status = await upload("POST", name, BODY, `Idempotency-Key: ${number}`);
    return status === 200 ? stored(name, BODY) : `${name}: status ${status}`;
  },
  post: async (number) => {
    const name = `post${number}`;
    const status = await upload("POST", name, BODY);
    const times = await executions(name);
    if (times > 1) return `${name} was executed ${times} times`;
    if (status === 502) return "";
    return status === 200 && times === 1 ? stored(name, BODY) : `${name}: status ${status}, executed ${times} times`;
  },
};

test(
  `${KILLS} kills at random moments of mixed traffic in front of nginx`,
  async (t) => {
    let over = false;
    const counts: Record<string, number> = {};
    const running = Object.entries(clients).map(async ([name, client]) => {
      const wrong: string[] = [];
      for (let number = 0; !over; number++) {
        const problem = await client(number).catch((error: Error) => `${name}: ${error.message}`);
        if (problem) wrong.push(`${name} ${number}: ${problem}`);
        counts[name] = number + 1;
      }
      return wrong;
    });
    for (let kill = 0; kill < KILLS; kill++) {
      await new Promise((resolve) => setTimeout(resolve, randomInt(1_000)));
      killAgent(SERVERS[randomInt(SERVERS.length)]!);
      await labHeal();
    }
    over = true;
    const wrong = (await Promise.all(running)).flat();
    t.log(JSON.stringify(counts));
    t.deepEqual(wrong, []);
  },
  MINUTES * 60_000,
);
