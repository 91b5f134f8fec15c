import { dialledFrom, type GroupConfig, type PortRange, type ServiceConfig } from "../../proto/config/index.js";
import { BatonError } from "../../proto/errors.js";
import type { LayerSection } from "../../proto/record.js";
import type { Protocol } from "../../proto/vocabulary.js";
import type { DirectoryContent } from "../content/index.js";
import { Indexer } from "../media/index.js";
import type { Native } from "../native/api.js";
import type { Origin } from "../upstream/index.js";
import { EchoApplication } from "./app/echo.js";
import { AppLayer } from "./app/layer.js";
import type { ApplicationFactory, ConnectionPort } from "./application.js";
import { Areas } from "./ftp/areas.js";
import { FtpDataLayer } from "./ftp/data_layer.js";
import { FtpLayer } from "./ftp/layer.js";
import { DirectoryHandler } from "./http/directory.js";
import { HttpLayer } from "./http/layer.js";
import { UpstreamHandler } from "./http/upstream.js";
import type { Leads } from "./leads.js";
import { Channels } from "./rtsp/channel.js";
import { Films } from "./rtsp/films.js";
import { ForeseenFilms } from "./rtsp/foreseen.js";
import { RtspLayer } from "./rtsp/layer.js";
import { Users } from "./rtsp/users.js";

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
  /** File of those who have a password, if the configuration names one. */
  users: string | undefined;
  /** For which their passwords are; undefined where the protocol knows no such thing. */
  realm: string | undefined;
  /** Directory of the content, if there is one; and one for what is remembered. */
  directory: string | undefined;
  state: string;
  /** The service's own. */
  port: number;
  /** Ports of related flows; undefined where the protocol has none. */
  relatedPorts: PortRange | undefined;
  /** Groups that the configuration names, and who sends to them. */
  multicast: GroupConfig[];
  leads: Leads;
}

/** One for all services: it has one thread. */
const indexer = new Indexer();

interface ProtocolEntry {
  /** The client speaks first: a connection of which nothing is recorded has nothing to lose. */
  clientFirst: boolean;
  /** Its connections are control connections of bundles. */
  bundles: boolean;
  /** Called once a service, before its first connection. */
  factory(parts: ServiceParts): Promise<ApplicationFactory>;
}

/** Every application protocol, by the name that records and the configuration use. */
export const applicationProtocols: Record<Protocol, ProtocolEntry> = {
  http: {
    clientFirst: true,
    bundles: false,
    factory: async (parts) => {
      const { origin, native, repeat, literalBytes } = parts;
      const handler = origin
        ? new UpstreamHandler(origin, native, { repeat, literalBytes })
        : new DirectoryHandler(await parts.content());
      return (port, inputOffset) => new HttpLayer(port, inputOffset, handler);
    },
  },
  ftp: {
    clientFirst: true, // nothing of ours leaves before it is recorded
    bundles: true,
    factory: async ({ content, directory, users, state, native, port: own, relatedPorts }) => {
      const dataPort = dialledFrom.ftp?.(own);
      if (!relatedPorts || dataPort === undefined)
        throw new BatonError("INTERNAL", "FTP has no ports for data connections");
      const anonymous = directory === undefined ? undefined : await content();
      const areas = await Areas.open({ anonymous, anonymousDirectory: directory, users, state, native });
      return (port, inputOffset, isRelated) =>
        isRelated
          ? new FtpDataLayer(port, inputOffset, areas)
          : new FtpLayer(port, inputOffset, areas, relatedPorts, dataPort);
    },
  },
  rtsp: {
    clientFirst: true,
    bundles: true,
    factory: async ({ content, native, relatedPorts, users: file, realm, multicast, leads }) => {
      if (!relatedPorts) throw new BatonError("INTERNAL", "RTSP has no ports for media");
      const films = new Films(await content(), indexer);
      const channels = new Channels(multicast, relatedPorts, leads);
      const users = file === undefined || realm === undefined ? undefined : await Users.open(file, realm);
      const parts = { films, channels, memory: native, relatedPorts, ...(users ? { users } : {}) };
      const make = (port: ConnectionPort, inputOffset: number) => new RtspLayer(port, inputOffset, parts);
      const foreseen = new ForeseenFilms(films);
      return Object.assign(make, { foresee: (section: LayerSection) => foreseen.foresee(section) });
    },
  },
  app: {
    clientFirst: true,
    bundles: false,
    factory: async ({ inputBytes }) => {
      const start = () => new EchoApplication(inputBytes);
      return (port, inputOffset) => new AppLayer(port, inputOffset, start);
    },
  },
};
