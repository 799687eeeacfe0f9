/**
 * @module
 * One requirement set against one server as tests, one for each scenario, so
 * that a report names what failed; the set itself runs once, before them.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Baseline, surprisesIn } from "./baseline.ts";
import type { Listening } from "./everything/listen.ts";
import { type Outcome, type Revision, runServerSet, serverScenarios } from "./suite.ts";

export async function describeSet(
  title: string,
  revision: Revision,
  start: () => Promise<Listening>,
  baseline: Baseline,
  isShown: (scenario: string) => boolean = () => true,
): Promise<void> {
  const { required, others } = await serverScenarios(revision);
  const shown = [...required, ...others].filter(isShown);
  describe(title, () => {
    let server: Listening;
    let outcomes: ReadonlyMap<string, Outcome>;

    beforeAll(async () => {
      server = await start();
      outcomes = await runServerSet(server.url, revision);
    });
    afterAll(async () => {
      await server?.close();
    });

    it.each(shown)("%s", (scenario) => {
      const outcome = outcomes.get(scenario);
      if (outcome === undefined) throw new Error("it did not run");
      expect(surprisesIn(outcome, baseline)).toEqual([]);
    });

    it("has a baseline that names only what runs", () => {
      const named = baseline.filter(({ specVersion }) => specVersion === revision);
      expect(shown).toEqual(expect.arrayContaining(named.map(({ scenario }) => scenario)));
    });
  });
}
