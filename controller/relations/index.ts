export { Relations, type RelationsDeps, type RelationTable } from "./relations.js";
