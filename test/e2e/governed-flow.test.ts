import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { principalOf } from "./support/ambient.ts";
import { canonicalText, exportLines, readLine, sha256 } from "./support/chain.ts";
import { eventually } from "./support/eventually.ts";
import { Gateway } from "./support/gateway.ts";
import { at, textAt } from "./support/http.ts";
import { Agent, RawSession } from "./support/mcp.ts";
import { type MintedKey, Operator } from "./support/operator.ts";
import { approvedPlan, planOf, savedPlan } from "./support/plans.ts";

/** Content that the gateway keeps outside the workspace's own storage. */
const LARGE = "a line of a large file\n".repeat(12_000);

let gateway: Gateway;
let operator: Operator;
let nextRoot = 0;

beforeAll(async () => {
  gateway = await Gateway.start({ vars: { FLUSH_INTERVAL_SECONDS: "1" } });
  operator = new Operator(gateway.url, gateway.keys.operator);
});

afterAll(async () => {
  await gateway?.dispose();
});

/** A workspace that no other test knows. */
function freshRoot(): string {
  nextRoot += 1;
  return `/srv/flow-${nextRoot}`;
}

/** An executor's session on a workspace, bound to a plan if one is given. */
async function executorOn(root: string, planHash?: string): Promise<RawSession> {
  const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
  await session.ok("begin_session", {
    workspace_root: root,
    ...(planHash === undefined ? {} : { plan_hash: planHash }),
  });
  return session;
}

async function recordsOf(sessionId: string) {
  return exportLines(await operator.export(sessionId)).map(readLine);
}

function filesQuery(root: string, path: string): string {
  return `workspace_root=${encodeURIComponent(root)}&path=${encodeURIComponent(path)}`;
}

async function versionsOf(root: string, path: string): Promise<unknown[]> {
  const answer = await operator.ok("GET", `/files/versions?${filesQuery(root, path)}`);
  const versions = at(answer, "versions");
  if (!Array.isArray(versions)) throw new Error("no versions");
  return versions;
}

