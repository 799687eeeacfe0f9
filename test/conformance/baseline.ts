/**
 * @module
 * What does not pass, check by check, and why. A check that fails and is not
 * listed breaks the build; so does one that is listed and no longer fails.
 */
import type { Outcome, Revision } from "./suite.ts";

export type Exception = {
  readonly scenario: string;
  readonly specVersion: Revision;
  /** Ids as the suite prints them. */
  readonly checks: readonly string[];
  readonly reason: string;
};

export type Baseline = readonly Exception[];

const SUITE_SKIPS_IT =
  "the suite skips it until it reads task notifications from subscriptions/listen";

/** The everything servers, asked without a gateway between. */
export const DIRECT: Baseline = [
  {
    scenario: "tasks-status-notifications",
    specVersion: "2026-07-28",
    checks: ["tasks-status-notifications"],
    reason: SUITE_SKIPS_IT,
  },
];

/** Through the gateway, each set with an upstream of its own era. */
export const GATEWAY: Baseline = [...DIRECT];

const NO_CODE_FOR_IT =
  "a 2025 server has no error that says which capability a client lacks, so there is none to translate";

/** Through the gateway, each set with an upstream of the other era. */
export const CROSSED: Baseline = [
  {
    scenario: "input-required-result-basic-elicitation",
    specVersion: "2026-07-28",
    checks: ["sep-2322-elicitation-incomplete"],
    reason: "it wants a key of the server's choosing, and a request of a 2025 server has none",
  },
  {
    scenario: "server-stateless",
    specVersion: "2026-07-28",
    checks: [
      "sep-2575-server-rejects-undeclared-capability",
      "sep-2575-missing-capability-http-400",
    ],
    reason: NO_CODE_FOR_IT,
  },
  {
    scenario: "input-required-result-ignore-extra-params",
    specVersion: "2026-07-28",
    checks: ["sep-2322-ignore-unexpected-params"],
    reason:
      "it answers what was not asked yet: a 2025 server can only be answered once it has asked",
  },
];

/** The gateway's upstream client. */
export const CLIENT: Baseline = [];

/** Whether a scenario is about something that both eras have. */
export function isTranslatable(scenario: string): boolean {
  // The tasks of 2025-11-25 and the extension of 2026-07-28 share no more than the name.
  return !scenario.startsWith("tasks-");
}

/** Where an outcome is not what the baseline says, in words; none when it is. */
export function surprisesIn(outcome: Outcome, baseline: Baseline): string[] {
  const listed = new Set(
    baseline
      .filter(
        ({ scenario, specVersion }) =>
          scenario === outcome.scenario && specVersion === outcome.specVersion,
      )
      .flatMap(({ checks }) => checks),
  );
  const failed = new Set(outcome.failedChecks.map(({ id }) => id));
  return [
    ...outcome.failedChecks
      .filter(({ id }) => !listed.has(id))
      .map(({ id, status, message }) => `${status} ${id}: ${message}`),
    ...[...listed]
      .filter((id) => !failed.has(id))
      .map((id) => `STALE ${id}: the baseline lists it, and it does not fail`),
  ];
}
