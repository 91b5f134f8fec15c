import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { COUNTERS, countersIn } from "../../support/counters.js";

/** Both families' addresses: the client's and the VIP, which both servers have on lo. */
export const addresses = {
  IPv4: { client: "10.98.0.10", vip: "10.98.0.100" },
  IPv6: { client: "fd98::10", vip: "fd98::100" },
} as const;
export type Family = keyof typeof addresses;
export const families: Family[] = ["IPv4", "IPv6"];

/** Mark of the segments made by hand (bpf/shared.h, BATON_MARK). */
const MARK = "0xba70";
const TABLE = "100";

export type HostName = "client" | "s1" | "s2";

function ip(...words: string[]): void {
  execFileSync("ip", words, { stdio: ["ignore", "ignore", "pipe"] });
}

/**
 * A client between two servers, each over a link of its own, in namespaces of their own. The client's route says who has the VIP.
 * The second server starts shut: only segments made by hand find their way out, so that its kernel cannot reset a connection
 * that it does not have yet. (In production the guard sees to that.)
 *
 *      s1 ── eth1 ── client ── eth2 ── s2
 */
export class Network {
  constructor(private readonly name: string) {
    // A run that was cut off leaves its own behind.
    this.remove();
    this.#makeHost("client");
    this.#address("client", "lo", "10.98.0.10/32", "fd98::10/128");
    for (const [number, server] of [[1, "s1"] as const, [2, "s2"] as const]) {
      this.#makeHost(server);
      ip(
        "-n",
        this.namespace("client"),
        "link",
        "add",
        `eth${number}`,
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        this.namespace(server),
      );
      this.#address("client", `eth${number}`, `10.98.${number}.1/24`, `fd98:${number}::1/64`);
      this.#address(server, "eth0", `10.98.${number}.2/24`, `fd98:${number}::2/64`);
      this.#address(server, "lo", "10.98.0.100/32", "fd98::100/128");
      for (const table of ["main", TABLE]) this.#routeToClient(server, table, number);
      for (const family of ["-4", "-6"])
        ip("-n", this.namespace(server), family, "rule", "add", "fwmark", MARK, "table", TABLE);
    }
    this.shut("s2");
    this.giveVipTo("s1");
  }

  namespace(host: HostName): string {
    return `${this.name}-${host}`;
  }

  /** Prefix of a command that runs it on a host. */
  enter(host: HostName): [string, string] {
    return ["nsenter", `--net=/run/netns/${this.namespace(host)}`];
  }

  /** What Linux has counted on a host. */
  async counters(host: HostName): Promise<Record<string, number>> {
    const [command, option] = this.enter(host);
    return countersIn(execFileSync(command, [option, "cat", ...COUNTERS], { encoding: "utf8" }));
  }

  giveVipTo(server: "s1" | "s2"): void {
    const number = server.slice(1);
    ip(
      "-n",
      this.namespace("client"),
      "route",
      "replace",
      addresses.IPv4.vip,
      "via",
      `10.98.${number}.2`,
      "src",
      addresses.IPv4.client,
    );
    ip(
      "-n",
      this.namespace("client"),
      "-6",
      "route",
      "replace",
      addresses.IPv6.vip,
      "via",
      `fd98:${number}::2`,
      "src",
      addresses.IPv6.client,
    );
  }

  /** Takes the server's link away; the client loses no route that it still needs. */
  cut(server: "s1" | "s2"): void {
    ip("-n", this.namespace(server), "link", "set", "eth0", "down");
  }

  shut(server: "s1" | "s2"): void {
    ip("-n", this.namespace(server), "route", "replace", "blackhole", addresses.IPv4.client);
    ip("-n", this.namespace(server), "-6", "route", "del", addresses.IPv6.client);
    ip("-n", this.namespace(server), "-6", "route", "add", "blackhole", addresses.IPv6.client);
  }

  open(server: "s1" | "s2"): void {
    ip("-n", this.namespace(server), "-6", "route", "del", "blackhole", addresses.IPv6.client);
    this.#routeToClient(server, "main", Number(server.slice(1)));
  }

  remove(): void {
    for (const host of ["client", "s1", "s2"] as const) {
      const namespace = this.namespace(host);
      if (existsSync(`/run/netns/${namespace}`)) ip("netns", "del", namespace);
    }
  }

  #makeHost(host: HostName): void {
    const namespace = this.namespace(host);
    ip("netns", "add", namespace);
    for (const setting of [
      "net.ipv4.conf.all.rp_filter=0",
      "net.ipv4.conf.default.rp_filter=0",
      "net.ipv6.conf.default.accept_dad=0",
    ]) {
      execFileSync("nsenter", [`--net=/run/netns/${namespace}`, "sysctl", "-qw", setting]);
    }
    ip("-n", namespace, "link", "set", "lo", "up");
  }

  #address(host: HostName, link: string, v4: string, v6: string): void {
    const namespace = this.namespace(host);
    ip("-n", namespace, "addr", "add", v4, "dev", link);
    ip("-n", namespace, "addr", "add", v6, "dev", link, "nodad");
    ip("-n", namespace, "link", "set", link, "up");
  }

  #routeToClient(server: "s1" | "s2", table: string, number: number): void {
    const namespace = this.namespace(server);
    ip("-n", namespace, "route", "replace", addresses.IPv4.client, "via", `10.98.${number}.1`, "table", table);
    ip("-n", namespace, "-6", "route", "replace", addresses.IPv6.client, "via", `fd98:${number}::1`, "table", table);
  }
}
