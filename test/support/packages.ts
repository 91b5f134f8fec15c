import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { root } from "../../proto/paths.js";

/** Installs the Debian packages of these names that are missing: those that are too large for every machine that runs the tests. */
export function needPackages(...names: string[]): void {
  execFileSync(join(root, ".ci/packages"), names, { stdio: ["ignore", 2, 2] });
}
