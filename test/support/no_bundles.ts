import { Bundles } from "../../agent/connection/bundles.js";

const done = () => Promise.resolve();
const nothing = () => {};
const nobody = { relate: done, dial: done, unrelate: nothing, restate: nothing, forget: nothing };

/** Bundles of a server to which nobody steers anything. @param note told of what happens to their datagrams: "freeze", "thaw", "close" */
export function noBundles(note: (what: string) => void = nothing): Bundles {
  return new Bundles(nobody, {
    open: () => Promise.reject(new Error("there are no datagrams here")),
    openGroup: () => Promise.reject(new Error("there are no groups here")),
    freeze: () => note("freeze"),
    thaw: () => note("thaw"),
    close: () => note("close"),
  });
}
