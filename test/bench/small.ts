import { writeFileSync } from "node:fs";
import { stringify } from "yaml";
import { labConfig } from "../lab/config.js";
import { runOn, VIP } from "../support/host.js";
import { labDown, labUp } from "../support/lab.js";
import { BenchContent } from "./files.js";
import { startHaproxy } from "./haproxy.js";
import { startNginx } from "./nginx.js";
import { quantile, type Report } from "./report.js";

const ROUNDS = 7;
const REQUESTS = 5_000;
const CONNECTIONS = 64;
const PLAIN_PORT = 8082;

/**
 * Small responses: requests a second of 100 bytes over 64 kept connections, by h2load. The agent before an nginx with protection and without,
 * HAProxy before the same nginx, and nginx alone, turn by turn on one host.
 */
export async function small(): Promise<Report> {
  const content = new BenchContent({ "100b.bin": 100 });
  const config = `${content.directory}.yaml`;
  const lab = labConfig({ servers: 1, content: content.directory, cgroups: "/sys/fs/cgroup/unified" });
  const web = lab.services.find(({ name }) => name === "web")!;
  const plain = { ...web, name: "web-plain", port: PLAIN_PORT, protect: false };
  writeFileSync(config, stringify({ ...lab, services: [...lab.services, plain] }));
  const rates: Record<string, number[]> = { on: [], off: [], haproxy: [], nginx: [] };
  try {
    await labUp({ servers: 1, content: content.directory, config });
    const nginx = await startNginx(content.directory);
    const haproxy = await startHaproxy();
    const urls = {
      on: `http://${VIP}:${web.port}`,
      off: `http://${VIP}:${PLAIN_PORT}`,
      haproxy: haproxy.url,
      nginx: nginx.url,
    };
    for (let round = 0; round <= ROUNDS; round++) {
      const turns = Object.entries(urls);
      for (const [name, url] of round % 2 === 0 ? turns : turns.toReversed()) {
        const rate = await requestsPerSecond(`${url}/100b.bin`);
        if (round > 0) rates[name]!.push(rate); // the first warms up
      }
    }
    await haproxy.stop();
    await nginx.stop();
  } finally {
    await labDown();
    content.remove();
  }
  const median = (name: string) => quantile(rates[name]!, 0.5);
  const ratio = (one: string, other: string) =>
    quantile(
      rates[one]!.map((value, i) => value / rates[other]![i]!),
      0.5,
    );
  return {
    name: "small",
    measures: [
      { what: "requests of 100 bytes, protection on / off", value: ratio("on", "off"), unit: "", atLeast: 0.6 },
      { what: "agent before nginx, protection on", value: median("on"), unit: "req/s" },
      { what: "agent before nginx, protection off", value: median("off"), unit: "req/s" },
      { what: "HAProxy before nginx", value: median("haproxy"), unit: "req/s" },
      { what: "nginx alone", value: median("nginx"), unit: "req/s" },
    ],
    raw: rates,
  };
}

async function requestsPerSecond(url: string): Promise<number> {
  const said = await runOn("client", "h2load", "--h1", `-c${CONNECTIONS}`, `-n${REQUESTS}`, url);
  if (!said.includes(`${REQUESTS} succeeded, 0 failed`)) throw new Error(`h2load: ${said}`);
  return Number(/finished in .*?, ([\d.]+) req\/s/.exec(said)?.[1]);
}
