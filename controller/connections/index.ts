export { asBundles } from "./bundles.js";
export { ConnectionEntry } from "./entry.js";
export { type Change, ConnectionIndex } from "./table.js";
export { connectionDetail, connectionRow, type Live } from "./view.js";
