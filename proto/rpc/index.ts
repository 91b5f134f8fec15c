export { flowMessage, flowOfMessage } from "./flow.js";
export type * from "./messages.js";
export {
  type AgentLinkClient,
  agentLinkClient,
  agentLinkService,
  type ControlClient,
  channelOptions,
  controlClient,
  controlService,
} from "./services.js";
