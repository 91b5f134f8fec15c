import { writeFileSync } from "node:fs";
import { stringify } from "yaml";
import { labConfig } from "../lab/config.js";
import { VIP } from "../support/host.js";
import { labDown, labUp } from "../support/lab.js";
import { bulk, firstByte } from "./curl.js";
import { BenchContent } from "./files.js";
import { startHaproxy } from "./haproxy.js";
import { startNginx } from "./nginx.js";
import { quantile, type Report } from "./report.js";
import { upload } from "./upload.js";

const ROUNDS = 11;
const REQUESTS = 201;
const UNPROTECTED_PORT = 81;
const UPSTREAM_PORT = 8080;

/**
 * What protection costs: the same agent, the same file, one service protected and one not, and one before an nginx, turn by turn. Beside
 * them HAProxy before the same nginx, and nginx alone; their packets go straight to the server, the agent's by the appliance.
 */
export async function cost(): Promise<Report> {
  const content = new BenchContent({ "bulk.bin": 1024 * 1024 * 1024 });
  const config = `${content.directory}.yaml`;
  const lab = labConfig({ servers: 1, content: content.directory, cgroups: "/sys/fs/cgroup/unified" });
  const plain = { ...lab.services[0]!, name: "plain", port: UNPROTECTED_PORT, protect: false };
  writeFileSync(config, stringify({ ...lab, services: [...lab.services, plain] }));
  const speed: Record<string, number[]> = { protected: [], unprotected: [], upstream: [], haproxy: [], nginx: [] };
  const kept: Record<string, number[]> = { protected: [], unprotected: [], upstream: [], haproxy: [], nginx: [] };
  const fresh: Record<string, number[]> = { protected: [], unprotected: [], upstream: [], haproxy: [], nginx: [] };
  const uploads: Record<string, number[]> = { protected: [], unprotected: [] };
  try {
    await labUp({ servers: 1, content: content.directory, config });
    const nginx = await startNginx(content.directory);
    const haproxy = await startHaproxy();
    const urls = {
      protected: `http://${VIP}`,
      unprotected: `http://${VIP}:${UNPROTECTED_PORT}`,
      upstream: `http://${VIP}:${UPSTREAM_PORT}`,
      haproxy: haproxy.url,
      nginx: nginx.url,
    };
    for (let round = 0; round < ROUNDS; round++) {
      // Turn by turn in either order: the machine's speed drifts, and the ratio of a pair bears that.
      const turns = Object.entries(urls);
      for (const [name, url] of round % 2 === 0 ? turns : turns.toReversed()) {
        speed[name]!.push(await bulk(`${url}/bulk.bin`));
        kept[name]!.push(quantile(await firstByte(`${url}/1k.bin`, REQUESTS, false), 0.5));
        fresh[name]!.push(quantile(await firstByte(`${url}/1k.bin`, REQUESTS, true), 0.5));
        if (name in uploads) uploads[name]!.push(await upload(name === "protected" ? 80 : UNPROTECTED_PORT));
      }
    }
    await haproxy.stop();
    await nginx.stop();
  } finally {
    await labDown();
    content.remove();
  }
  const median = (values: number[]) => quantile(values, 0.5);
  const ratio = (one: number[], other: number[]) => median(one.map((value, i) => value / other[i]!));
  const best = (values: number[]) => Math.min(...values);
  return {
    name: "cost",
    measures: [
      {
        what: "bulk, protected / unprotected",
        value: ratio(speed.protected!, speed.unprotected!),
        unit: "",
        atLeast: 0.95,
      },
      {
        what: "bulk, agent (protected) / nginx",
        value: ratio(speed.protected!, speed.nginx!),
        unit: "",
        atLeast: 0.9,
      },
      {
        what: "bulk, agent before nginx / nginx",
        value: ratio(speed.upstream!, speed.nginx!),
        unit: "",
        atLeast: 0.85,
      },
      { what: "bulk, HAProxy before nginx / nginx", value: ratio(speed.haproxy!, speed.nginx!), unit: "" },
      {
        what: "bulk, agent before nginx / HAProxy before nginx",
        value: ratio(speed.upstream!, speed.haproxy!),
        unit: "",
      },
      {
        what: "upload with input commit / without",
        value: ratio(uploads.protected!, uploads.unprotected!),
        unit: "",
        atLeast: 0.8,
      },
      { what: "upload with input commit", value: median(uploads.protected!) / 1e6, unit: "MB/s" },
      { what: "bulk, protected", value: median(speed.protected!) / 1e6, unit: "MB/s" },
      { what: "bulk, agent before nginx", value: median(speed.upstream!) / 1e6, unit: "MB/s" },
      { what: "bulk, HAProxy before nginx", value: median(speed.haproxy!) / 1e6, unit: "MB/s" },
      { what: "bulk, nginx", value: median(speed.nginx!) / 1e6, unit: "MB/s" },
      {
        what: "time to first byte p50, kept alive, added by protection",
        value: best(kept.protected!) - best(kept.unprotected!),
        unit: "ms",
        atMost: 0.5,
      },
      {
        what: "time to first byte p50, new connection, added by protection",
        value: best(fresh.protected!) - best(fresh.unprotected!),
        unit: "ms",
        atMost: 0.5,
      },
      { what: "time to first byte p50, kept alive, protected", value: best(kept.protected!), unit: "ms" },
      { what: "time to first byte p50, kept alive, agent before nginx", value: best(kept.upstream!), unit: "ms" },
      { what: "time to first byte p50, kept alive, nginx", value: best(kept.nginx!), unit: "ms" },
    ],
    raw: { speed, kept, fresh, uploads },
  };
}
