import type { Transport } from "../flow.js";
import type { Protocol } from "../vocabulary.js";

/** Of a protocol's related flows; none: its connections stand alone. */
export const relatedTransports: Record<Protocol, readonly Transport[]> = {
  http: [],
  ftp: ["tcp"],
  rtsp: ["udp"],
  app: [],
};

/** `relatedPorts` where a service does not say, of those that have related flows. */
export const relatedPortsDefault: Partial<Record<Protocol, string>> = { ftp: "30000-30255", rtsp: "31000-31199" };

/**
 * Of protocols that open connections to their clients: the port from which they do, by the service's own (FTP's data port is one below,
 * RFC 959 section 3.2).
 */
export const dialledFrom: Partial<Record<Protocol, (port: number) => number>> = { ftp: (port) => port - 1 };

/** The most that one service may have. */
export const RELATED_PORTS_MAX = 1024;

/** What of a service says which ports it has beside its own. */
export interface RelatedService {
  port: number;
  protocol: Protocol;
  relatedPorts?: PortRange;
}

/** Both ends are part of it. */
export interface PortRange {
  from: number;
  to: number;
}

/** The range that is written as FROM-TO; undefined where that is none. */
export function portRange(text: string): PortRange | undefined {
  const match = /^(\d{1,5})-(\d{1,5})$/.exec(text);
  const [from, to] = [Number(match?.[1]), Number(match?.[2])];
  return match && from >= 1 && from <= to && to <= 65535 ? { from, to } : undefined;
}

export function portCount({ from, to }: PortRange): number {
  return to - from + 1;
}

/** Whether a service has related flows at this port. */
export function isRelatedPort(services: RelatedService[], port: number, transport: Transport): boolean {
  return services.some((service) => {
    const { protocol, relatedPorts: range } = service;
    if (transport === "tcp" && dialledFrom[protocol]?.(service.port) === port) return true;
    return range && port >= range.from && port <= range.to && relatedTransports[protocol].includes(transport);
  });
}

/** A port on every VIP, as the packet path knows it. */
export interface ServicePort {
  port: number;
  /** TCP if left out. */
  transport?: Transport;
  /** Only flows that a control connection has named have this port. */
  related?: boolean;
}

/** What is steered and guarded for a service: its own port, and those of related flows. */
export function portsOf(service: RelatedService): ServicePort[] {
  return [{ port: service.port }, ...relatedPortsOf(service).map((port) => ({ ...port, related: true }))];
}

/** Beside its own port. */
export function relatedPortsOf(service: RelatedService): Array<{ port: number; transport: Transport }> {
  const dialled = dialledFrom[service.protocol]?.(service.port);
  return [
    ...listeningPortsOf(service),
    ...(dialled === undefined ? [] : [{ port: dialled, transport: "tcp" as const }]),
  ];
}

/** Those at which a client's flows are waited for. */
export function listeningPortsOf({
  protocol,
  relatedPorts,
}: RelatedService): Array<{ port: number; transport: Transport }> {
  if (!relatedPorts) return [];
  const { from } = relatedPorts;
  return relatedTransports[protocol].flatMap((transport) =>
    Array.from({ length: portCount(relatedPorts) }, (_, i) => ({ port: from + i, transport })),
  );
}
