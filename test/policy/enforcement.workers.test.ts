import { describe, expect, test } from "vitest";
import type { ErrorCode } from "../../src/policy/errors.ts";
import type { Role } from "../../src/policy/roles.ts";
import {
  approvedPlan,
  type Called,
  Client,
  executor,
  mintKey,
  newRoot,
  planOf,
  recordsOf,
  revoke,
  savePlan,
  verified,
} from "../support/gateway.ts";
import {
  advance,
  captureLogs,
  HOUR,
  inWorkspace,
  MINUTE,
  useStoppedClock,
  workspace,
} from "../support/objects.ts";

useStoppedClock();
captureLogs();

const OTHER_HASH = "0".repeat(64);

/** The refusal is in the chain, as what the answer's receipt says, in one record or as a result. */
async function expectRecorded(client: Client, called: Called, code: ErrorCode): Promise<void> {
  const records = await recordsOf(client.id);
  const record = records.at(-1);
  expect(record).toMatchObject({
    seq: called.receipt?.seq,
    hash_chain: called.receipt?.hash_chain,
    result: "error",
    error_code: code,
  });
}

async function bound(role: Role, root: string): Promise<Client> {
  const client = await Client.open(await mintKey(role));
  await client.must("begin_session", { workspace_root: root });
  return client;
}

const PLANNER = [
  "begin_session",
  "lint_plan",
  "list_files",
  "list_plans",
  "read_audit_log",
  "read_file",
  "read_plan",
  "replay_execution",
  "save_plan",
  "verify_workspace_integrity",
];
const EXECUTOR = [
  "begin_session",
  "delete_file",
  "lint_plan",
  "list_files",
  "list_plans",
  "read_audit_log",
  "read_file",
  "read_plan",
  "replay_execution",
  "verify_workspace_integrity",
  "write_file",
];
const AUDITOR = [
  "begin_session",
  "read_audit_log",
  "replay_execution",
  "verify_workspace_integrity",
];

/** Arguments that fit the schema of each tool. */
const FITTING: Record<string, Record<string, unknown>> = {
  begin_session: { workspace_root: "/srv/app" },
  delete_file: { path: "src/a" },
  lint_plan: { plan: {} },
  list_files: {},
  list_plans: {},
  read_audit_log: {},
  read_file: { path: "src/a" },
  read_plan: { plan_hash: OTHER_HASH },
  replay_execution: { plan_hash: OTHER_HASH },
  save_plan: { plan: {} },
  verify_workspace_integrity: {},
  write_file: { path: "src/a", content: "a" },
};

describe("roles", () => {
  test.for([
    ["antigravity", PLANNER],
    ["windsurf", EXECUTOR],
    ["auditor", AUDITOR],
  ] as const)(
    "%s is shown what it may call, and refused the rest, on record",
    async ([role, tools]) => {
      const client = await Client.open(await mintKey(role));
      const { body } = await client.rpc("tools/list");
      expect(body).toMatchObject({ result: { tools: tools.map((name) => ({ name })) } });
      for (const [name, args] of Object.entries(FITTING)) {
        const called = await client.call(name, args);
        if (tools.some((tool) => tool === name)) {
          expect([name, called.code]).not.toEqual([name, "ROLE_FORBIDDEN"]);
          continue;
        }
        expect([name, called.code, called.status]).toEqual([name, "ROLE_FORBIDDEN", 200]);
        expect(called.rpcCode).toBeNull();
        await expectRecorded(client, called, "ROLE_FORBIDDEN");
      }
      expect((await verified(client.id)).verdicts.integrity.ok).toBe(true);
    },
  );

  test("no agent approves or revokes: there is no such tool, and the plan stays as it is", async () => {
    const root = newRoot();
    const planHash = await savePlan(root);
    for (const role of ["antigravity", "windsurf", "auditor"] as const) {
      const client = await bound(role, root);
      for (const name of ["approve_plan", "plan_approve", "approve", "revoke_plan", "__proto__"]) {
        const called = await client.call(name, { plan_hash: planHash, workspace_root: root });
        expect([called.status, called.rpcCode, called.code]).toEqual([
          200,
          -32602,
          "TOOL_NOT_FOUND",
        ]);
        await expectRecorded(client, called, "TOOL_NOT_FOUND");
        expect((await recordsOf(client.id)).at(-1)).toMatchObject({
          event: "tool_call",
          tool: name,
        });
      }
      const saved = await client.call("save_plan", {
        plan: { ...planOf(), status: "approved", approved_by: client.key.principal },
      });
      expect(["ROLE_FORBIDDEN", "INVALID_ARGUMENT"]).toContain(saved.code);
    }
    const reader = await bound("antigravity", root);
    const { value } = await reader.must("read_plan", { plan_hash: planHash });
    expect(value.status).toBe("proposed");
  });
});

