/**
 * @module
 * Flushes that a sink has not taken for long: sessions say so themselves when
 * one fails.
 */
import { metricsStub, sessionStub } from "../../objects.ts";
import { SINKS } from "../../session/store.ts";
import { type Check, type Finding, MAX_FINDINGS } from "./finding.ts";

/** How long a flush may be overdue, in ms: a sink that is away for a moment is no news. */
const OVERDUE_MS = 5 * 60_000;

export const checkStalledFlushes: Check = async (env, _config, now) => {
  await forgetSettled(env, now);
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

/**
 * A session says once that a flush went well again. Where that was lost, or the
 * session is gone, its row would stand for ever: those that have waited longest are asked.
 */
async function forgetSettled(env: Env, now: number): Promise<void> {
  const metrics = metricsStub(env);
  for (const { sink: name, session_id, since } of await metrics.stalledSessions(MAX_FINDINGS)) {
    if (now - since < OVERDUE_MS) break;
    const sink = SINKS.find((each) => each === name);
    const isBehind = sink !== undefined && (await sessionStub(env, session_id).isBehind(sink));
    if (!isBehind) await metrics.noteFlush(name, session_id, null);
  }
}
