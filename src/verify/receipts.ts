/**
 * @module
 * Receipts that a client kept: what it was told about its calls when they were answered.
 */
import * as z from "zod";
import { isSha256Hex } from "../audit/record.ts";
import { parseStrictJson } from "../audit/strict-json.ts";

export const receiptSchema = z.object({
  session_id: z.string(),
  seq: z.int().min(1),
  hash_chain: z.string().refine(isSha256Hex, "is not a SHA-256 in lowercase hex"),
});

export type Receipt = z.infer<typeof receiptSchema>;

/** Reads receipts: a JSON array of them, or one a line. A text says what is wrong. */
export function parseReceipts(text: string): Receipt[] | string {
  const whole = parseStrictJson(text);
  const values: unknown[] = [];
  if (whole.ok) {
    values.push(...(Array.isArray(whole.value) ? whole.value : [whole.value]));
  } else {
    for (const [i, line] of text.split("\n").entries()) {
      if (line.trim() === "") continue;
      const parsed = parseStrictJson(line);
      if (!parsed.ok) return `line ${i + 1}: ${parsed.message}`;
      values.push(parsed.value);
    }
  }
  const receipts = z.array(receiptSchema).min(1, "holds no receipt").safeParse(values);
  if (receipts.success) return receipts.data;
  const issue = receipts.error.issues[0];
  return `not receipts: ${issue?.path.join(".") ?? ""} ${issue?.message ?? ""}`;
}