describe("of several things wrong with a call, the first in the contract's order is the answer", () => {
  /** What the call has wrong, from first to last: each step mends the first. */
  type Step = {
    code: ErrorCode;
    client: Client;
    tool: string;
    args: Record<string, unknown>;
  };

  /** A workspace, and plans of it in every state; what each covers is `src/**`. */
  async function prepared() {
    const root = newRoot();
    const end = new Date(Date.now() + HOUR).toISOString();
    const proposedAndEnded = await savePlan(root, planOf({ title: "One", expires_at: end }));
    const approvedAndEnded = await approvedPlan(root, planOf({ title: "Two", expires_at: end }));
    const good = await approvedPlan(root, planOf({ title: "Three" }));
    advance(2 * HOUR);
    return { root, proposedAndEnded, approvedAndEnded, good };
  }

  test.for(["write_file", "delete_file"] as const)("%s", async (tool) => {
    const { root, proposedAndEnded, approvedAndEnded, good } = await prepared();
    const planner = await Client.open(await mintKey("antigravity"));
    const unbound = await Client.open(await mintKey("windsurf"));
    const client = await bound("windsurf", root);
    const content = tool === "write_file" ? { content: "a" } : {};
    const outside = { ...content, path: "outside", expected_sha256: OTHER_HASH };
    const escaping = { ...outside, path: "../etc/passwd", plan_hash: OTHER_HASH };
    const steps: Step[] = [
      { code: "INVALID_ARGUMENT", client: planner, tool, args: { ...escaping, unknown: 1 } },
      { code: "ROLE_FORBIDDEN", client: planner, tool, args: escaping },
      { code: "SESSION_REQUIRED", client: unbound, tool, args: escaping },
      { code: "PATH_ESCAPE", client, tool, args: escaping },
      { code: "PATH_ESCAPE", client, tool, args: { ...outside, path: "/etc/passwd" } },
      { code: "PLAN_REQUIRED", client, tool, args: outside },
      { code: "PLAN_NOT_FOUND", client, tool, args: { ...outside, plan_hash: OTHER_HASH } },
      {
        code: "PLAN_NOT_APPROVED",
        client,
        tool,
        args: { ...outside, plan_hash: proposedAndEnded },
      },
      { code: "PLAN_EXPIRED", client, tool, args: { ...outside, plan_hash: approvedAndEnded } },
      { code: "PLAN_SCOPE_VIOLATION", client, tool, args: { ...outside, plan_hash: good } },
      { code: "CONFLICT", client, tool, args: { ...outside, path: "src/a", plan_hash: good } },
    ];
    for (const step of steps) {
      const called = await step.client.call(step.tool, step.args);
      expect(called.code).toBe(step.code);
      await expectRecorded(step.client, called, step.code);
    }
    // Refused before the Workspace was asked: one record. By the Workspace: an intent's result.
    const records = await recordsOf(client.id);
    expect(records.slice(2).map(({ event, error_code }) => [event, error_code])).toEqual([
      ["tool_call", "PATH_ESCAPE"],
      ["tool_call", "PATH_ESCAPE"],
      ["tool_call", "PLAN_REQUIRED"],
      ...[
        "PLAN_NOT_FOUND",
        "PLAN_NOT_APPROVED",
        "PLAN_EXPIRED",
        "PLAN_SCOPE_VIOLATION",
        "CONFLICT",
      ].flatMap((code) => [
        ["tool_intent", null],
        ["tool_result", code],
      ]),
    ]);
    for (const { id } of [planner, unbound, client]) {
      expect((await verified(id)).verdicts.integrity).toEqual({ ok: true, findings: [] });
    }
    const { files } = await workspace(root).list("", "", 10, null);
    expect(files).toEqual([]);
    const journal = await inWorkspace(root, (sql) =>
      sql.exec("SELECT 1 FROM journal WHERE session_id = ?", client.id).toArray(),
    );
    expect(journal).toEqual([]);
  });

  test("begin_session", async () => {
    const { root, proposedAndEnded, approvedAndEnded, good } = await prepared();
    const client = await Client.open(await mintKey("windsurf", { workspaces: ["/srv/**"] }));
    const tool = "begin_session";
    const steps: [ErrorCode | null, Record<string, unknown>][] = [
      ["INVALID_ARGUMENT", { workspace_root: "/srv/../etc", plan_hash: "short" }],
      ["PATH_ESCAPE", { workspace_root: "/srv/../etc", plan_hash: OTHER_HASH }],
      ["FORBIDDEN", { workspace_root: "/etc", plan_hash: OTHER_HASH }],
      ["PLAN_NOT_FOUND", { workspace_root: root, plan_hash: OTHER_HASH }],
      ["PLAN_NOT_APPROVED", { workspace_root: root, plan_hash: proposedAndEnded }],
      ["PLAN_EXPIRED", { workspace_root: root, plan_hash: approvedAndEnded }],
      [null, { workspace_root: root, plan_hash: good }],
    ];
    const codes = [];
    for (const [, args] of steps) codes.push((await client.call(tool, args)).code);
    expect(codes).toEqual(steps.map(([code]) => code));
    const records = (await recordsOf(client.id)).slice(1);
    expect(records.map(({ event, error_code }) => [event, error_code])).toEqual(
      steps.map(([code]) => [code === null ? "session_bind" : "tool_call", code]),
    );
  });

  test("reads, and the tools of plans", async () => {
    const root = newRoot();
    const auditor = await Client.open(await mintKey("auditor"));
    const unbound = await Client.open(await mintKey("antigravity"));
    const planner = await bound("antigravity", root);
    const bad = { ...planOf(), title: 7 };
    const steps: Step[] = [
      { code: "INVALID_ARGUMENT", client: auditor, tool: "read_file", args: { path: 7 } },
      { code: "ROLE_FORBIDDEN", client: auditor, tool: "read_file", args: { path: "../x" } },
      { code: "SESSION_REQUIRED", client: unbound, tool: "read_file", args: { path: "../x" } },
      { code: "PATH_ESCAPE", client: planner, tool: "read_file", args: { path: "../x" } },
      { code: "NOT_FOUND", client: planner, tool: "read_file", args: { path: "x" } },
      { code: "SESSION_REQUIRED", client: unbound, tool: "list_files", args: { prefix: "../x" } },
      { code: "PATH_ESCAPE", client: planner, tool: "list_files", args: { prefix: "../x" } },
      { code: "ROLE_FORBIDDEN", client: auditor, tool: "save_plan", args: { plan: bad } },
      { code: "SESSION_REQUIRED", client: unbound, tool: "save_plan", args: { plan: bad } },
      { code: "INVALID_ARGUMENT", client: planner, tool: "save_plan", args: { plan: bad } },
      { code: "SESSION_REQUIRED", client: unbound, tool: "list_plans", args: {} },
      {
        code: "SESSION_REQUIRED",
        client: unbound,
        tool: "read_plan",
        args: { plan_hash: OTHER_HASH },
      },
      {
        code: "PLAN_NOT_FOUND",
        client: planner,
        tool: "read_plan",
        args: { plan_hash: OTHER_HASH },
      },
      {
        code: "PLAN_NOT_FOUND",
        client: planner,
        tool: "lint_plan",
        args: { plan_hash: OTHER_HASH },
      },
      { code: "INVALID_ARGUMENT", client: planner, tool: "lint_plan", args: {} },
      {
        code: "SESSION_REQUIRED",
        client: auditor,
        tool: "verify_workspace_integrity",
        args: {},
      },
      {
        code: "SESSION_NOT_FOUND",
        client: auditor,
        tool: "read_audit_log",
        args: { audit_session_id: "no-such-session" },
      },
      {
        code: "ROLE_FORBIDDEN",
        client: planner,
        tool: "read_audit_log",
        args: { audit_session_id: "no-such-session" },
      },
    ];
    for (const step of steps) {
      const called = await step.client.call(step.tool, step.args);
      expect([step.tool, called.code]).toEqual([step.tool, step.code]);
      await expectRecorded(step.client, called, step.code);
      expect((await recordsOf(step.client.id)).at(-1)?.event).toBe("tool_call");
    }
    // lint_plan of a plan in the call needs no workspace.
    expect((await unbound.call("lint_plan", { plan: planOf() })).value.ok).toBe(true);
  });
});

