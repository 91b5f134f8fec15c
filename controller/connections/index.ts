export { asBundles } from "./bundles.js";
export { ConnectionEntry } from "./entry.js";
export { type Change, ConnectionIndex } from "./table.js";
export { connectionDetail, connectionRows, type Live, recordedId } from "./view.js";
