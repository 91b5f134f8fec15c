import { runOn } from "../support/host.js";

/** Bytes a second of one whole download to /dev/null. */
export async function bulk(url: string): Promise<number> {
  const said = await runOn("client", "curl", "-sSf", "-o", "/dev/null", "-w", "%{speed_download}", url);
  return Number(said);
}

/**
 * Milliseconds from a request to the first byte of its response, one request after the other.
 * @param fresh a new connection for each; else one that is kept alive
 */
export async function firstByte(url: string, requests: number, fresh: boolean): Promise<number[]> {
  const urls = Array.from({ length: requests }, () => ["-o", "/dev/null", url]).flat();
  const close = fresh ? ["-H", "Connection: close"] : [];
  const said = await runOn(
    "client",
    "curl",
    "-sSf",
    ...close,
    "-w",
    "%{time_pretransfer} %{time_starttransfer}\n",
    ...urls,
  );
  const times = said
    .trim()
    .split("\n")
    .map((line) => line.split(" ").map(Number) as [number, number]);
  // The first request of a process pays for its start.
  return times.slice(1).map(([asked, answered]) => (answered - asked) * 1000);
}
