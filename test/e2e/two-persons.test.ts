import { afterAll, beforeAll, expect, it } from "vitest";
import { Gateway } from "./support/gateway.ts";
import { at } from "./support/http.ts";
import { Agent } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { planOf } from "./support/plans.ts";

let gateway: Gateway;
let first: Operator;
let second: Operator;
let third: Operator;
let thirdId: string;

beforeAll(async () => {
  gateway = await Gateway.start({ vars: { PLAN_APPROVALS_REQUIRED: "2" } });
  first = new Operator(gateway.url, gateway.keys.operator);
  second = new Operator(gateway.url, (await first.mintKey({ role: "operator" })).key);
  const minted = await first.mintKey({ role: "operator" });
  third = new Operator(gateway.url, minted.key);
  thirdId = minted.id;
});

afterAll(async () => {
  await gateway?.dispose();
});

/** Saves a plan with a planner's key; answers with its hash. */
async function saved(key: string, root: string): Promise<string> {
  const planner = await Agent.connect(gateway.url, key);
  await planner.ok("begin_session", { workspace_root: root });
  const answer = await planner.ok("save_plan", { plan: planOf() });
  await planner.close();
  return String(at(answer, "plan_hash"));
}

const approve = (operator: Operator, hash: string, root: string) =>
  operator.send("POST", `/plans/${hash}/approve`, { workspace_root: root, reason: "looks right" });

it("a plan takes two operators, two keys of one line are one, and what it grants is said", async () => {
  const root = "/srv/two";
  const hash = await saved(gateway.keys.antigravity, root);
  // The first operator minted the local keys, the planner's among them.
  const one = await approve(third, hash, root);
  expect(one.json).toMatchObject({ status: "proposed", approvals_required: 2 });
  expect(at(one.json, "grants.0")).toContain('files of "/srv/two" that match "src/**"');

  const rotated = await first.ok("POST", `/keys/${thirdId}/rotate`, {});
  const sameLine = new Operator(gateway.url, String(at(rotated, "key")));
  expect((await approve(sameLine, hash, root)).json).toMatchObject({ status: "proposed" });

  const agent = await Agent.connect(gateway.url, gateway.keys.windsurf);
  const bound = () => agent.call("begin_session", { workspace_root: root, plan_hash: hash });
  expect((await bound()).code).toBe("PLAN_NOT_APPROVED");
  const two = await approve(second, hash, root);
  expect(two.json).toMatchObject({ status: "approved" });
  expect(at(two.json, "approvals.1.reason")).toBe("looks right");
  expect((await bound()).code).toBeNull();
  await agent.close();
});

it("nobody approves a plan saved under a key that they minted, nor under one that it was rotated into", async () => {
  const root = "/srv/own";
  const planner = await first.mintKey({ role: "antigravity" });
  const hash = await saved(planner.key, root);
  const refused = await approve(first, hash, root);
  expect([refused.status, at(refused.json, "error.code")]).toEqual([403, "FORBIDDEN"]);
  expect((await approve(second, hash, root)).status).toBe(200);
  await second.ok("POST", `/keys/${planner.id}/rotate`, {});
  expect((await approve(second, hash, root)).status).toBe(403);
});
