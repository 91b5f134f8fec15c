/** Field lines in order, names as written, of the flat list in which Node has them. */
export function linesOf(raw: readonly string[]): Array<[string, string]> {
  const lines: Array<[string, string]> = [];
  for (let at = 0; at + 1 < raw.length; at += 2) lines.push([raw[at] as string, raw[at + 1] as string]);
  return lines;
}
