export { OverloadDriver } from "./driver.js";
export type { HealthView } from "./health.js";
export { HealthDriver } from "./health_driver.js";
export { hostLoad, thresholdsOf } from "./load.js";
export { OverloadPolicy, type ServerView } from "./overload.js";
export { Rotation } from "./rotation.js";
