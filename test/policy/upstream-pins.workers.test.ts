import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { wire } from "../../src/upstream/connect.ts";
import { directoryOf, forgetDirectory } from "../../src/upstream/directory.ts";
import { pinOf } from "../../src/upstream/pins.ts";
import { admin, approve, newRoot, planOf, revoke, savePlan } from "../support/gateway.ts";
import {
  advance,
  captureLogs,
  DAY,
  evict,
  inWorkspace,
  useStoppedClock,
  workspace,
} from "../support/objects.ts";
import {
  type Fake,
  fakeConnect,
  fakes,
  fakeTool,
  fakeUpstream,
} from "../upstream/fake-upstream.ts";

useStoppedClock();
captureLogs();

const TOOL = fakeTool("create_issue");
const CHANGED = fakeTool("create_issue", { description: "Also deletes the repository" });
const fake: Fake = fakeUpstream({ capabilities: { tools: {} }, tools: [TOOL] });

beforeAll(async () => {
  vi.spyOn(wire, "connect").mockImplementation(fakeConnect);
  fakes.set("https://github.acme.com/", fake);
  const body = {
    name: "github",
    url: "https://github.acme.com/",
    tenants: ["default", "other"],
  };
  const answer = await admin("POST", "/upstreams?approve=all", { body });
  if (answer.status !== 201) throw new Error(answer.text);
});

const PLAN = planOf({
  scope: {
    paths: ["src/**"],
    tools: ["write_file", { name: "github_create_issue", when: "args.repo == 'acme/api'" }],
  },
});

async function decided(
  root: string,
  planHash: string,
  changes: { tool?: string; args?: Record<string, string>; pin?: string } = {},
  tenant = "default",
) {
  const decision = await workspace(root, tenant).decideUpstream({
    planHash,
    tool: "github_create_issue",
    args: { repo: "acme/api" },
    pin: pinOf(TOOL),
    ...changes,
  });
  return decision.ok ? "ok" : decision.refusal.code;
}

/** Has the upstream define its tool so, and an operator approve that. */
async function redefine(tool: typeof TOOL): Promise<void> {
  fake.tools = [tool];
  await admin("POST", "/upstreams/github/refresh");
  const approved = await admin("POST", "/upstreams/github/tools/create_issue/approve", {
    body: { pin: pinOf(tool) },
  });
  expect(approved.status).toBe(200);
}

describe("an upstream call under a plan", () => {
  test("is decided like a write: found, approved, in scope, not expired", async () => {
    const root = newRoot();
    expect(await decided(root, "0".repeat(64))).toBe("PLAN_NOT_FOUND");
    const hash = await savePlan(root, PLAN);
    expect(await decided(root, hash)).toBe("PLAN_NOT_APPROVED");
    await approve(root, hash);
    expect(await decided(root, hash)).toBe("ok");
    expect(await decided(root, hash, { args: { repo: "acme/web" } })).toBe("PLAN_SCOPE_VIOLATION");
    expect(await decided(root, hash, { args: {} })).toBe("PLAN_SCOPE_VIOLATION");
    expect(await decided(root, hash, { tool: "github_other" })).toBe("PLAN_SCOPE_VIOLATION");
    await revoke(root, hash);
    expect(await decided(root, hash)).toBe("PLAN_NOT_APPROVED");
  });

  test("names the approval", async () => {
    const root = newRoot();
    const hash = await savePlan(root, PLAN);
    const { body } = await approve(root, hash);
    const answer = await workspace(root).decideUpstream({
      planHash: hash,
      tool: "github_create_issue",
      args: { repo: "acme/api" },
      pin: pinOf(TOOL),
    });
    expect(answer.ok && [answer.value.approval.by, answer.value.approval.at]).toEqual([
      expect.stringMatching(/^key:/),
      Object(body).approved_at,
    ]);
  });

  test("ends with the approval", async () => {
    const root = newRoot();
    const hash = await savePlan(root, PLAN);
    await approve(root, hash);
    advance(7 * DAY);
    expect(await decided(root, hash)).toBe("PLAN_EXPIRED");
  });

  test("is refused once the tool changed, until the plan is approved again", async () => {
    const root = newRoot();
    const hash = await savePlan(root, PLAN);
    const first = await approve(root, hash);
    await redefine(CHANGED);
    expect(await decided(root, hash, { pin: pinOf(CHANGED) })).toBe("PLAN_NOT_APPROVED");
    advance(1000);
    const second = await approve(root, hash);
    expect(Object(second.body).approved_at).not.toBe(Object(first.body).approved_at);
    expect(await decided(root, hash, { pin: pinOf(CHANGED) })).toBe("ok");
    expect(await decided(root, hash)).toBe("PLAN_NOT_APPROVED");
    advance(1000);
    expect((await approve(root, hash)).body).toEqual(second.body);
    await redefine(TOOL);
  });

  test("is approved for the tool as it is now, a moment after another isolate approved that", async () => {
    const root = newRoot();
    const hash = await savePlan(root, PLAN);
    await directoryOf(env);
    const pin = "e".repeat(64);
    const set = (value: string) =>
      env.ARCHIVE_DB.batch([
        env.ARCHIVE_DB.prepare("UPDATE upstream_definitions SET approved_pin = ?").bind(value),
        env.ARCHIVE_DB.prepare("UPDATE directory_version SET version = version + 1"),
      ]);
    await set(pin);
    await approve(root, hash);
    expect(await decided(root, hash, { pin })).toBe("ok");
    await set(pinOf(TOOL));
    forgetDirectory();
  });

  test("keeps the pins of the tools in scope alone, as the tenant sees them", async () => {
    const root = newRoot();
    const hash = await savePlan(root, PLAN);
    await approve(root, hash);
    const other = await savePlan(root, planOf({ title: "No upstream tool" }));
    await approve(root, other);
    const stored = await inWorkspace(root, (sql) =>
      sql.exec<{ hash: string; pins: string }>("SELECT hash, pins FROM plans").toArray(),
    );
    expect(new Map(stored.map((row) => [row.hash, JSON.parse(row.pins)]))).toEqual(
      new Map([
        [hash, { github_create_issue: pinOf(TOOL) }],
        [other, {}],
      ]),
    );
    await admin("PATCH", "/upstreams/github", { body: { tenants: ["other"] } });
    const hidden = newRoot();
    const unpinned = await savePlan(hidden, PLAN);
    await approve(hidden, unpinned);
    expect(await decided(hidden, unpinned)).toBe("PLAN_NOT_APPROVED");
    await savePlan(hidden, PLAN, "other");
    await approve(hidden, unpinned, "other");
    expect(await decided(hidden, unpinned, {}, "other")).toBe("ok");
    await admin("PATCH", "/upstreams/github", { body: { tenants: ["default", "other"] } });
  });
});

describe("a workspace of an earlier version", () => {
  test("has its plans brought up to date, and their approvals stay", async () => {
    const root = newRoot();
    const hash = await savePlan(root, planOf());
    await approve(root, hash);
    await inWorkspace(root, (sql) => sql.exec("ALTER TABLE plans DROP COLUMN pins").toArray());
    await evict(workspace(root));
    const { status, body } = await admin(
      "GET",
      `/plans/${hash}?workspace_root=${encodeURIComponent(root)}`,
    );
    expect([status, body]).toMatchObject([200, { status: "approved" }]);
    expect((await approve(root, hash)).body).toEqual(body);
    expect(await decided(root, hash, { tool: "write_file" })).toBe("PLAN_SCOPE_VIOLATION");
  });
});
