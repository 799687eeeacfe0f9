/**
 * @module
 * The witnesses of this gateway's log, from `WITNESSES` and `WITNESS_QUORUM`,
 * and the policy that they make.
 */
import * as z from "zod";
import { COSIGNATURE, parseVkey } from "./note.ts";
import type { Witness } from "./witness-client.ts";
import { parsePolicy, type WitnessPolicy } from "./witness-policy.ts";

/** Each is asked after every commit. */
export const MAX_WITNESSES = 32;

export type WitnessConfig = {
  readonly witnesses: readonly Witness[];
  /** Which of them must have cosigned a checkpoint for it to count as witnessed. */
  readonly witnessPolicy: WitnessPolicy;
};

const LOOPBACK = /^(?:localhost|127\.0\.0\.1|\[::1\])$/;

const witnessSchema = z.strictObject({
  name: z.string().regex(/^[^\s#]{1,64}$/, "must have 1 to 64 characters and no spaces"),
  vkey: z
    .string()
    .refine((text) => parseVkey(text)?.type === COSIGNATURE, "must be the vkey of a witness"),
  url: z
    .string()
    .refine(isWitnessUrl, "must be an https URL (http only on this machine), without query"),
});

type Parsed<T> = T | { readonly ok: false; readonly message: string };

/** Reads `WITNESSES`: a JSON list of `{name, vkey, url}`. */
export function parseWitnesses(
  text: string,
): Parsed<{ readonly ok: true; readonly witnesses: readonly Witness[] }> {
  const json = parseJson(text);
  const parsed = z.array(witnessSchema).max(MAX_WITNESSES).safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const where = issue === undefined || issue.path.length === 0 ? "" : `${issue.path.join(".")} `;
    return {
      ok: false,
      message: `must be a JSON list of {name, vkey, url}: ${where}${issue?.message}`,
    };
  }
  const witnesses = parsed.data.flatMap(({ name, vkey, url }) => {
    const key = parseVkey(vkey);
    return key === null ? [] : [{ name, key, vkey, url: url.replace(/\/+$/, "") }];
  });
  return { ok: true, witnesses };
}

/** The policy of a quorum of the witnesses: a majority unless it is said. */
export function witnessConfig(
  witnesses: readonly Witness[],
  quorum: number | undefined,
): Parsed<{ readonly ok: true; readonly config: WitnessConfig }> {
  const threshold = quorum ?? Math.floor(witnesses.length / 2) + 1;
  const lines =
    witnesses.length === 0
      ? ["quorum none"]
      : [
          ...witnesses.map(({ name, vkey }) => `witness ${name} ${vkey}`),
          // A group's name is one that no witness can have.
          `group # ${threshold} ${witnesses.map(({ name }) => name).join(" ")}`,
          "quorum #",
        ];
  const parsed = parsePolicy(lines.join("\n"));
  if (!parsed.ok) return { ok: false, message: `WITNESSES and WITNESS_QUORUM: ${parsed.message}` };
  return { ok: true, config: { witnesses, witnessPolicy: parsed.policy } };
}

function isWitnessUrl(text: string): boolean {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || url.search !== "" || url.hash !== "" || url.username !== "") return false;
  return url.protocol === "https:" || (url.protocol === "http:" && LOOPBACK.test(url.hostname));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
