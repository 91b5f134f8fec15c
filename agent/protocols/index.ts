export type * from "./application.js";
export { IpLayer } from "./ip.js";
export type { ProtocolLayer } from "./layer.js";
export type * from "./leads.js";
export { applicationProtocols, type ServiceParts } from "./registry.js";
export { Stack, type StackTrace } from "./stack.js";
export { type TcpIdentity, TcpLayer } from "./tcp.js";
