import { join } from "node:path";
import { type Config, directoryOf, type ServiceConfig, serverOf, upstreamOf } from "../proto/config/index.js";
import { RefusedError } from "../proto/errors.js";
import { type ConnectionRecord, isRelated } from "../proto/record.js";
import type { LiveConnection } from "./connection/connection.js";
import { DirectoryContent } from "./content/index.js";
import type { Checked } from "./health/index.js";
import type { Native } from "./native/api.js";
import {
  type ApplicationFactory,
  applicationProtocols,
  type Foreseen,
  IpLayer,
  type Leads,
  Stack,
  TcpLayer,
} from "./protocols/index.js";
import { Origin } from "./upstream/index.js";

const KIBIBYTE = 1_024;
const MEBIBYTE = 1_048_576;

interface Service {
  config: ServiceConfig;
  /** Where its protocol serves files. */
  content: DirectoryContent | undefined;
  /** Where it stands before another server. */
  origin: Origin | undefined;
  makeApplication: ApplicationFactory;
}

/** The services of the configuration as this server offers them. */
export class Services {
  private warm = false;
  /** Resolves when the digests of everything that was there at the start are known. */
  readonly ready: Promise<void>;

  private constructor(private readonly byName: Map<string, Service>) {
    this.ready = Promise.all([...byName.values()].map(({ content }) => content?.ready)).then(() => {
      this.warm = true;
    });
  }

  /** Throws CONTENT_UNAVAILABLE. Digests of the content are made in the background from now on. */
  static async open(config: Config, serverId: string, native: Native, leads: Leads): Promise<Services> {
    const byName = new Map<string, Service>();
    for (const service of config.services) {
      let content: DirectoryContent | undefined;
      const upstream = upstreamOf(service, serverId);
      const { state } = serverOf(config, serverId);
      const origin = upstream === undefined ? undefined : new Origin(upstream);
      const makeApplication = await applicationProtocols[service.protocol].factory({
        content: async () => {
          content = await DirectoryContent.open({
            directory: directoryOf(service, serverId),
            validator: service.validator,
            hashFile: (path) => native.hashFile(path),
            digestFile: join(state, `digests-${service.name}`),
          });
          return content;
        },
        origin,
        repeat: service.repeat,
        literalBytes: service.limits.responseKilobytes * KIBIBYTE,
        native,
        inputBytes: config.limits.inputBytes,
        users: service.users,
        realm: service.realm,
        directory: service.directories[serverId] ?? service.directory,
        state,
        port: service.port,
        relatedPorts: service.relatedPorts,
        multicast: service.multicast,
        leads,
      });
      byName.set(service.name, { config: service, content, origin, makeApplication });
    }
    return new Services(byName);
  }

  /** Whether the digests of everything that was there at the start are known. */
  get contentReady(): boolean {
    return this.warm;
  }

  /** For the health check. */
  get checked(): Checked[] {
    return [...this.byName].flatMap(([name, { content, origin }]) => {
      const behind = content ?? origin;
      if (!behind) return [];
      const checked: Checked = { name, health: () => behind.health() };
      return origin ? [{ ...checked, onTrouble: (listener) => origin.onTrouble(listener) }] : [checked];
    });
  }

  /** The layers of a connection, ip first. Throws RefusedError where its service is not offered here. */
  stackOf(connection: LiveConnection, inputOffset: number): Stack {
    const { service, protocol, tcp } = connection.identity;
    const offered = this.byName.get(service);
    if (offered?.config.protocol !== protocol)
      throw new RefusedError("no such service here", `${service} (${protocol})`);
    const application = offered.makeApplication(connection, inputOffset, isRelated(connection));
    return new Stack(
      [new IpLayer(), new TcpLayer(tcp, () => connection.tcpState())],
      application,
      (what, layer, detail) => connection.history.add(what, layer, detail),
    );
  }

  /** Another server has this control connection; it may come here. @returns as ApplicationFactory.foresee */
  async foresee({ service, protocol, layers }: ConnectionRecord): Promise<Foreseen> {
    const foresee = this.byName.get(service)?.makeApplication.foresee;
    const section = foresee && layers.find(({ layer }) => layer === protocol);
    return section ? foresee(section) : "ready";
  }

  /** Bytes of a request's body that are kept until it is answered; none where the service is not offered here. */
  bodyBytesOf(service: string): number {
    return (this.byName.get(service)?.config.limits.bodyMegabytes ?? 0) * MEBIBYTE;
  }

  atPort(port: number): { name: string; protocol: string; clientFirst: boolean; bundles: boolean } | undefined {
    for (const { config } of this.byName.values()) {
      if (config.port !== port) continue;
      return {
        name: config.name,
        protocol: config.protocol,
        clientFirst: applicationProtocols[config.protocol].clientFirst,
        bundles: applicationProtocols[config.protocol].bundles,
      };
    }
    return undefined;
  }
}