describe("a refusal", () => {
  test("is a tool result that names its code for people and for programs", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    const { text, message } = await client.call("read_file", { path: "a" });
    expect(JSON.parse(text)).toMatchObject({
      id: 1,
      result: {
        isError: true,
        content: [{ type: "text", text: `[SESSION_REQUIRED] ${message}` }],
        _meta: { "dev.atlas-gate/error": { code: "SESSION_REQUIRED", message } },
      },
    });
    expect(JSON.parse(text).result).not.toHaveProperty("structuredContent");
  });

  test("of arguments names the field, and is recorded with what was sent", async () => {
    const { client } = await executor(newRoot());
    const cases: [Record<string, unknown>, string][] = [
      [{ path: "src/a" }, "content"],
      [{ path: 7, content: "a" }, "path"],
      [{ path: "src/a", content: "a", mode: "0777" }, "mode"],
      [{ path: "src/a", content: "a", encoding: "utf-16" }, "encoding"],
      [{ path: "src/a", content: "a", plan_hash: "ABC" }, "plan_hash"],
      [{ path: "src/a", content: "a", plan_hash: null }, "plan_hash"],
      [{ path: "src/a", content: "a", expected_sha256: " " }, "expected_sha256"],
      [{ path: "src/a", content: ["a"] }, "content"],
      [JSON.parse('{"path":"src/a","content":"a","__proto__":{"admin":true}}'), "__proto__"],
      [JSON.parse('{"path":"src/a","content":"a","constructor":{}}'), "constructor"],
    ];
    for (const [args, field] of cases) {
      const called = await client.call("write_file", args);
      expect([called.code, called.rpcCode]).toEqual(["INVALID_ARGUMENT", null]);
      expect(called.message).toContain(field);
      await expectRecorded(client, called, "INVALID_ARGUMENT");
      const args_hash = (await recordsOf(client.id)).at(-1)?.args_hash;
      expect(args_hash).toMatch(/^[0-9a-f]{64}$/);
    }
    expect((await client.must("list_files")).value.files).toEqual([]);
  });

  test("of parameters that are no call is a protocol error, on record too", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    const cases = [
      [{ name: 7 }, "INVALID_ARGUMENT", null],
      [{}, "INVALID_ARGUMENT", null],
      [{ name: "read_file", arguments: [] }, "INVALID_ARGUMENT", "read_file"],
      [{ name: "read_file", arguments: "a" }, "INVALID_ARGUMENT", "read_file"],
      [{ name: "toString" }, "TOOL_NOT_FOUND", "toString"],
      [{ name: "" }, "TOOL_NOT_FOUND", ""],
      [{ name: "x".repeat(300) }, "TOOL_NOT_FOUND", "x".repeat(256)],
    ] as const;
    for (const [params, code, tool] of cases) {
      const { status, body } = await client.rpc("tools/call", params);
      expect(status).toBe(200);
      expect(body).toMatchObject({
        error: { code: -32602, data: { code, receipt: { session_id: client.id } } },
      });
      expect((await recordsOf(client.id)).at(-1)).toMatchObject({
        event: "tool_call",
        tool,
        error_code: code,
      });
    }
    expect((await verified(client.id)).verdicts.integrity).toEqual({ ok: true, findings: [] });
  });
});

