export { flowMessage, flowOfMessage, transportMessage, transportOfMessage } from "./flow.js";
export { KeptStream } from "./kept_stream.js";
export type * from "./messages.js";
export { MIGRATION } from "./messages.js";
export {
  type AgentLinkClient,
  agentLinkClient,
  agentLinkService,
  type ControlClient,
  channelOptions,
  controlClient,
  controlService,
  type HandoverClient,
  handoverClient,
  handoverService,
} from "./services.js";
