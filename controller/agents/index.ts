export { AgentSessions, type ConnectedAgent } from "./sessions.js";
