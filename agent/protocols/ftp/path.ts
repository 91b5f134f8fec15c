/** Bytes of a path in UTF-8: it is part of records. */
export const PATH_MAX = 1_024;

/**
 * Where a pathname (RFC 959 section 5.3.2, with slashes as RFC 3659 section 6 has them) leads from the directory `cwd`: an
 * absolute path without "", "." and "..", "/" for the root. What is above the root is the root.
 * @returns undefined where it cannot be a path: a NUL, CR, LF or half a surrogate pair in it, or longer than PATH_MAX
 */
export function resolvePath(cwd: string, pathname: string): string | undefined {
  // Half a pair would be written as U+FFFD, which is another name.
  if (/[\0\r\n\p{Surrogate}]/u.test(pathname)) return undefined;
  const segments = pathname.startsWith("/") ? [] : segmentsOf(cwd);
  for (const segment of segmentsOf(pathname)) {
    if (segment === "..") segments.pop();
    else if (segment !== ".") segments.push(segment);
  }
  const path = `/${segments.join("/")}`;
  return Buffer.byteLength(path) <= PATH_MAX ? path : undefined;
}

/** Whether a text is a path as `resolvePath` makes them. */
export function isPath(text: string): boolean {
  return resolvePath("/", text) === text;
}

/** Whether a directory's entry has a name by which a client can ask for it. */
export function isName(text: string): boolean {
  return text !== "" && !text.includes("/") && isPath(`/${text}`);
}

/** None for the root. */
export function segmentsOf(path: string): string[] {
  return path.split("/").filter((segment) => segment !== "");
}

/** The directory that a path is in; "/" for the root. */
export function directoryOf(path: string): string {
  return `/${segmentsOf(path).slice(0, -1).join("/")}`;
}

/** The last segment; "/" for the root. */
export function nameOf(path: string): string {
  return segmentsOf(path).at(-1) ?? "/";
}
