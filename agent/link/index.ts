export { AgentLink, type LinkHandlers, linkTargets } from "./link.js";