describe("from a plan to a file", () => {
  it("needs an operator's approval in between", async () => {
    const root = freshRoot();
    const plan = planOf();
    const planner = await Agent.connect(gateway.url, gateway.keys.antigravity);
    await planner.ok("begin_session", { workspace_root: root });
    const saved = await planner.ok("save_plan", { plan });
    const hash = textAt(saved, "plan_hash");
    expect(saved).toEqual({
      plan_hash: sha256(canonicalText(JSON.parse(JSON.stringify(plan)))),
      status: "proposed",
      lint: { ok: true, findings: [] },
    });
    expect(await planner.ok("save_plan", { plan })).toEqual(saved);

    const executor = await Agent.connect(gateway.url, gateway.keys.windsurf);
    await executor.ok("begin_session", { workspace_root: root });
    const write = { path: "src/greeting.ts", content: "export const hello = 1;\n" };
    expect((await executor.call("write_file", write)).code).toBe("PLAN_REQUIRED");
    const unknown = { ...write, plan_hash: "0".repeat(64) };
    expect((await executor.call("write_file", unknown)).code).toBe("PLAN_NOT_FOUND");
    const planned = { ...write, plan_hash: hash };
    expect((await executor.call("write_file", planned)).code).toBe("PLAN_NOT_APPROVED");
    const bound = { workspace_root: root, plan_hash: hash };
    expect((await executor.call("begin_session", bound)).code).toBe("PLAN_NOT_APPROVED");

    const approved = await operator.approve(hash, root);
    expect(approved).toMatchObject({
      plan_hash: hash,
      status: "approved",
      workspace_root: root,
      tenant: "default",
      approved_by: principalOf(gateway.keys.operator),
      plan,
    });

    expect(await executor.ok("write_file", planned)).toEqual({
      path: write.path,
      sha256: sha256(write.content),
      bytes: Buffer.byteLength(write.content),
      version: 1,
      plan_hash: hash,
    });
    expect(await executor.ok("read_file", { path: write.path })).toEqual({
      path: write.path,
      content: write.content,
      encoding: "utf-8",
      sha256: sha256(write.content),
      bytes: Buffer.byteLength(write.content),
      version: 1,
    });
    expect(await executor.ok("list_plans", { status: "approved" })).toMatchObject({
      plans: [{ plan_hash: hash, title: plan.title, status: "approved" }],
    });
    expect(await executor.ok("read_plan", { plan_hash: hash })).toEqual({
      plan_hash: hash,
      status: "approved",
      plan,
    });
    expect(await executor.ok("verify_workspace_integrity")).toMatchObject({
      ok: true,
      findings: [],
    });
    await Promise.all([planner.end(), executor.end()]);
  });

  it("leaves an intent and its result that name the effect and the approval", async () => {
    const root = freshRoot();
    const hash = await approvedPlan(gateway, root);
    const session = await executorOn(root, hash);
    const first = await session.call("write_file", { path: "src/a", content: "one" });
    const second = await session.call("write_file", { path: "src/a", content: "two" });
    const records = await recordsOf(session.id);
    expect(records.map(({ event, result, intent_seq }) => [event, result, intent_seq])).toEqual([
      ["session_open", "ok", null],
      ["session_bind", "ok", null],
      ["tool_intent", "pending", null],
      ["tool_result", "ok", 3],
      ["tool_intent", "pending", null],
      ["tool_result", "ok", 5],
    ]);
    expect([first.receipt.seq, second.receipt.seq]).toEqual([4, 6]);
    expect(records[5]).toMatchObject({
      plan_hash: hash,
      workspace_root: root,
      tool: "write_file",
      context: {
        effect: {
          path: "src/a",
          sha256_before: sha256("one"),
          sha256_after: sha256("two"),
          version: 2,
        },
        approval: {
          by: principalOf(gateway.keys.operator),
          at: expect.stringMatching(/^\d{4}-.*Z$/),
        },
      },
    });
    expect(records[4]?.args).toEqual({ path: "src/a", content: { bytes: 3 } });
  });

  it("takes from the plan of the call before that of the session", async () => {
    const root = freshRoot();
    const docs = await approvedPlan(gateway, root, { paths: ["docs/**"], title: "Documents" });
    const source = await approvedPlan(gateway, root, { paths: ["src/**"], title: "Source" });
    const session = await executorOn(root, docs);
    const call = { path: "src/a", content: "x" };
    expect((await session.call("write_file", call)).code).toBe("PLAN_SCOPE_VIOLATION");
    expect(await session.ok("write_file", { ...call, plan_hash: source })).toMatchObject({
      plan_hash: source,
    });
  });

  it("does not hold in another workspace, however alike the plan", async () => {
    const [root, other] = [freshRoot(), freshRoot()];
    const hash = await approvedPlan(gateway, root);
    const session = await executorOn(other);
    const call = { path: "src/a", content: "x", plan_hash: hash };
    expect((await session.call("write_file", call)).code).toBe("PLAN_NOT_FOUND");
    expect(await savedPlan(gateway, other)).toBe(hash);
    expect((await session.call("write_file", call)).code).toBe("PLAN_NOT_APPROVED");
  });

  it("refuses a plan that lint refuses, and does not save it", async () => {
    const root = freshRoot();
    const planner = await RawSession.open(gateway.url, gateway.keys.antigravity);
    await planner.ok("begin_session", { workspace_root: root });
    for (const [fields, code] of [
      [{ paths: ["../**"] }, "PLAN_PATH_ESCAPE"],
      [{ paths: ["!src/**"] }, "PLAN_INVALID_PATH"],
      [{ paths: ["src/{a,b}"] }, "PLAN_INVALID_PATH"],
      [{ paths: [] }, "PLAN_EMPTY_SCOPE"],
      [{ tools: [{ name: "write_file", when: "args." }] }, "PLAN_INVALID_PATH"],
    ] as const) {
      const outcome = await planner.call("save_plan", { plan: planOf(fields) });
      expect(outcome.code).toBe("INVALID_ARGUMENT");
      expect(outcome.text).toContain(code);
    }
    expect(await planner.ok("list_plans")).toMatchObject({ plans: [] });
  });
});

