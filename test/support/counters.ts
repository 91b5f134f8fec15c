/** Where Linux counts, of a network namespace. */
export const COUNTERS = ["/proc/net/snmp", "/proc/net/netstat"];

/** Linux' own counters by name, e.g. "Tcp.RetransSegs", "TcpExt.TCPTimeouts". @param text what stands in COUNTERS */
export function countersIn(text: string): Record<string, number> {
  const lines = text.trim().split("\n");
  const counters: Record<string, number> = {};
  for (let i = 0; i + 1 < lines.length; i += 2) {
    const [group, ...names] = lines[i]!.split(" ");
    const values = lines[i + 1]!.split(" ").slice(1);
    for (const [at, name] of names.entries()) counters[`${group!.slice(0, -1)}.${name}`] = Number(values[at]);
  }
  return counters;
}
