import { pathToFileURL } from "node:url";
import { stringify } from "yaml";

const LAB = "/run/baton/lab";

export interface LabConfigOptions {
  servers: number;
  /** Directory that every server serves. */
  content: string;
  /** Where the unified cgroup hierarchy is mounted. */
  cgroups: string;
  /** Server id to a directory of its own. */
  ownContent?: Record<string, string>;
}

const BROADCAST = "/broadcast.mp4";
const multicast = [
  { file: BROADCAST, group: "239.77.0.1", port: 5_004, ttl: 4 },
  { file: BROADCAST, group: "ff15::77:1", port: 5_004, ttl: 4 },
];

/** The lab's configuration as test/lab/up writes it, before it becomes YAML; tests change parts of it. */
export function labConfig(options: LabConfigOptions) {
  const place = (host: string) => ({
    state: `${LAB}/${host}`,
    pins: `/sys/fs/bpf/baton/${host}`,
    cgroup: `${options.cgroups}/baton/${host}`,
  });
  const servers = Array.from({ length: options.servers }, (_, index) => {
    const id = `s${index + 1}`;
    const address = `10.77.0.${101 + index}`;
    return { id, interface: "eth0", address, metrics: `${address}:9601`, ...place(id) };
  });
  return {
    cluster: "lab",
    vips: ["10.77.0.100", "fd77::100"],
    nats: { listen: "10.77.0.1:4222" } as { listen: string } | { url: string | string[] },
    controllers: [
      {
        id: "lb1",
        interface: "eth0",
        listen: "10.77.0.1:7600",
        socket: `${LAB}/lb1/api.sock`,
        metrics: "10.77.0.1:9600",
        ...place("lb1"),
      },
    ],
    servers,
    services: [
      {
        name: "http",
        port: 80,
        protocol: "http",
        directory: options.content,
        ...(options.ownContent && Object.keys(options.ownContent).length > 0
          ? { directories: options.ownContent }
          : {}),
        validator: "sha256",
      },
      { name: "app", port: 7, protocol: "app" },
      { name: "ftp", port: 21, protocol: "ftp", directory: options.content, users: `${LAB}/ftp-users` },
      { name: "rtsp", port: 554, protocol: "rtsp", directory: options.content, multicast },
      { name: "web", port: 8080, protocol: "http", upstream: "http://127.0.0.1:8081" },
    ],
  };
}

// usage: config.js SERVERS CONTENT CGROUPS [HOST=DIRECTORY]...
if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [servers, content, cgroups, ...own] = process.argv.slice(2);
  const ownContent = Object.fromEntries(own.map((pair) => pair.split(/=(.*)/s).slice(0, 2) as [string, string]));
  process.stdout.write(
    stringify(labConfig({ servers: Number(servers), content: content!, cgroups: cgroups!, ownContent })),
  );
}
