import { Bundles } from "../../agent/connection/bundles.js";

const done = () => Promise.resolve();
const nothing = () => {};
const nobody = { relate: done, dial: done, unrelate: nothing, restate: nothing, forget: nothing };
const noDatagrams = {
  open: () => Promise.reject(new Error("there are no datagrams here")),
  openGroup: () => Promise.reject(new Error("there are no groups here")),
  ...{ freeze: nothing, thaw: nothing, close: nothing },
};

/** Bundles of a server to which nobody steers anything. */
export function noBundles(): Bundles {
  return new Bundles(nobody, noDatagrams);
}
