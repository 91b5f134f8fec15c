export { requireContent } from "./content.js";
export { loadConfig, parseConfig } from "./load.js";
export { controllerOf, directoryOf, natsUrls, recordBytesMax, serverOf, upstreamOf } from "./lookup.js";
export { ConfigError, type ConfigProblem, formatProblem } from "./problem.js";
export {
  dialledFrom,
  isRelatedPort,
  listeningPortsOf,
  type PortRange,
  portCount,
  portsOf,
  relatedPortsOf,
  relatedTransports,
  type ServicePort,
} from "./related.js";
export { lostService, type OfferedService, reloadConfig, reloadProblem } from "./reload.js";
export {
  type Config,
  type ControllerConfig,
  type GroupConfig,
  jsonSchema,
  type LeaseConfig,
  type LimitsConfig,
  type NatsConfig,
  type OverloadConfig,
  type ServerConfig,
  type ServiceConfig,
} from "./schema.js";
