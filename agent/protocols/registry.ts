import type { ServiceConfig } from "../../proto/config/index.js";
import type { Protocol } from "../../proto/vocabulary.js";
import type { DirectoryContent } from "../content/index.js";
import type { Native } from "../native/api.js";
import type { Origin } from "../upstream/index.js";
import { EchoApplication } from "./app/echo.js";
import { AppLayer } from "./app/layer.js";
import type { ApplicationFactory } from "./application.js";
import { DirectoryHandler } from "./http/directory.js";
import { HttpLayer } from "./http/layer.js";
import { UpstreamHandler } from "./http/upstream.js";

/** What a service has for its protocol, which asks for what it needs. */
export interface ServiceParts {
  /** Opens the directory that the configuration names. Throws CONTENT_UNAVAILABLE. */
  content(): Promise<DirectoryContent>;
  /** The server behind this one that the configuration names instead of a directory. */
  origin: Origin | undefined;
  repeat: ServiceConfig["repeat"];
  /** A response of that server's with at most so many bytes may be kept in a record. */
  literalBytes: number;
  native: Native;
  /** Client bytes of a connection that may wait for the application. */
  inputBytes: number;
}

interface ProtocolEntry {
  /** The client speaks first: a connection of which nothing is recorded has nothing to lose. */
  clientFirst: boolean;
  /** Called once a service, before its first connection. */
  factory(parts: ServiceParts): Promise<ApplicationFactory>;
}

/** Every application protocol, by the name that records and the configuration use. */
export const applicationProtocols: Record<Protocol, ProtocolEntry> = {
  http: {
    clientFirst: true,
    factory: async (parts) => {
      const { origin, native, repeat, literalBytes } = parts;
      const handler = origin
        ? new UpstreamHandler(origin, native, { repeat, literalBytes })
        : new DirectoryHandler(await parts.content());
      return (port, inputOffset) => new HttpLayer(port, inputOffset, handler);
    },
  },
  app: {
    clientFirst: true,
    factory: async ({ inputBytes }) => {
      const start = () => new EchoApplication(inputBytes);
      return (port, inputOffset) => new AppLayer(port, inputOffset, start);
    },
  },
};