describe("paths that try to get out, or are none", () => {
  const ESCAPES = [
    "..",
    "../a",
    "src/../../a",
    "src/..",
    "/etc/passwd",
    "//a",
    "src\\a",
    "..\\a",
    "C:/a",
    "c:a",
    "src/%2e%2e/a",
    "src%2Fa",
    "src%5ca",
    "%2E",
  ];
  const INVALID = [
    "",
    ".",
    "./a",
    "src//a",
    "src/",
    "src/./a",
    "src/a\u0000b",
    "src/a\nb",
    "src/a\u007f",
    "src/e\u0301",
    "src/\u202ea",
    "src/a\u200bb",
    "a".repeat(1025),
    `${"\u00e9".repeat(512)}a`,
  ];

  test("are refused by every tool that takes one, recorded, and nothing is written", async () => {
    const root = newRoot();
    const { client } = await executor(root, {
      plan: planOf({ scope: { paths: ["**"], tools: ["write_file", "delete_file"] } }),
    });
    const cases = [
      ...ESCAPES.map((path) => [path, "PATH_ESCAPE"] as const),
      ...INVALID.map((path) => [path, "INVALID_ARGUMENT"] as const),
    ];
    for (const [path, code] of cases) {
      for (const [tool, args] of [
        ["write_file", { path, content: "a" }],
        ["read_file", { path }],
        ["delete_file", { path }],
      ] as const) {
        const called = await client.call(tool, args);
        expect([path, tool, called.code]).toEqual([path, tool, code]);
      }
    }
    const records = (await recordsOf(client.id)).slice(2);
    expect(records.map(({ event, error_code }) => [event, error_code])).toEqual(
      cases.flatMap(([, code]) => Array.from({ length: 3 }, () => ["tool_call", code])),
    );
    expect((await client.must("list_files")).value.files).toEqual([]);
    expect((await verified(client.id)).verdicts.integrity).toEqual({ ok: true, findings: [] });
  });

  test("are refused as workspace roots, and bind nothing", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    const roots: [string, ErrorCode][] = [
      ["/srv/../etc", "PATH_ESCAPE"],
      ["/..", "PATH_ESCAPE"],
      ["\\srv", "PATH_ESCAPE"],
      ["/srv/%2e%2e/etc", "PATH_ESCAPE"],
      ["srv/app", "INVALID_ARGUMENT"],
      ["", "INVALID_ARGUMENT"],
      ["/", "INVALID_ARGUMENT"],
      ["/srv/app/", "INVALID_ARGUMENT"],
      ["//srv", "INVALID_ARGUMENT"],
      ["/srv\u0000", "INVALID_ARGUMENT"],
      ["/srv\nother", "INVALID_ARGUMENT"],
      [`/${"a".repeat(1024)}`, "INVALID_ARGUMENT"],
    ];
    for (const [workspace_root, code] of roots) {
      const called = await client.call("begin_session", { workspace_root });
      expect([workspace_root, called.code]).toEqual([workspace_root, code]);
      await expectRecorded(client, called, code);
    }
    expect((await client.call("list_files")).code).toBe("SESSION_REQUIRED");
  });

  test("are taken byte for byte where they are odd but good", async () => {
    const { client } = await executor(newRoot(), {
      plan: planOf({ scope: { paths: ["**"], tools: ["write_file"] } }),
    });
    for (const path of [
      ".env",
      "a/.git/config",
      "...",
      "a b",
      "*.txt",
      "[x]",
      "%41",
      "100%",
      "\u00e9",
      "a".repeat(1024),
      "CON",
      "ab:c",
    ]) {
      const { value } = await client.must("write_file", { path, content: path });
      expect(value.path).toBe(path);
      expect((await client.must("read_file", { path })).value.content).toBe(path);
    }
  });
});