describe("the scope of a plan", () => {
  it("decides which path may be changed by which tool", async () => {
    const root = freshRoot();
    const hash = await approvedPlan(gateway, root, {
      paths: ["src/**", "README.md"],
      tools: ["write_file", { name: "delete_file", when: "args.path.startsWith('src/tmp/')" }],
      forbidden: { paths: ["src/secrets/**", "**/.env"] },
    });
    const session = await executorOn(root, hash);
    const write = async (path: string) =>
      (await session.call("write_file", { path, content: path })).code;
    const drop = async (path: string) => (await session.call("delete_file", { path })).code;
    for (const path of ["src/a", "src/deep/er/b.ts", "src/.hidden", "README.md", "src/tmp/x"]) {
      expect([path, await write(path)]).toEqual([path, null]);
    }
    for (const path of [
      ...["docs/a", "readme.md", "SRC/a", "README.md.bak", "README.md/x", "srcs/a"],
      ...["src/secrets/key", "src/Secrets/key", "src/SECRETS/KEY", "src/ſecrets/key"],
      ...["src/.env", "src/.ENV", "src/a/.Env"],
    ]) {
      expect([path, await write(path)]).toEqual([path, "PLAN_SCOPE_VIOLATION"]);
    }
    expect(await drop("src/a")).toBe("PLAN_SCOPE_VIOLATION");
    expect(await drop("src/tmp/x")).toBeNull();
    const listed = await session.ok("list_files");
    expect(at(listed, "files")).toEqual(
      ["README.md", "src/.hidden", "src/a", "src/deep/er/b.ts"].map((path) =>
        expect.objectContaining({ path, sha256: sha256(path), version: 1 }),
      ),
    );
  });

  it("keeps what a bound plan forbids from being read too", async () => {
    const root = freshRoot();
    const open = await approvedPlan(gateway, root, { title: "Everything in src" });
    const careful = await approvedPlan(gateway, root, { forbidden: { paths: ["src/secrets/**"] } });
    const writer = await executorOn(root, open);
    await writer.ok("write_file", { path: "src/secrets/key", content: "k" });
    await writer.ok("write_file", { path: "src/open", content: "o" });
    const reader = await executorOn(root, careful);
    expect((await reader.call("read_file", { path: "src/secrets/key" })).code).toBe(
      "PLAN_SCOPE_VIOLATION",
    );
    expect(at(await reader.ok("list_files"), "files")).toMatchObject([{ path: "src/open" }]);
    expect((await reader.call("read_file", { path: "src/open" })).code).toBeNull();
  });

  it("names the tools that may change something: one it does not name may not", async () => {
    const root = freshRoot();
    const hash = await approvedPlan(gateway, root, { tools: ["write_file"] });
    const session = await executorOn(root, hash);
    await session.ok("write_file", { path: "src/a", content: "x" });
    expect((await session.call("delete_file", { path: "src/a" })).code).toBe(
      "PLAN_SCOPE_VIOLATION",
    );
  });
});

describe("the end of an approval", () => {
  it("is revocation: the next change is refused, for good", async () => {
    const root = freshRoot();
    const hash = await approvedPlan(gateway, root);
    const session = await executorOn(root, hash);
    await session.ok("write_file", { path: "src/a", content: "before" });
    expect(await operator.revoke(hash, root)).toMatchObject({
      status: "revoked",
      revoked_by: principalOf(gateway.keys.operator),
    });
    const call = { path: "src/a", content: "after" };
    expect((await session.call("write_file", call)).code).toBe("PLAN_NOT_APPROVED");
    expect((await session.call("delete_file", { path: "src/a" })).code).toBe("PLAN_NOT_APPROVED");
    expect(await session.ok("read_file", { path: "src/a" })).toMatchObject({ content: "before" });
    const again = await operator.send("POST", `/plans/${hash}/approve`, { workspace_root: root });
    expect([again.status, at(again.json, "error.code")]).toEqual([409, "CONFLICT"]);
  });

  it("never lets a write through that came after the revocation was answered", async () => {
    const root = freshRoot();
    const hash = await approvedPlan(gateway, root);
    const sessions = await Promise.all([1, 2, 3].map(() => executorOn(root, hash)));
    let revoked = false;
    const late: string[] = [];
    const writing = sessions.map(async (session, writer) => {
      for (let n = 0; ; n++) {
        const sentAfter = revoked;
        const { code } = await session.call("write_file", {
          path: `src/${writer}`,
          content: String(n),
        });
        if (code === null && sentAfter) late.push(`${writer}/${n}`);
        if (code !== null) return code;
      }
    });
    await eventually("every writer has written", async () =>
      (await Promise.all([0, 1, 2].map((n) => versionsOf(root, `src/${n}`)))).every(
        (versions) => versions.length > 1,
      )
        ? true
        : null,
    );
    const answer = await operator.revoke(hash, root);
    revoked = true;
    expect(await Promise.all(writing)).toEqual(Array(3).fill("PLAN_NOT_APPROVED"));
    expect(late).toEqual([]);
    const revokedAt = textAt(answer, "revoked_at");
    for (const writer of [0, 1, 2]) {
      for (const version of await versionsOf(root, `src/${writer}`)) {
        expect(textAt(version, "created_at") <= revokedAt).toBe(true);
      }
    }
  });

  it("is the plan's own end", async () => {
    const root = freshRoot();
    const hash = await approvedPlan(gateway, root, {
      expires_at: new Date(Date.now() + 3_000).toISOString(),
    });
    const session = await executorOn(root, hash);
    await eventually("the plan has ended", async () => {
      const { code } = await session.call("write_file", { path: "src/a", content: "x" });
      return code === "PLAN_EXPIRED" ? true : null;
    });
    const begun = await session.call("begin_session", { workspace_root: root, plan_hash: hash });
    expect(begun.code).toBe("PLAN_EXPIRED");
    expect(await operator.ok("GET", `/plans?workspace_root=${root}&status=expired`)).toMatchObject({
      plans: [{ plan_hash: hash, status: "expired" }],
    });
  });
});

