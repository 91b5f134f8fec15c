import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

function findRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const manifest = join(folder, "package.json");
    if (existsSync(manifest) && JSON.parse(readFileSync(manifest, "utf8")).name === "baton") return folder;
    const parent = dirname(folder);
    if (parent === folder) throw new Error("no package.json of baton above this file: the installation is incomplete");
    folder = parent;
  }
}

/** The repository's (or installation's) root folder, whether this runs from dist/ or from source. */
export const root = findRoot();

/** Path of a native addon built by `make native`: "bpf" or "tcp". */
export function addon(name: string): string {
  return join(root, "build", "Release", `${name}.node`);
}

/** Path of a BPF object built by `make bpf`: "steer" or "guard". */
export function bpfObject(name: string): string {
  return join(root, "build", "bpf", `${name}.bpf.o`);
}
