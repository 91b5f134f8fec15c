export { type DrainProgress, Drains } from "./drains.js";
export { Migrations } from "./migrations.js";