describe("the content of files", () => {
  it.each([
    { what: "no text", content: "" },
    { what: "text with NUL and every line end", content: "a\u0000b\r\nc\u2028d\ue000\u{1f600}" },
    { what: "a byte order mark", content: "\ufeffx" },
    { what: "a noncharacter", content: "x\uffff" },
    { what: "a large text", content: LARGE },
  ])("comes back as it was written: $what", async ({ content }) => {
    const root = freshRoot();
    const session = await executorOn(root, await approvedPlan(gateway, root));
    const facts = {
      path: "src/f",
      sha256: sha256(content),
      bytes: Buffer.byteLength(content),
      version: 1,
    };
    expect(await session.ok("write_file", { path: "src/f", content })).toMatchObject(facts);
    expect(await session.ok("read_file", { path: "src/f" })).toEqual({
      ...facts,
      content,
      encoding: "utf-8",
    });
    const versioned = await operator.ok(
      "GET",
      `/files/content?${filesQuery(root, "src/f")}&version=1`,
    );
    expect(versioned).toMatchObject({ content, sha256: facts.sha256 });
  });

  it.each([
    { what: "few bytes", bytes: Buffer.from([0, 255, 128, 10]) },
    { what: "many bytes", bytes: Buffer.alloc(200_000, 0x9d) },
  ])("comes back as it was written in base64: $what", async ({ bytes }) => {
    const root = freshRoot();
    const session = await executorOn(root, await approvedPlan(gateway, root));
    const call = { path: "src/f", content: bytes.toString("base64"), encoding: "base64" };
    expect(await session.ok("write_file", call)).toMatchObject({ sha256: sha256(bytes) });
    expect(await session.ok("read_file", { path: "src/f" })).toMatchObject({
      content: call.content,
      encoding: "base64",
      bytes: bytes.byteLength,
    });
  });

  it.each(["a", "YQ", "YQ==\n", "-_-_", "Y Q=="])(
    "is refused where it is not the base64 of anything: %j",
    async (content) => {
      const root = freshRoot();
      const session = await executorOn(root, await approvedPlan(gateway, root));
      const call = { path: "src/f", content, encoding: "base64" };
      expect((await session.call("write_file", call)).code).toBe("INVALID_ARGUMENT");
      expect(await versionsOf(root, "src/f")).toEqual([]);
    },
  );

  it("makes no version when it is what is there already", async () => {
    const root = freshRoot();
    const session = await executorOn(root, await approvedPlan(gateway, root));
    const call = { path: "src/f", content: "same" };
    expect(await session.ok("write_file", call)).toMatchObject({ version: 1 });
    expect(await session.ok("write_file", call)).toMatchObject({ version: 1 });
    expect(await versionsOf(root, "src/f")).toHaveLength(1);
  });

  it("stays readable to the operator, overwritten or deleted", async () => {
    const root = freshRoot();
    const session = await executorOn(root, await approvedPlan(gateway, root));
    const one = await session.call("write_file", { path: "src/f", content: "one" });
    await session.ok("write_file", { path: "src/f", content: LARGE });
    expect(await session.ok("delete_file", { path: "src/f" })).toEqual({
      path: "src/f",
      version: 3,
    });
    expect((await session.call("read_file", { path: "src/f" })).code).toBe("NOT_FOUND");
    expect((await session.call("delete_file", { path: "src/f" })).code).toBe("NOT_FOUND");
    await session.ok("write_file", { path: "src/f", content: "again", expected_sha256: "" });
    expect(await versionsOf(root, "src/f")).toMatchObject([
      { version: 4, deleted: false, sha256: sha256("again") },
      { version: 3, deleted: true, sha256: null, bytes: 0 },
      { version: 2, deleted: false, bytes: LARGE.length },
      {
        version: 1,
        deleted: false,
        session_id: session.id,
        seq: one.receipt.seq - 1,
        principal: principalOf(gateway.keys.windsurf),
      },
    ]);
    for (const [version, content] of [
      [1, "one"],
      [2, LARGE],
      [4, "again"],
    ] as const) {
      const path = `/files/content?${filesQuery(root, "src/f")}&version=${version}`;
      expect(await operator.ok("GET", path)).toMatchObject({ version, content });
    }
    for (const version of [3, 5]) {
      const path = `/files/content?${filesQuery(root, "src/f")}&version=${version}`;
      expect((await operator.get(path)).status).toBe(404);
    }
  });
});

