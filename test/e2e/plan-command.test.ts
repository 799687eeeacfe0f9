import { afterAll, beforeAll, expect, it } from "vitest";
import { atlasGate } from "../cli/command.ts";
import { Gateway } from "./support/gateway.ts";
import { textAt } from "./support/http.ts";
import { Agent } from "./support/mcp.ts";
import { planOf } from "./support/plans.ts";

const ROOT = "/srv/command";
/** What a hostile title would do to a terminal: clear it, and turn the text around. */
const TITLE = "Harmless\u001b[2J\u202Eevil";

let gateway: Gateway;
let hash: string;

beforeAll(async () => {
  gateway = await Gateway.start({ vars: { PLAN_APPROVALS_REQUIRED: "1" } });
  const planner = await Agent.connect(gateway.url, gateway.keys.antigravity);
  await planner.ok("begin_session", { workspace_root: ROOT });
  const plan = planOf({ title: TITLE, tools: ["write_file"], paths: ["src/**"] });
  hash = textAt(await planner.ok("save_plan", { plan }), "plan_hash");
  await planner.close();
});

afterAll(async () => {
  await gateway?.dispose();
});

const plan = (...args: string[]) => atlasGate("plan", ...args, "--state-dir", gateway.stateDir);
const here = ["--workspace-root", ROOT];

it("lists and shows what waits, and nothing that a terminal would act on", async () => {
  const listed = await plan("list", "--status", "proposed");
  expect(listed).toMatchObject({ code: 0, stderr: "" });
  expect(listed.stdout).toContain(`${hash}  proposed  default  "${ROOT}"`);
  const shown = await plan("show", hash, ...here);
  expect(shown.stdout).toContain("Approved, it allows:");
  expect(shown.stdout).toContain(
    'Create and overwrite files of "/srv/command" that match "src/**".',
  );
  for (const { stdout } of [listed, shown]) {
    expect(stdout).toContain("Harmless");
    expect(stdout.replaceAll("\n", "")).not.toMatch(/\p{Cc}|\p{Cf}/u);
  }
});

it("approves nothing unless somebody says so", async () => {
  const unanswered = await plan("approve", hash, ...here);
  expect(unanswered.code).toBe(2);
  expect(unanswered.stderr).toContain("--yes");
  // What it would grant was shown all the same.
  expect(unanswered.stdout).toContain("Create and overwrite files");
  expect((await plan("show", hash, ...here)).stdout).toContain("It is proposed.");
});

it("approves and revokes, with the reason on the plan", async () => {
  const approved = await plan("approve", hash, ...here, "--yes", "--reason", "read it");
  expect(approved.code).toBe(0);
  expect(approved.stdout).toMatch(/Create and overwrite files.*It is approved, approved by key:/s);
  const agent = await Agent.connect(gateway.url, gateway.keys.windsurf);
  await agent.ok("begin_session", { workspace_root: ROOT, plan_hash: hash });
  await agent.ok("write_file", { path: "src/a.txt", content: "a" });
  const revoked = await plan("revoke", hash, ...here, "--yes", "--json");
  expect(JSON.parse(revoked.stdout)).toMatchObject({ plan_hash: hash, status: "revoked" });
  const after = await agent.call("write_file", { path: "src/b.txt", content: "b" });
  expect(after.code).toBe("PLAN_NOT_APPROVED");
  await agent.close();
});

it.each([
  [["approve", "abc", ...here], "plan_hash"],
  [["approve", "0".repeat(64)], "--workspace-root"],
  [["show", "0".repeat(64), ...here], "PLAN_NOT_FOUND"],
  [["approve", "0".repeat(64), ...here, "--yes"], "PLAN_NOT_FOUND"],
  [["decide"], "list, show, approve or revoke"],
])("says what is wrong with %j in one line, with exit code 2", async (args, words) => {
  const ran = await plan(...args);
  expect(ran.code).toBe(2);
  expect(ran.stderr).toContain(words);
  expect(ran.stderr.trim().split("\n")).toHaveLength(1);
});
