import { createRequire } from "node:module";
import { addon } from "../../proto/paths.js";
import type { Binding } from "./api.js";
import { BindingError } from "./error.js";

export type * from "./api.js";
export { BindingError };

const native = createRequire(import.meta.url)(addon("bpf")) as Binding & {
  setErrorClass(errorClass: typeof BindingError): void;
};
native.setErrorClass(BindingError);

/** libbpf, as api.ts describes it. */
export const binding: Binding = native;
