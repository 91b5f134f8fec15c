import type { Protocol } from "../../proto/vocabulary.js";
import type { DirectoryContent } from "../content/index.js";
import type { ApplicationFactory } from "./application.js";
import { HttpLayer } from "./http/layer.js";

/** What a service gives to its protocol. */
export interface ServiceParts {
  content: DirectoryContent;
}

interface ProtocolEntry {
  /** The client speaks first: a connection of which nothing is recorded has nothing to lose. */
  clientFirst: boolean;
  factory(parts: ServiceParts): ApplicationFactory;
}

/** Every application protocol, by the name that records and the configuration use. */
export const applicationProtocols: Record<Protocol, ProtocolEntry> = {
  http: {
    clientFirst: true,
    factory:
      ({ content }) =>
      (port, inputOffset) =>
        new HttpLayer(port, inputOffset, content),
  },
};
