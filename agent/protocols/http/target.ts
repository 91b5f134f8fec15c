/** Where in the directory a request's target leads; undefined where it is malformed or leads above the root. */
export interface TargetPath {
  /** Decoded; none is empty, "." or "..", none contains a slash or a NUL. */
  segments: string[];
  trailingSlash: boolean;
}

/** Origin form or absolute form (RFC 9112 section 3.2); the query is not looked at. */
export function targetPath(target: string): TargetPath | undefined {
  const absolute = /^https?:\/\/[^/?#]*/i.exec(target);
  const path = target.slice(absolute?.[0].length ?? 0).replace(/[?#].*$/s, "") || (absolute ? "/" : "");
  if (!path.startsWith("/")) return undefined;
  const segments: string[] = [];
  const parts = path.slice(1).split("/");
  let directory = true;
  for (const part of parts) {
    const segment = decode(part);
    if (segment === undefined) return undefined;
    directory = segment === "" || segment === "." || segment === "..";
    if (!directory) segments.push(segment);
    if (segment === ".." && segments.pop() === undefined) return undefined; // RFC 3986 section 5.2.4 would stay at the root
  }
  return { segments, trailingSlash: directory };
}

/** The target of a redirect to the directory itself: from this server's root, whatever the client wrote. */
export function directoryTarget({ segments }: TargetPath): string {
  return `/${segments.map((segment) => `${encodeURIComponent(segment)}/`).join("")}`;
}

function decode(part: string): string | undefined {
  try {
    const segment = decodeURIComponent(part);
    return /[/\0]/.test(segment) ? undefined : segment;
  } catch {
    return undefined;
  }
}
