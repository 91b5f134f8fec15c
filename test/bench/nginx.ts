import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { eventually } from "../support/eventually.js";
import { runOn, spawnOn } from "../support/host.js";

const PORT = 8088;
const STATE = "/run/baton-bench-nginx";

/** A plain nginx on s1's own address, over the same files: sendfile, one process, no log. @returns its base URL and its end */
export async function startNginx(directory: string): Promise<{ url: string; stop: () => Promise<void> }> {
  mkdirSync(STATE, { recursive: true });
  const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${STATE}/${name};`,
  );
  writeFileSync(
    `${STATE}/nginx.conf`,
    `daemon off; master_process off; pid ${STATE}/pid; error_log stderr; user root;
    events { worker_connections 4096; }
    http {
      sendfile on; tcp_nopush on; access_log off; ${paths.join(" ")}
      server { listen 10.77.0.101:${PORT} backlog=4096; root ${directory}; }
    }\n`,
  );
  const nginx = spawnOn("s1", ["nginx", "-c", `${STATE}/nginx.conf`], { stdio: ["ignore", "inherit", "inherit"] });
  const url = `http://10.77.0.101:${PORT}`;
  await eventually("nginx answers", async () => (await runOn("client", "curl", "-sf", `${url}/hello.txt`)).length > 0);
  return {
    url,
    stop: async () => {
      const ended = new Promise((resolve) => nginx.once("exit", resolve));
      nginx.kill("SIGKILL");
      await ended;
      rmSync(STATE, { recursive: true, force: true });
    },
  };
}
