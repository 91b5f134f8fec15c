export { type Member, Membership, type MembershipEvents, type MembershipOptions } from "./membership.js";
export type { ServerState } from "./transitions.js";
