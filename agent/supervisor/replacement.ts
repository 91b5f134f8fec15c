import { join } from "node:path";
import { type Config, lostService, type OfferedService } from "../../proto/config/index.js";
import { RECORD_VERSION } from "../../proto/record.js";

/** What the agent that is replaced says to the one that comes, over a Unix socket in the server's state directory. */
export type OldAgentMessage =
  | { type: "accepted"; incarnation: number; offer: Offer }
  /** It goes on as before. May still come after `accepted`, as long as no lease has. */
  | { type: "refused"; reason: string }
  /** There is no way back. */
  | { type: "passing" }
  /** Every connection was passed; from now on the lease is the other's. */
  | { type: "lease"; incarnation: number; revision: number; renewal: number; untilNs: string };

export type NewAgentMessage =
  | { type: "replace"; pid: number }
  /** Its worker is ready to take everything. */
  | { type: "prepared" }
  /** Nothing is needed of the old one any more. */
  | { type: "relieved" };

/** What an agent's connections need of it. */
export interface Offer {
  recordVersion: number;
  vips: string[];
  services: OfferedService[];
}

export function offerOf(config: Config): Offer {
  const services = config.services.map(({ name, protocol, port, protect }) => ({ name, protocol, port, protect }));
  return { recordVersion: RECORD_VERSION, vips: config.vips, services };
}

/** What connections under `old` would lack under `next`: a sentence without its stop; "" = nothing. */
export function missingOf(old: Offer, next: Offer): string {
  if (old.recordVersion !== next.recordVersion) {
    return `it writes records of version ${old.recordVersion}, this agent of version ${next.recordVersion}`;
  }
  const vip = old.vips.find((one) => !next.vips.includes(one));
  if (vip !== undefined) return `it serves the VIP ${vip}, which this agent's configuration does not have`;
  const service = lostService(old.services, next.services);
  if (!service) return "";
  const { name, protocol, port } = service;
  return `it offers the service ${name} (${protocol}, port ${port}), which this agent's configuration does not have like that`;
}

/** Where a running agent hears of the one that is to replace it. */
export function replacementSocket(state: string): string {
  return join(state, "replace.sock");
}
