import { accessSync, constants, statSync } from "node:fs";
import { BatonError } from "../errors.js";
import { directoryOf } from "./lookup.js";
import { type Config, servesDirectory } from "./schema.js";

/** Throws CONTENT_UNAVAILABLE unless every directory that `serverId` serves is there and can be read. */
export function requireContent(config: Config, serverId: string): void {
  for (const service of config.services) {
    if (!servesDirectory[service.protocol] || service.upstream !== undefined) continue;
    if (service.directory === undefined && service.users !== undefined) continue; // nobody comes without a password
    const directory = directoryOf(service, serverId);
    const fail = (why: string, cause?: unknown) => {
      throw new BatonError(
        "CONTENT_UNAVAILABLE",
        `The directory ${directory} of service ${service.name} ${why}.`,
        cause,
      );
    };
    try {
      if (!statSync(directory).isDirectory()) fail("is not a directory");
      accessSync(directory, constants.R_OK | constants.X_OK);
    } catch (error) {
      if (error instanceof BatonError) throw error;
      fail((error as NodeJS.ErrnoException).code === "ENOENT" ? "does not exist" : "cannot be read", error);
    }
  }
}
