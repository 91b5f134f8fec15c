export { DirectoryContent, type DirectoryOptions, type Found, type WarmUpProgress } from "./directory.js";
export { identityKey } from "./identity.js";
