/** The lists of bpf/verdict.h and bpf/shared.h by name, for metrics, the API and logs. A test compares them with the headers. */

/** enum baton_steer_verdict: the name's place is its number. */
export const steerVerdicts = [
  "pass_not_vip",
  "forward_recent",
  "forward_exception",
  "forward_maglev",
  "forward_released",
  "forward_heir_ack",
  "forward_hold_expired",
  "forward_icmp",
  "forward_bounced",
  "held",
  "held_bounced",
  "pass_vip_other",
  "drop_no_server",
  "drop_no_service",
  "drop_malformed",
  "drop_fragment",
  "drop_hold_full",
  "drop_hold_expired",
  "drop_too_large",
  "pass_vlan",
  "drop_not_related",
] as const;
export type SteerVerdict = (typeof steerVerdicts)[number];

/** enum baton_guard_verdict: the name's place is its number. */
export const guardVerdicts = [
  "in_not_vip",
  "in_here",
  "in_answer",
  "in_frozen",
  "in_not_here",
  "in_not_here_dropped",
  "in_malformed",
  "out_not_vip",
  "out_passed",
  "out_clamped",
  "out_clamped_shut",
  "out_handshake",
  "out_fenced_lease",
  "out_fenced_incarnation",
  "out_unknown",
  "out_fin",
  "out_rst",
  "out_silent",
  "out_icmp",
  "out_malformed",
  "table_full",
  "event_lost",
  "in_no_room",
  "out_fragment",
] as const;
export type GuardVerdict = (typeof guardVerdicts)[number];

/** enum baton_server_state: the name's place is its number. */
export const serverStates = ["down", "up", "draining", "held", "takeover"] as const;
export type ServerState = (typeof serverStates)[number];
