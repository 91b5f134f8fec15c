import type { z } from "zod";
import type { Complaint, Path } from "./problem.js";
import { jsonSchema } from "./schema.js";
import { suggest } from "./suggest.js";

/** What zod found, as sentences that name the place and say what is wanted. */
export function sentences(issue: z.core.$ZodIssue, written: unknown): Complaint[] {
  const { path } = issue;
  const name = describePath(path);
  const given = valueAt(written, path);
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => unknownKey(path, key));
    case "invalid_type": {
      const wanted = kinds[issue.expected] ?? `of type ${issue.expected}`;
      if (given === undefined) return [{ path, message: `${name} is missing.` }];
      return [{ path, message: `${name} must be ${wanted}, not ${describe(given)}.` }];
    }
    case "invalid_value": {
      const values = issue.values.map(String);
      if (given === undefined) return [{ path, message: `${name} is missing.` }];
      return [{ path, message: `${name} must be ${values.join(" or ")}, not ${describe(given)}.` }];
    }
    case "invalid_union": {
      const wanted = issue.errors.flatMap((errors) =>
        errors.flatMap((inner) =>
          inner.code === "invalid_type" && inner.path.length === 0 ? [kinds[inner.expected]] : [],
        ),
      );
      return [{ path, message: `${name} must be ${wanted.join(" or ")}, not ${describe(given)}.` }];
    }
    default:
      return [
        { path, message: `${name} ${issue.message}${typeof given === "object" ? "" : `, not ${describe(given)}`}.` },
      ];
  }
}

const kinds: Record<string, string> = {
  string: "a text",
  number: "a number",
  int: "a whole number",
  array: "a list",
  object: "a block of keys and values",
  record: "a block of keys and values",
  boolean: "true or false",
};

/** `servers[1].address` */
export function describePath(path: Path): string {
  if (path.length === 0) return "The configuration";
  return path.reduce<string>(
    (text, part) =>
      typeof part === "number" ? `${text}[${part}]` : text === "" ? String(part) : `${text}.${String(part)}`,
    "",
  );
}

function describe(value: unknown): string {
  if (value === undefined || value === null) return "empty";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a block";
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

function valueAt(written: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, part) => (value as Record<PropertyKey, unknown> | null | undefined)?.[part],
    written,
  );
}

function unknownKey(parent: Path, key: string): Complaint {
  const known = knownKeys(parent);
  const near = suggest(key, known);
  const help = near === undefined ? `known are ${known.join(", ")}` : `did you mean "${near}"?`;
  const where = parent.length === 0 ? "" : ` in ${describePath(parent)}`;
  return { path: [...parent, key], key: true, message: `Unknown key "${key}"${where}; ${help}${near ? "" : "."}` };
}

interface Shape {
  properties?: Record<string, Shape>;
  items?: Shape;
}

function knownKeys(path: Path): string[] {
  let shape = jsonSchema() as Shape | undefined;
  for (const part of path) shape = typeof part === "number" ? shape?.items : shape?.properties?.[String(part)];
  return Object.keys(shape?.properties ?? {});
}
