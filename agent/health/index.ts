export { type Checked, HealthWatch } from "./watch.js";