describe("several writers on one file", () => {
  it("lose no update: an expected_sha256 that no longer holds is a conflict", async () => {
    const root = freshRoot();
    const session = await executorOn(root, await approvedPlan(gateway, root));
    const write = (content: string, expected?: string) =>
      session.call("write_file", {
        path: "src/f",
        content,
        ...(expected === undefined ? {} : { expected_sha256: expected }),
      });
    expect((await write("one", "")).code).toBeNull();
    expect((await write("two", "")).code).toBe("CONFLICT");
    expect((await write("two", sha256("other"))).code).toBe("CONFLICT");
    expect((await write("two", sha256("one"))).code).toBeNull();
    expect((await write("three", sha256("one"))).code).toBe("CONFLICT");
    const stale = { path: "src/f", expected_sha256: sha256("one") };
    expect((await session.call("delete_file", stale)).code).toBe("CONFLICT");
    expect(await session.ok("read_file", { path: "src/f" })).toMatchObject({ content: "two" });
    const current = { path: "src/f", expected_sha256: sha256("two") };
    expect((await session.call("delete_file", current)).code).toBeNull();
    expect((await write("four", sha256("two"))).code).toBe("CONFLICT");
  });

  it("at the same moment: exactly one wins, round after round", async () => {
    const root = freshRoot();
    const hash = await approvedPlan(gateway, root);
    const sessions = await Promise.all([0, 1, 2, 3].map(() => executorOn(root, hash)));
    let expected = "";
    for (let round = 0; round < 8; round++) {
      const outcomes = await Promise.all(
        sessions.map((session, writer) =>
          session.call("write_file", {
            path: "src/counter",
            content: `${round}/${writer}`,
            expected_sha256: expected,
          }),
        ),
      );
      const codes = outcomes.map(({ code }) => code);
      expect(codes.toSorted()).toEqual(["CONFLICT", "CONFLICT", "CONFLICT", null]);
      expected = sha256(`${round}/${codes.indexOf(null)}`);
      const [reader] = sessions;
      expect(await reader?.ok("read_file", { path: "src/counter" })).toMatchObject({
        sha256: expected,
        version: round + 1,
      });
    }
    expect(await versionsOf(root, "src/counter")).toHaveLength(8);
  });
});

