export { ControllerMetrics, type ControllerSources } from "./metrics.js";
