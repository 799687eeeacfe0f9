/**
 * @module
 * What the log's leaves say: RFC 8785 texts with nothing personal in them. A
 * session is named by its genesis, so that a live session's id stays unknown.
 */
import * as z from "zod";
import { canonicalJson } from "../audit/canonical.ts";
import { parseJson } from "../audit/parse-json.ts";
import { isTimestamp } from "../audit/record.ts";

const hex = z.string().regex(/^[0-9a-f]{64}$/);
/** A date, for what is compared with it: every comparison with one that is none is false. */
const timestamp = z.string().refine(isTimestamp);
const common = { timestamp, v: z.literal(1) };

/** Where a session's chain stood: `open` its first record, `head` a later one, `close` the last. */
const headLeaf = z
  .strictObject({
    ...common,
    hash_chain: hex,
    kind: z.enum(["open", "head", "close"]),
    seq: z.int().min(1),
    session: hex,
  })
  // Readers take an `open` leaf for proof of where the session begins.
  .refine(
    ({ kind, seq }) => kind !== "open" || seq === 1,
    "opens at another record than the first",
  );

/** Records of a session were retired; `remains` says what of them is still kept. */
const retireLeaf = z.strictObject({
  ...common,
  /** The head of the chain that was retired. */
  hash_chain: hex,
  kind: z.literal("retire"),
  reason: z.enum(["retention", "erasure"]),
  /** `chain`: every record, without its arguments. `nothing`: the rows are gone. */
  remains: z.enum(["chain", "nothing"]),
  seq: z.int().min(1),
  session: hex,
});

/** A key begins or ceases to sign checkpoints. */
const keyLeaf = z.strictObject({
  ...common,
  action: z.enum(["add", "retire"]),
  kind: z.literal("key"),
  vkey: z.string().min(1).max(1024),
});

export const leafSchema = z.discriminatedUnion("kind", [headLeaf, retireLeaf, keyLeaf]);

export type HeadLeaf = z.infer<typeof headLeaf>;
export type RetireLeaf = z.infer<typeof retireLeaf>;
export type KeyLeaf = z.infer<typeof keyLeaf>;
export type Leaf = z.infer<typeof leafSchema>;

/** The entry's text. What comes from elsewhere is to be checked by {@link leafSchema} before. */
export function leafText(leaf: Leaf): string {
  return canonicalJson(leaf);
}

/** The entry's bytes: UTF-8 of {@link leafText}. */
export function leafEntry(leaf: Leaf): Uint8Array {
  return new TextEncoder().encode(leafText(leaf));
}

/** The leaf that an entry is, or null: also for a text that is not in RFC 8785 form. */
export function parseLeaf(entry: string | Uint8Array): Leaf | null {
  try {
    const text =
      typeof entry === "string"
        ? entry
        : new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(entry);
    const parsed = leafSchema.safeParse(parseJson(text));
    return parsed.success && canonicalJson(parsed.data) === text ? parsed.data : null;
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return null;
    throw error;
  }
}