describe("paths and roots that try to get out", () => {
  const ESCAPES = [
    ...["..", "../a", "a/../b", "a/..", "../../etc/passwd", "/etc/passwd", "/", "//a"],
    ...["a\\b", "..\\a", "\\\\host\\share", "C:/a", "c:a", "C:\\a"],
    ...["%2e%2e/a", "a/%2E%2e/b", "a%2fb", "a%2Fb", "a%5cb", "%2e"],
  ];
  const MALFORMED = [
    ...["", ".", "./a", "a/./b", "a/.", "a//b", "a/"],
    ...["a\u0000b", "a\nb", "a\u007fb", "a\u200bb", "a\u202eb", "\ufeffa", "a\u2028b"],
    ...["e\u0301", "a/\u212b", "x".repeat(1025), `${"é".repeat(512)}x`],
  ];

  it("is refused by every tool that takes a path, and nothing is stored", async () => {
    const root = freshRoot();
    const hash = await approvedPlan(gateway, root, { paths: ["**"] });
    const session = await executorOn(root, hash);
    for (const [paths, code] of [
      [ESCAPES, "PATH_ESCAPE"],
      [MALFORMED, "INVALID_ARGUMENT"],
    ] as const) {
      for (const path of paths) {
        const codes = [
          (await session.call("write_file", { path, content: "x" })).code,
          (await session.call("read_file", { path })).code,
          (await session.call("delete_file", { path })).code,
        ];
        expect([path, ...codes]).toEqual([path, code, code, code]);
      }
    }
    expect(await session.ok("list_files")).toEqual({ files: [], next_cursor: null });
  });

  it("is refused before the plan is looked at", async () => {
    const session = await executorOn(freshRoot());
    expect((await session.call("write_file", { path: "../a", content: "" })).code).toBe(
      "PATH_ESCAPE",
    );
    expect((await session.call("write_file", { path: "a", content: "" })).code).toBe(
      "PLAN_REQUIRED",
    );
  });

  it("is no matter of strange names that stay inside", async () => {
    const root = freshRoot();
    const session = await executorOn(root, await approvedPlan(gateway, root, { paths: ["**"] }));
    const paths = [
      ...[".env", "...", "..a", "a..", "a...b", ".a/.b", "!a", "~", "~root", "-rf", "$(x)"],
      ...[
        "{a,b}",
        "[a]",
        "(a)",
        "*",
        "a b",
        "a'b",
        'a"b',
        "ab:c",
        "con",
        "%00",
        "%",
        "é",
        "日本/語",
      ],
      ...["A", "a", "x".repeat(1024), `${"é".repeat(511)}/x`, "__proto__", "constructor"],
    ];
    for (const path of paths) {
      const written = await session.call("write_file", { path, content: path });
      expect([path, written.code]).toEqual([path, null]);
    }
    for (const path of paths) {
      expect(await session.ok("read_file", { path })).toMatchObject({ path, content: path });
    }
    const listed = at(await session.ok("list_files"), "files");
    expect(Array.isArray(listed) && listed.map((file) => textAt(file, "path")).sort()).toEqual(
      paths.toSorted(),
    );
  });

  it("is refused as a root", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const roots = ESCAPES.filter((path) => !path.startsWith("/")).map((path) => `/srv/${path}`);
    for (const root of [...roots, "/../a", "/srv/.."]) {
      // A drive letter and a doubled slash mean nothing after another segment.
      const fine = /^\/srv\/[Cc]:\/?a$/.test(root);
      const { code } = await session.call("begin_session", { workspace_root: root });
      expect([root, code]).toEqual([root, fine ? null : "PATH_ESCAPE"]);
    }
    for (const root of [
      ...["", "srv", "/", "/srv/", "//srv", "/srv//a", "/srv/./a", "/a\u0000", "/e\u0301"],
      `/${"x".repeat(1024)}`,
    ]) {
      const { code } = await session.call("begin_session", { workspace_root: root });
      expect([root, code]).toEqual([root, "INVALID_ARGUMENT"]);
    }
    for (const root of [4, null, ["/srv"], { toString: "/srv" }]) {
      const { code } = await session.call("begin_session", { workspace_root: root });
      expect([root, code]).toEqual([root, "INVALID_ARGUMENT"]);
    }
  });
});

