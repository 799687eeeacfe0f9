/**
 * @module
 * Flushes that a sink has not taken for long: sessions say so themselves when
 * one fails.
 */
import { metricsStub } from "../../objects.ts";
import type { Check, Finding } from "./finding.ts";

/** How long a flush may be overdue, in ms: a sink that is away for a moment is no news. */
const OVERDUE_MS = 5 * 60_000;

export const checkStalledFlushes: Check = async (env, _config, now) => {
  const { stalled } = await metricsStub(env).snapshot();
  return stalled.flatMap(({ sink, since, sessions }): Finding[] =>
    now - since < OVERDUE_MS
      ? []
      : [
          {
            check: "stalled_flush",
            subject: sink,
            severity: "critical",
            message: `${sessions} sessions cannot flush to ${sink}, the first since ${new Date(since).toISOString()}. Their records wait in their objects; see whether ${sink} answers.`,
          },
        ],
  );
};
