import { readdirSync } from "node:fs";

function list(directory: string, prefix = ""): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => name.startsWith(prefix))
      .map((name) => `${directory}/${name}`);
  } catch {
    return [];
  }
}

/** Everything that a lab or a test makes outside of its process and that is there now; a clean machine gives []. */
export function leftovers(): string[] {
  return [
    ...list("/run/netns", "baton-"),
    ...list("/run/netns", "bt-"),
    ...list("/sys/fs/bpf", "baton"),
    ...list("/run", "baton"),
    ...list("/sys/fs/cgroup/unified", "baton"),
    ...list("/sys/fs/cgroup", "baton"),
  ];
}