describe("who sees whose work", () => {
  let elsewhere: MintedKey;

  beforeAll(async () => {
    elsewhere = await operator.mintKey({ role: "windsurf", tenant: "elsewhere" });
  });

  it("an auditor reads any session of its tenant, and none of another", async () => {
    const root = freshRoot();
    const hash = await approvedPlan(gateway, root);
    const executor = await executorOn(root, hash);
    const written = await executor.call("write_file", { path: "src/a", content: "x" });
    await executor.call("write_file", { path: "docs/a", content: "x" });
    const foreign = await RawSession.open(gateway.url, elsewhere.key);
    await foreign.ok("begin_session", { workspace_root: root });

    const auditor = await Agent.connect(gateway.url, gateway.keys.auditor);
    const of = (audit_session_id: string) => ({ audit_session_id });
    const log = await auditor.ok("read_audit_log", of(executor.id));
    expect(log).toMatchObject({ head: { seq: 6 }, next_after_seq: null });
    expect(at(log, "entries.3")).toMatchObject(written.receipt);
    expect(await auditor.ok("verify_workspace_integrity", of(executor.id))).toMatchObject({
      ok: true,
      chain: { records: 6 },
      files: { checked: 1 },
      plans: { checked: 1 },
    });
    const replay = await auditor.ok("replay_execution", { plan_hash: hash, ...of(executor.id) });
    expect(replay).toMatchObject({
      plan_hash: hash,
      plan: { status: "approved" },
      actions: [
        { event: "session_bind" },
        { seq: 3, result_seq: 4, tool: "write_file", result: "ok", effect: { path: "src/a" } },
        { seq: 5, result_seq: 6, result: "error", error_code: "PLAN_SCOPE_VIOLATION" },
      ],
      deviations: [{ seq: 5, code: "PLAN_SCOPE_VIOLATION" }],
      next_seq_start: null,
    });
    for (const [name, args] of [
      ["read_audit_log", of(foreign.id)],
      ["verify_workspace_integrity", of(foreign.id)],
      ["replay_execution", { plan_hash: hash, ...of(foreign.id) }],
      ["read_audit_log", of("00000000-0000-8000-8000-000000000000")],
      ["read_audit_log", of("x")],
    ] as const) {
      expect([name, (await auditor.call(name, args)).code]).toEqual([name, "SESSION_NOT_FOUND"]);
    }
    await auditor.end();
  });

  it("an agent reads no session but its own", async () => {
    const [mine, other] = await Promise.all([executorOn(freshRoot()), executorOn(freshRoot())]);
    for (const name of ["read_audit_log", "verify_workspace_integrity"]) {
      const own = await mine.call(name, { audit_session_id: mine.id });
      expect([name, own.code]).toEqual([name, null]);
      const refused = await mine.call(name, { audit_session_id: other.id });
      expect([name, refused.code]).toEqual([name, "ROLE_FORBIDDEN"]);
    }
  });

  it("a root of the same name in another tenant is another workspace", async () => {
    const root = freshRoot();
    const hash = await approvedPlan(gateway, root);
    await (await executorOn(root, hash)).ok("write_file", { path: "src/a", content: "ours" });
    const foreign = await RawSession.open(gateway.url, elsewhere.key);
    await foreign.ok("begin_session", { workspace_root: root });
    expect((await foreign.call("read_file", { path: "src/a" })).code).toBe("NOT_FOUND");
    const call = { path: "src/a", content: "theirs", plan_hash: hash };
    expect((await foreign.call("write_file", call)).code).toBe("PLAN_NOT_FOUND");
    const plans = await operator.ok("GET", `/plans?workspace_root=${root}&tenant=elsewhere`);
    expect(plans).toMatchObject({ plans: [] });
  });

  it("a key narrowed to workspaces works in those alone", async () => {
    const team = "/srv/team-1/*";
    const executor = await operator.mintKey({
      role: "windsurf",
      workspaces: [team, "/srv/shared"],
    });
    const session = await RawSession.open(gateway.url, executor.key);
    const codes = async (roots: string[]) => {
      const found = [];
      for (const root of roots) {
        found.push((await session.call("begin_session", { workspace_root: root })).code);
      }
      return found;
    };
    expect(await codes(["/srv/team-1/a", "/srv/shared"])).toEqual([null, null]);
    const outside = [
      "/srv/team-1",
      "/srv/team-1/a/b",
      "/srv/team-2/a",
      "/srv/shared/x",
      "/srv/Shared",
    ];
    expect(await codes(outside)).toEqual(outside.map(() => "FORBIDDEN"));

    const auditorKey = await operator.mintKey({ role: "auditor", workspaces: [team] });
    const auditor = await RawSession.open(gateway.url, auditorKey.key);
    const inside = await executorOn("/srv/team-1/b");
    const elsewhereInTenant = await executorOn(freshRoot());
    const read = (session_id: string) =>
      auditor.call("read_audit_log", { audit_session_id: session_id });
    expect((await read(inside.id)).code).toBeNull();
    expect((await read(elsewhereInTenant.id)).code).toBe("SESSION_NOT_FOUND");
  });
});
