import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { eventually } from "../support/eventually.js";
import { runOn, spawnOn } from "../support/host.js";

const PORT = 8089;
const STATE = "/run/baton-bench-haproxy";

/** HAProxy as HTTP proxy on s1's own address, before the same nginx as the lab's agent. @returns its base URL and its end */
export async function startHaproxy(): Promise<{ url: string; stop: () => Promise<void> }> {
  mkdirSync(STATE, { recursive: true });
  writeFileSync(
    `${STATE}/haproxy.cfg`,
    `defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option forwardfor
  option splice-response
listen web
  bind 10.77.0.101:${PORT}
  server nginx 127.0.0.1:8081
`,
  );
  const haproxy = spawnOn("s1", ["haproxy", "-db", "-f", `${STATE}/haproxy.cfg`], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  const url = `http://10.77.0.101:${PORT}`;
  await eventually(
    "HAProxy answers",
    async () => (await runOn("client", "curl", "-sf", `${url}/hello.txt`)).length > 0,
  );
  return {
    url,
    stop: async () => {
      const ended = new Promise((resolve) => haproxy.once("exit", resolve));
      haproxy.kill("SIGKILL");
      await ended;
      rmSync(STATE, { recursive: true, force: true });
    },
  };
}
