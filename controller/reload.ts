import { type Config, reloadConfig } from "../proto/config/index.js";
import { BatonError } from "../proto/errors.js";
import { logger } from "../proto/log.js";

const log = logger("controller");

/** SIGHUP: the file as it is by now, if it is right and may change under way. Whatever it is, nothing happens to live connections. */
export class Reload {
  /** @param apply makes it so. Where it throws, it is called again with what there was before. */
  constructor(
    private running: Config,
    private readonly apply: (config: Config) => void,
  ) {}

  /** What goes. */
  get config(): Config {
    return this.running;
  }

  request(): void {
    try {
      this.goOver(reloadConfig(this.running));
    } catch (error) {
      const reason = (error as Error).message;
      const detail = error instanceof BatonError ? { reason } : { err: error, reason };
      log.error(detail, "the new configuration is not taken over: this controller goes on as before");
    }
  }

  private goOver(next: Config): void {
    try {
      this.apply(next);
    } catch (error) {
      this.apply(this.running);
      throw error;
    }
    this.running = next;
    log.info({ file: next.file }, "goes by the new configuration");
  }
}
