/** States of a server, as the API, the events and enum baton_server_state name them. */
export type ServerState = "JOINING" | "UP" | "HELD" | "TAKEOVER" | "DRAINING" | "DOWN";

/**
 *      DOWN ──► JOINING ──► UP ◄──► DRAINING   (JOINING ──► DRAINING where an operator has drained it)
 *        ▲         │         │          │
 *        │         └────► HELD ◄────────┘      (and back, when it was a false alarm)
 *        └── TAKEOVER ◄─────┘
 */
const allowed: Record<ServerState, readonly ServerState[]> = {
  DOWN: ["JOINING", "HELD", "TAKEOVER"],
  JOINING: ["UP", "DRAINING", "HELD", "TAKEOVER", "DOWN"],
  UP: ["DRAINING", "HELD", "TAKEOVER"],
  DRAINING: ["UP", "HELD", "TAKEOVER", "DOWN"],
  HELD: ["JOINING", "UP", "DRAINING", "TAKEOVER", "DOWN"],
  TAKEOVER: ["DOWN"],
};

export function mayFollow(from: ServerState, to: ServerState): boolean {
  return allowed[from].includes(to);
}
