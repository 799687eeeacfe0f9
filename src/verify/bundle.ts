/**
 * @module
 * The bundle: all that an outsider needs to verify a session offline. Its
 * parts are of two trusts: the records are what is to be shown, and `log` is
 * what shows it, once its signatures hold under keys from elsewhere.
 */
import * as z from "zod";
import type { JsonObject } from "../audit/json.ts";
import { isJsonObject } from "../audit/json.ts";
import { parseStrictJson } from "../audit/strict-json.ts";
import { parseDecimal } from "../log/bytes.ts";
import { parseHashLines } from "../log/tlog-proof.ts";

export const BUNDLE_FORMAT = "atlas-gate/bundle/v1";

const size = z.int().min(0);

const leafSchema = z.strictObject({
  index: size,
  /** The leaf's text, as it is hashed. */
  entry: z.string(),
  /** From the leaf's sibling to the root's child, in base64. */
  proof: z.array(z.string()).transform((lines, context) => {
    const hashes = parseHashLines(lines);
    if (hashes !== null) return hashes;
    context.addIssue({ code: "custom", message: "is not hashes in strict base64" });
    return z.NEVER;
  }),
  /** Size of the last kept checkpoint without the leaf, and of the first with it. */
  before: size.nullable(),
  after: size.nullable(),
});

const logSchema = z.strictObject({
  origin: z.string(),
  vkey: z.string(),
  /** The signed note that all proofs lead to. */
  checkpoint: z.string(),
  leaves: z.array(leafSchema),
  /** Signed notes by their size, for the times of `before` and `after`. */
  checkpoints: z.record(
    z.string().refine((key) => parseDecimal(key) !== null, "is no size"),
    z.string(),
  ),
});

const bundleSchema = z.strictObject({
  format: z.literal(BUNDLE_FORMAT),
  tenant: z.string(),
  session_id: z.string(),
  records: z.array(z.custom<JsonObject>(isJsonObject, "is no object")),
  log: logSchema.nullable(),
});

export type Bundle = z.output<typeof bundleSchema>;
export type BundleLog = z.output<typeof logSchema>;
export type BundleLeaf = z.output<typeof leafSchema>;
/** The log's part as it is written: hashes in base64. */
export type BundleLogText = z.input<typeof logSchema>;

export type ParsedBundle =
  | { readonly ok: true; readonly bundle: Bundle }
  | { readonly ok: false; readonly message: string };

/** Reads a bundle; form only, nothing is verified. The layout is free, duplicate keys and loose base64 are not. */
export function parseBundle(text: string): ParsedBundle {
  const json = parseStrictJson(text);
  if (!json.ok) return json;
  const parsed = bundleSchema.safeParse(json.value);
  if (parsed.success) return { ok: true, bundle: parsed.data };
  const issue = parsed.error.issues[0];
  const path = issue?.path.join(".") ?? "";
  const message = issue?.message ?? "wrong shape";
  return { ok: false, message: `not a bundle: ${path === "" ? message : `${path}: ${message}`}` };
}