describe("a plan", () => {
  test("covers what its globs say: dotfiles too, in the case that they have", async () => {
    const root = newRoot();
    const { client } = await executor(root, {
      plan: planOf({
        scope: { paths: ["src/**", "docs/*.md", "Makefile"], tools: ["write_file"] },
        forbidden: { paths: ["src/vendor/**"] },
      }),
    });
    const cases: [string, boolean][] = [
      ["src/a", true],
      ["src/.hidden", true],
      ["src/deep/.git/x", true],
      ["docs/a.md", true],
      ["Makefile", true],
      ["srcx/a", false],
      ["SRC/a", false],
      ["docs/deep/a.md", false],
      ["docs/a.txt", false],
      ["makefile", false],
      ["src/vendor/a", false],
      ["src/Vendor/a", false],
      ["src/VENDOR/deep/a", false],
      ["src/vendored", true],
    ];
    for (const [path, allowed] of cases) {
      const called = await client.call("write_file", { path, content: "a" });
      expect([path, called.code]).toEqual([path, allowed ? null : "PLAN_SCOPE_VIOLATION"]);
    }
    const removal = await client.call("delete_file", { path: "src/a" });
    expect(removal.code).toBe("PLAN_SCOPE_VIOLATION");
    expect(removal.message).toContain("delete_file");
  });

  test("allows a tool only when its condition holds for the arguments as sent", async () => {
    const { client } = await executor(newRoot(), {
      plan: planOf({
        scope: {
          paths: ["src/**"],
          tools: [
            { name: "write_file", when: "args.path.endsWith('.md') && size(args.content) < 10" },
          ],
        },
      }),
    });
    const write = async (path: string, content: string) =>
      (await client.call("write_file", { path, content })).code;
    expect(await write("src/a.md", "short")).toBeNull();
    expect(await write("src/a.md", "far too long")).toBe("PLAN_SCOPE_VIOLATION");
    expect(await write("src/a.txt", "short")).toBe("PLAN_SCOPE_VIOLATION");
    expect(await write("a.md", "short")).toBe("PLAN_SCOPE_VIOLATION");
  });

  test("of the call goes before that of the session", async () => {
    const root = newRoot();
    const { client, planHash } = await executor(root);
    const docs = await approvedPlan(
      root,
      planOf({ title: "Docs", scope: { paths: ["docs/**"], tools: ["write_file"] } }),
    );
    const inSrc = { path: "src/a", content: "a" };
    const inDocs = { path: "docs/a", content: "a" };
    expect((await client.call("write_file", { ...inSrc, plan_hash: docs })).code).toBe(
      "PLAN_SCOPE_VIOLATION",
    );
    const written = await client.must("write_file", { ...inDocs, plan_hash: docs });
    expect(written.value.plan_hash).toBe(docs);
    expect((await recordsOf(client.id)).slice(-2)).toMatchObject([
      { event: "tool_intent", plan_hash: docs },
      { event: "tool_result", plan_hash: docs },
    ]);
    expect((await client.must("write_file", inSrc)).value.plan_hash).toBe(planHash);
    expect((await client.call("write_file", inDocs)).code).toBe("PLAN_SCOPE_VIOLATION");
  });

  test("that is revoked ends on the next call, and a new approval is asked of the operator", async () => {
    const root = newRoot();
    const { client, planHash } = await executor(root);
    await client.must("write_file", { path: "src/a", content: "a" });
    expect((await revoke(root, planHash)).status).toBe(200);
    const refused = await client.call("write_file", { path: "src/a", content: "b" });
    expect(refused.code).toBe("PLAN_NOT_APPROVED");
    await expectRecorded(client, refused, "PLAN_NOT_APPROVED");
    const removal = await client.call("delete_file", { path: "src/a" });
    expect(removal.code).toBe("PLAN_NOT_APPROVED");
    const read = await client.must("read_file", { path: "src/a" });
    expect(read.value.content).toBe("a");
    const rebind = await client.call("begin_session", {
      workspace_root: root,
      plan_hash: planHash,
    });
    expect(rebind.code).toBe("PLAN_NOT_APPROVED");
  });

  test("with an error is not saved; the findings say where", async () => {
    const root = newRoot();
    const planner = await bound("antigravity", root);
    const bad = planOf({ scope: { paths: ["../**"], tools: ["write_file"] } });
    const refused = await planner.call("save_plan", { plan: bad });
    expect(refused.code).toBe("INVALID_ARGUMENT");
    expect(refused.message).toContain("PLAN_PATH_ESCAPE");
    await expectRecorded(planner, refused, "INVALID_ARGUMENT");
    expect((await planner.must("list_plans")).value.plans).toEqual([]);
    const linted = await planner.must("lint_plan", { plan: bad });
    expect(linted.value).toMatchObject({
      ok: false,
      findings: expect.arrayContaining([
        expect.objectContaining({ code: "PLAN_PATH_ESCAPE", severity: "error" }),
      ]),
    });
  });

  test("is what its hash covers: one letter more is another plan, and not approved", async () => {
    const root = newRoot();
    const planHash = await approvedPlan(root);
    const planner = await bound("antigravity", root);
    const other = await planner.must("save_plan", {
      plan: { ...planOf(), rollback: `${planOf().rollback}.` },
    });
    expect(other.value.plan_hash).not.toBe(planHash);
    expect(other.value.status).toBe("proposed");
    // The same plan with its keys in another order is the same.
    const reordered = Object.fromEntries(Object.entries(planOf()).reverse());
    const same = await planner.must("save_plan", { plan: reordered });
    expect(same.value).toMatchObject({ plan_hash: planHash, status: "approved" });
  });
});

