import type { ServiceProblem } from "../../proto/rpc/index.js";
import type { ServerState } from "../../proto/vocabulary.js";

/** What is wrong with all of them shows on the others within so long: checks are a second apart. */
const COMMON_MS = 1_500;

export interface HealthView {
  id: string;
  state: ServerState;
  /** Its agent is connected and its lease held. */
  able: boolean;
  /** What its agent has said last. */
  unhealthy: ServiceProblem[];
  /** For how long. */
  unhealthyMs: number;
  /** It is out of rotation for its health's sake. */
  drained: boolean;
  /** An operator or its own agent wants it out of rotation, whatever its health. */
  leaves: boolean;
}

export interface HealthDecision {
  drain: Array<{ server: string; reason: string }>;
  undrain: string[];
  /** Servers that stay in rotation though they are not healthy: why. */
  notes: Map<string, string>;
}

/**
 * Which servers leave rotation because a service of theirs is not healthy. Where no other server is healthy none does: what may be
 * wrong is then more likely common to all, or the check, and a server that serves some is better than none.
 */
export function judgeHealth(servers: HealthView[]): HealthDecision {
  const decision: HealthDecision = { drain: [], undrain: [], notes: new Map() };
  const healthy = (view: HealthView) => view.unhealthy.length === 0 && view.able;
  const serves = (view: HealthView) => view.state === "UP" || (view.drained && !view.leaves);
  const someServes = servers.some((view) => healthy(view) && serves(view));
  // One that is only suspected may be back in a moment: nothing is put back for that.
  const someMayServe = someServes || servers.some(({ state, unhealthy }) => state === "HELD" && unhealthy.length === 0);
  for (const view of servers) {
    const { id, state, drained, unhealthy } = view;
    if (drained && (healthy(view) || !someMayServe)) decision.undrain.push(id);
    if (unhealthy.length === 0 || state !== "UP") continue;
    const reason = unhealthy
      .map(({ service, reason: why }) => `its service ${service} is not healthy: ${why}`)
      .join("; ");
    if (someServes && view.unhealthyMs >= COMMON_MS) decision.drain.push({ server: id, reason });
    else if (!someServes) decision.notes.set(id, `${reason}; it is not drained: no other server is healthy`);
  }
  return decision;
}
