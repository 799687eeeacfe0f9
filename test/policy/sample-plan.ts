import type { ApprovalState, Plan } from "../../src/policy/plan.ts";

export const NOW = Date.parse("2026-06-01T12:00:00Z");

/** A plan without anything to complain about. */
export const SAMPLE_PLAN = {
  title: "Rate limiting",
  objective: "Refuse a session's requests past 600 a minute.",
  scope: {
    paths: ["src/**", "docs/*.md"],
    tools: ["write_file", { name: "github_create_issue", when: "args.repo == 'acme/api'" }],
  },
  forbidden: { paths: ["src/secrets/**"], tools: ["delete_file"] },
  phases: [
    {
      id: "PHASE_1",
      objective: "Write the token bucket.",
      paths: ["src/api/**"],
      verification: "npm test passes.",
    },
  ],
  rollback: "Revert the merge commit.",
  expires_at: "2027-01-01T00:00:00Z",
} satisfies Plan;

export const APPROVED: ApprovalState = {
  status: "approved",
  approved_by: "key:k1",
  approved_at: "2026-06-01T00:00:00Z",
  approval_expires_at: "2026-06-08T00:00:00Z",
};

/** The sample plan with the value at a path replaced, or removed with `undefined`. */
export function planWith(path: readonly (string | number)[], value: unknown): unknown {
  return replaced(SAMPLE_PLAN, path, value);
}

function replaced(
  at: unknown,
  [step, ...rest]: readonly (string | number)[],
  value: unknown,
): unknown {
  if (step === undefined) return value;
  const entries: [string, unknown][] = Object.entries(at ?? {});
  const inner = entries.find(([key]) => key === String(step))?.[1];
  const changed = new Map(entries).set(String(step), replaced(inner, rest, value));
  const kept = [...changed].filter(([, each]) => each !== undefined);
  return Array.isArray(at) ? kept.map(([, each]) => each) : Object.fromEntries(kept);
}