describe("replay_execution", () => {
  test("tells what was done under a plan, in order, and what did not fit it", async () => {
    const root = newRoot();
    const { client, planHash } = await executor(root);
    await client.must("write_file", { path: "src/a", content: "a" });
    advance(MINUTE);
    await client.call("write_file", { path: "outside", content: "a" });
    await client.must("delete_file", { path: "src/a" });
    const replayed = await client.must("replay_execution", { plan_hash: planHash });
    expect(replayed.value).toMatchObject({
      plan_hash: planHash,
      plan: { title: planOf().title, status: "approved" },
      actions: [
        { seq: 2, event: "session_bind", result: "ok" },
        { seq: 3, result_seq: 4, tool: "write_file", result: "ok", effect: { path: "src/a" } },
        { seq: 5, result_seq: 6, tool: "write_file", error_code: "PLAN_SCOPE_VIOLATION" },
        { seq: 7, result_seq: 8, tool: "delete_file", result: "ok" },
      ],
      deviations: [{ seq: 5, code: "PLAN_SCOPE_VIOLATION" }],
      next_seq_start: null,
    });
    const part = await client.must("replay_execution", {
      plan_hash: planHash,
      tool: "delete_file",
      seq_start: 3,
      seq_end: 8,
    });
    expect(part.value.actions).toMatchObject([{ seq: 7, result_seq: 8 }]);
    const auditor = await Client.open(await mintKey("auditor"));
    const seen = await auditor.must("replay_execution", {
      plan_hash: planHash,
      audit_session_id: client.id,
    });
    expect(seen.value.deviations).toEqual(replayed.value.deviations);
    const unknown = await client.call("replay_execution", { plan_hash: OTHER_HASH });
    expect(unknown.code).toBe("PLAN_NOT_FOUND");
  });

  test("finds an effect that lies outside the plan, should the plan have been changed", async () => {
    const root = newRoot();
    const { client, planHash } = await executor(root);
    await client.must("write_file", { path: "src/a", content: "a" });
    await inWorkspace(root, (sql) => {
      sql.exec("UPDATE plans SET plan = replace(plan, 'src/**', 'docs/**')");
    });
    const replayed = await client.must("replay_execution", { plan_hash: planHash });
    expect(replayed.value.deviations).toMatchObject([{ seq: 3, code: "EFFECT_OUTSIDE_PLAN" }]);
  });
});
