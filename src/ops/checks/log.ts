/**
 * @module
 * Whether the transparency log signs: while it does not, heads of sessions wait
 * for it, and nobody outside can hold the archive against anything newer.
 */
import { logStub } from "../../objects.ts";
import type { Check } from "./finding.ts";

export const checkLog: Check = async (env) => {
  const { open, refused } = await logStub(env).status();
  if (open) return [];
  const reason =
    refused === null
      ? "a store of it does not answer. See whether D1 and R2 do."
      : `it refuses (${refused}). Do not force it; see how its stores came to differ.`;
  return [
    {
      check: "log",
      subject: "log",
      severity: "critical",
      message: `The transparency log signs nothing: ${reason}`,
    },
  ];
};
