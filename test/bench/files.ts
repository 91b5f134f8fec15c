import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { makeContent } from "../lab/content.js";

/** A directory of files for a benchmark: small ones as in the lab, and sparse ones of any size, which cost no disk. */
export class BenchContent {
  readonly directory = mkdtempSync("/var/tmp/baton-bench-");

  constructor(sparse: Record<string, number> = {}) {
    makeContent(this.directory, { "1k.bin": 1024, "100k.bin": 100 * 1024 });
    for (const [name, bytes] of Object.entries(sparse)) {
      const fd = openSync(`${this.directory}/${name}`, "w");
      ftruncateSync(fd, bytes);
      closeSync(fd);
    }
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
