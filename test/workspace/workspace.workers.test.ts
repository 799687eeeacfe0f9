import { env } from "cloudflare:workers";
import { createHash } from "node:crypto";
import { describe, expect, test, vi } from "vitest";
import type { WriteInput } from "../../src/workspace/types.ts";
import {
  admin,
  approve,
  approvedPlan,
  Client,
  executor,
  exported,
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
  crash,
  DAY,
  evict,
  gate,
  HOUR,
  inSession,
  inWorkspace,
  ring,
  session,
  tablesOf,
  useStoppedClock,
  workspace,
} from "../support/objects.ts";

useStoppedClock();
const logs = captureLogs();

const INLINE_BYTES = 64 * 1024;
const MAX_WORKSPACE_BYTES = 1024 ** 3;

function sha256(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

async function versionsOf(root: string, path: string) {
  const query = new URLSearchParams({ workspace_root: root, path });
  const answer = await admin("GET", `/files/versions?${query}`);
  return answer.body;
}

async function contentOf(root: string, path: string, version: number) {
  const query = new URLSearchParams({ workspace_root: root, path, version: String(version) });
  return admin("GET", `/files/content?${query}`);
}

/** A write as a session asks for it, of a session that the test makes up. */
function writeInput(
  root: string,
  planHash: string,
  seq: number,
  change: Partial<WriteInput>,
): WriteInput {
  const path = change.path ?? "src/a.txt";
  const content = change.content ?? "a";
  return {
    workspace: { tenant: "default", root },
    origin: { session_id: "a-session", seq, principal: "key:somebody" },
    tool: "write_file",
    args: { path, content },
    path,
    content,
    encoding: "utf-8",
    plan_hash: planHash,
    expected_sha256: null,
    ...change,
  };
}

describe("a file", () => {
  test("is versions: none is overwritten, each names its call, an operator reads them all", async () => {
    const root = newRoot();
    const { client, planHash } = await executor(root);
    const one = await client.must("write_file", { path: "src/a.txt", content: "one" });
    advance(1);
    const two = await client.must("write_file", { path: "src/a.txt", content: "two" });
    expect([one.value, two.value]).toEqual([
      { path: "src/a.txt", sha256: sha256("one"), bytes: 3, version: 1, plan_hash: planHash },
      { path: "src/a.txt", sha256: sha256("two"), bytes: 3, version: 2, plan_hash: planHash },
    ]);
    const read = await client.must("read_file", { path: "src/a.txt" });
    expect(read.value).toEqual({
      path: "src/a.txt",
      content: "two",
      encoding: "utf-8",
      sha256: sha256("two"),
      bytes: 3,
      version: 2,
    });
    expect(await versionsOf(root, "src/a.txt")).toMatchObject({
      versions: [
        { version: 2, sha256: sha256("two"), session_id: client.id, seq: 5, deleted: false },
        { version: 1, sha256: sha256("one"), session_id: client.id, seq: 3, plan_hash: planHash },
      ],
    });
    expect((await contentOf(root, "src/a.txt", 1)).body).toMatchObject({ content: "one" });
    expect((await contentOf(root, "src/a.txt", 2)).body).toMatchObject({ content: "two" });
    expect((await contentOf(root, "src/a.txt", 3)).status).toBe(404);
  });

  test("written with what is there already stays the version that it is", async () => {
    const root = newRoot();
    const { client } = await executor(root);
    await client.must("write_file", { path: "src/a.txt", content: "same" });
    const again = await client.must("write_file", { path: "src/a.txt", content: "same" });
    expect(again.value).toMatchObject({ version: 1, sha256: sha256("same"), bytes: 4 });
    expect(await versionsOf(root, "src/a.txt")).toMatchObject({ versions: [{ version: 1 }] });
    expect((await recordsOf(client.id)).at(-1)?.context).toMatchObject({
      effect: { sha256_before: sha256("same"), sha256_after: sha256("same"), version: 1 },
    });
    const checked = await client.must("verify_workspace_integrity");
    expect(checked.value).toMatchObject({ ok: true, findings: [] });
  });

  test("deleted and written again goes on with its versions", async () => {
    const root = newRoot();
    const { client } = await executor(root);
    await client.must("write_file", { path: "src/a.txt", content: "one" });
    const gone = await client.must("delete_file", { path: "src/a.txt" });
    expect(gone.value).toEqual({ path: "src/a.txt", version: 2 });
    expect((await client.call("read_file", { path: "src/a.txt" })).code).toBe("NOT_FOUND");
    expect((await client.call("delete_file", { path: "src/a.txt" })).code).toBe("NOT_FOUND");
    expect((await client.must("list_files")).value.files).toEqual([]);
    const back = await client.must("write_file", {
      path: "src/a.txt",
      content: "one",
      expected_sha256: "",
    });
    expect(back.value.version).toBe(3);
    expect(await versionsOf(root, "src/a.txt")).toMatchObject({
      versions: [
        { version: 3, deleted: false },
        { version: 2, deleted: true, sha256: null },
        { version: 1, deleted: false },
      ],
    });
    expect((await contentOf(root, "src/a.txt", 1)).body).toMatchObject({ content: "one" });
    expect((await contentOf(root, "src/a.txt", 2)).status).toBe(404);
  });

  test("is repeated by the same call only once", async () => {
    const root = newRoot();
    const planHash = await approvedPlan(root);
    const input = writeInput(root, planHash, 5, { content: "once" });
    const first = await workspace(root).write(input);
    expect(first).toMatchObject({ ok: true, value: { effect: { version: 1 } } });
    const other = writeInput(root, planHash, 6, { content: "later" });
    expect(await workspace(root).write(other)).toMatchObject({
      ok: true,
      value: { effect: { version: 2 } },
    });
    // The first call again, as its answer was lost: it says what it did, and does nothing.
    await crash(workspace(root));
    expect(await workspace(root).write(input)).toEqual(first);
    expect(await versionsOf(root, "src/a.txt")).toMatchObject({
      versions: [{ version: 2 }, { version: 1 }],
    });
    expect(await workspace(root).settle("a-session", 5)).toMatchObject({
      done: true,
      outcome: { kind: "file", effect: { version: 1 } },
    });
  });

  test("outlives the object, settled or not", async () => {
    const root = newRoot();
    const { client } = await executor(root);
    const { value } = await client.must("write_file", { path: "src/a.txt", content: "kept" });
    await crash(workspace(root));
    const read = await client.must("read_file", { path: "src/a.txt" });
    expect(read.value).toMatchObject({ content: "kept", version: value.version });
    await client.must("write_file", { path: "src/a.txt", content: "still planned" });
  });
});

describe("content comes back as it was written", () => {
  const euro = "\u20ac";
  test.for([
    ["an empty file", ""],
    ["NUL inside", "a\u0000b"],
    ["nothing but NUL", "\u0000"],
    ["a byte order mark", "\ufeffa\ufeff"],
    ["line ends of all kinds", "a\r\nb\rc\n\u2028\u2029"],
    ["characters beyond the BMP", "\u{1F600}\u{10FFFF}"],
    ["text that is not NFC", "e\u0301"],
    ["what looks like JSON escapes", '\\u0000 \\" "quoted"'],
    ["as much as is kept inline", "x".repeat(INLINE_BYTES)],
    ["one byte more, in R2", "x".repeat(INLINE_BYTES + 1)],
    ["more in bytes than in characters, in R2", euro.repeat(INLINE_BYTES / 3 + 1)],
    ["NUL and a byte order mark in R2", `\ufeff\u0000${"x".repeat(INLINE_BYTES)}`],
  ] as const)("%s", async ([, content]) => {
    const root = newRoot();
    const { client } = await executor(root);
    const bytes = new TextEncoder().encode(content);
    const written = await client.must("write_file", { path: "src/file", content });
    const expected = { sha256: sha256(bytes), bytes: bytes.length, version: 1 };
    expect(written.value).toMatchObject(expected);
    await crash(workspace(root));
    const read = await client.must("read_file", { path: "src/file" });
    expect(read.value).toEqual({ path: "src/file", content, encoding: "utf-8", ...expected });
    const blob = await env.BUCKET.get(`blobs/default/${sha256(bytes)}`);
    expect(blob !== null).toBe(bytes.length > INLINE_BYTES);
    if (blob !== null) expect(new Uint8Array(await blob.arrayBuffer())).toEqual(bytes);
    expect((await contentOf(root, "src/file", 1)).body).toMatchObject({ content });
    const checked = await client.must("verify_workspace_integrity");
    expect(checked.value).toMatchObject({ ok: true, files: { ok: true, checked: 1 } });
  });

  test.for([
    ["small", 256],
    ["large", INLINE_BYTES + 5],
  ] as const)("bytes that are no text, %s", async ([, length]) => {
    const root = newRoot();
    const { client } = await executor(root);
    const bytes = Uint8Array.from({ length }, (_, at) => at % 256);
    const content = Buffer.from(bytes).toString("base64");
    const written = await client.must("write_file", {
      path: "src/image.png",
      content,
      encoding: "base64",
    });
    expect(written.value).toMatchObject({ sha256: sha256(bytes), bytes: length });
    const read = await client.must("read_file", { path: "src/image.png" });
    expect(read.value).toMatchObject({ content, encoding: "base64", bytes: length });
  });

  test.for(["A", "AA", "AAA", "A===", "AA=A", "AAAA=", "A-A_", "AA==\n", " AA==", "\u00e4AAA"])(
    "and what is not base64 is refused: %j",
    async (content) => {
      const { client } = await executor(newRoot());
      const refused = await client.call("write_file", {
        path: "src/a",
        content,
        encoding: "base64",
      });
      expect(refused.code).toBe("INVALID_ARGUMENT");
      expect(refused.message).toContain("content");
      expect((await client.call("read_file", { path: "src/a" })).code).toBe("NOT_FOUND");
    },
  );

  test("and the same large content in two tenants is two objects", async () => {
    const content = "y".repeat(INLINE_BYTES + 1);
    for (const tenant of ["one", "two"]) {
      const { client } = await executor(newRoot(), { tenant });
      await client.must("write_file", { path: "src/file", content });
      expect(await env.BUCKET.head(`blobs/${tenant}/${sha256(content)}`)).not.toBeNull();
    }
  });
});

describe("expected_sha256", () => {
  test('must be what is there: the hash, or "" for nothing yet', async () => {
    const { client } = await executor(newRoot());
    const write = (content: string, expected_sha256: string) =>
      client.call("write_file", { path: "src/a.txt", content, expected_sha256 });
    expect((await write("one", sha256("zero"))).code).toBe("CONFLICT");
    expect((await write("one", "")).code).toBeNull();
    expect((await write("two", "")).code).toBe("CONFLICT");
    // Not even the same content may claim that there was nothing.
    expect((await write("one", "")).code).toBe("CONFLICT");
    expect((await write("two", sha256("one"))).code).toBeNull();
    expect((await write("three", sha256("one"))).code).toBe("CONFLICT");
    const large = "x".repeat(INLINE_BYTES + 1);
    expect((await write(large, sha256("one"))).code).toBe("CONFLICT");
    expect((await write(large, sha256("two"))).code).toBeNull();
    const remove = (expected_sha256: string) =>
      client.call("delete_file", { path: "src/a.txt", expected_sha256 });
    expect((await remove("")).code).toBe("CONFLICT");
    expect((await remove(sha256("two"))).code).toBe("CONFLICT");
    expect((await remove(sha256(large))).code).toBeNull();
    expect((await remove(sha256(large))).code).toBe("CONFLICT");
    expect((await write("again", sha256(large))).code).toBe("CONFLICT");
    expect((await write("again", "")).value).toMatchObject({ version: 5 });
  });

  test("lets one of two writers win, and none lose an update", async () => {
    const root = newRoot();
    const one = await executor(root);
    const key = await mintKey("windsurf");
    const other = await Client.open(key);
    await other.must("begin_session", { workspace_root: root, plan_hash: one.planHash });
    let expected = "";
    for (let round = 1; round <= 20; round++) {
      const contents = [`one ${round}`, `other ${round}`];
      // Every third round the content is large, and its way to R2 lies in between.
      const [a, b] = contents.map((text) => (round % 3 ? text : text.padEnd(INLINE_BYTES + 1)));
      const answers = await Promise.all([
        one.client.call("write_file", { path: "src/a", content: a, expected_sha256: expected }),
        other.call("write_file", { path: "src/a", content: b, expected_sha256: expected }),
      ]);
      expect(answers.map(({ code }) => code ?? "won").sort()).toEqual(["CONFLICT", "won"]);
      const winner = answers.find(({ code }) => code === null);
      expect(winner?.value.version).toBe(round);
      const read = await one.client.must("read_file", { path: "src/a" });
      expect(read.value).toMatchObject({ version: round, sha256: winner?.value.sha256 });
      expected = String(winner?.value.sha256);
    }
    for (const { id } of [one.client, other]) {
      expect((await verified(id)).verdicts.integrity).toEqual({ ok: true, findings: [] });
    }
  });

  test("is checked in the change itself, though the content was put to R2 before", async () => {
    const root = newRoot();
    const { client } = await executor(root);
    const put = env.BUCKET.put.bind(env.BUCKET);
    const stored = gate();
    const goOn = gate();
    using _put = vi.spyOn(env.BUCKET, "put").mockImplementationOnce(async (key, value) => {
      const object = await put(key, value);
      if (object === null) throw new Error("the content was there before");
      stored.open();
      await goOn.opened();
      return object;
    });
    const slow = client.call("write_file", {
      path: "src/a",
      content: "z".repeat(INLINE_BYTES + 1),
      expected_sha256: "",
    });
    await stored.opened();
    await client.must("write_file", { path: "src/a", content: "first", expected_sha256: "" });
    goOn.open();
    expect((await slow).code).toBe("CONFLICT");
    expect((await client.must("read_file", { path: "src/a" })).value.content).toBe("first");
  });
});

describe("the quota of a workspace", () => {
  test("counts current versions only, and refuses what would pass it", async () => {
    const root = newRoot();
    const { client } = await executor(root);
    await client.must("write_file", { path: "src/a", content: "12345" });
    await client.must("write_file", { path: "src/a", content: "123" });
    await client.must("write_file", { path: "src/b", content: "12" });
    const held = () =>
      inWorkspace(root, (sql) =>
        sql.exec<{ current_bytes: number }>("SELECT current_bytes FROM facts").one(),
      );
    expect(await held()).toEqual({ current_bytes: 5 });
    // As if other files filled all but 4 bytes.
    await inWorkspace(root, (sql) => {
      sql.exec("UPDATE facts SET current_bytes = ?", MAX_WORKSPACE_BYTES - 4);
    });
    const fits = await client.call("write_file", { path: "src/c", content: "1234" });
    expect(fits.code).toBeNull();
    const refused = await client.call("write_file", { path: "src/d", content: "1" });
    expect(refused.code).toBe("QUOTA_EXCEEDED");
    expect(refused.message).toContain(String(MAX_WORKSPACE_BYTES));
    expect((await recordsOf(client.id)).at(-1)).toMatchObject({
      event: "tool_result",
      error_code: "QUOTA_EXCEEDED",
      context: null,
    });
    expect((await client.call("read_file", { path: "src/d" })).code).toBe("NOT_FOUND");
    // Replacing by as much, writing what is there, and deleting are not hit by it.
    await client.must("write_file", { path: "src/c", content: "4321" });
    await client.must("write_file", { path: "src/c", content: "4321" });
    expect((await client.call("write_file", { path: "src/c", content: "54321" })).code).toBe(
      "QUOTA_EXCEEDED",
    );
    await client.must("delete_file", { path: "src/c" });
    await client.must("write_file", { path: "src/d", content: "1" });
    expect(await held()).toEqual({ current_bytes: MAX_WORKSPACE_BYTES - 3 });
    const checked = await client.must("verify_workspace_integrity");
    expect(checked.value).toMatchObject({ ok: true, findings: [] });
  });
});

describe("listing", () => {
  test("goes by path in byte order, from where it ended, and by prefix", async () => {
    const root = newRoot();
    const { client, planHash } = await executor(root);
    const paths = [
      "src/a",
      "src/a.txt",
      "src/a/b",
      "src/B",
      "src/_%",
      "src/\u00e9",
      "src/\u{1F600}",
      "src/\uff5e",
    ];
    for (const path of paths) await client.must("write_file", { path, content: path });
    const sorted = paths.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const listed = await client.must("list_files");
    expect(listed.value).toMatchObject({
      next_cursor: null,
      files: sorted.map((path) => ({ path, sha256: sha256(path), version: 1 })),
    });
    const seen: string[] = [];
    for (let after = ""; ; ) {
      const { files, next } = await workspace(root).list("", after, 3, planHash);
      seen.push(...files.map(({ path }) => path));
      if (next === null) break;
      after = next;
    }
    expect(seen).toEqual(sorted);
    const under = async (prefix: string) => {
      const { files } = await workspace(root).list(prefix, "", 100, null);
      return files.map(({ path }) => path);
    };
    expect(await under("src/a")).toEqual(["src/a", "src/a.txt", "src/a/b"]);
    expect(await under("src/a/")).toEqual(["src/a/b"]);
    expect(await under("src/_")).toEqual(["src/_%"]);
    expect(await under("src/\u00e9")).toEqual(["src/\u00e9"]);
    expect(await under("SRC")).toEqual([]);
  });

  test("pages through many files by its cursor", async () => {
    const root = newRoot();
    const { client, planHash } = await executor(root);
    for (let n = 0; n < 205; n++) {
      const path = `src/${String(n).padStart(3, "0")}`;
      await workspace(root).write(writeInput(root, planHash, n + 1, { path, content: "x" }));
    }
    const first = await client.must("list_files", { prefix: "src/" });
    expect(first.value.files).toHaveLength(200);
    const cursor = first.value.next_cursor;
    const second = await client.must("list_files", { prefix: "src/", cursor });
    expect(second.value.files).toHaveLength(5);
    expect(second.value.next_cursor).toBeNull();
    expect((await client.call("list_files", { cursor: "made up" })).code).toBe("INVALID_ARGUMENT");
  });
});

describe("what a bound plan forbids", () => {
  const plan = planOf({
    scope: { paths: ["**"], tools: ["write_file", "delete_file"] },
    forbidden: { paths: ["src/secrets/**", "**/.env"] },
  });

  test("is neither read nor listed, in other case neither, and not written", async () => {
    const root = newRoot();
    const open = await executor(root, {
      plan: planOf({ scope: { paths: ["**"], tools: ["write_file"] } }),
    });
    const hidden = ["src/secrets/key", "src/SECRETS/key", ".env", "deep/.ENV"];
    const shown = ["src/secret", "src/secretsx/a", ".envx", "src/a"];
    for (const path of [...hidden, ...shown]) {
      await open.client.must("write_file", { path, content: path });
    }
    const planHash = await approvedPlan(root, plan);
    const bound = await Client.open(await mintKey("windsurf"));
    await bound.must("begin_session", { workspace_root: root, plan_hash: planHash });
    for (const path of hidden) {
      const read = await bound.call("read_file", { path });
      expect([path, read.code]).toEqual([path, "PLAN_SCOPE_VIOLATION"]);
      expect((await recordsOf(bound.id)).at(-1)).toMatchObject({
        event: "tool_call",
        tool: "read_file",
        error_code: "PLAN_SCOPE_VIOLATION",
        plan_hash: planHash,
      });
      const write = await bound.call("write_file", { path, content: "x" });
      expect([path, write.code]).toEqual([path, "PLAN_SCOPE_VIOLATION"]);
    }
    // Nor does it say whether a forbidden file is there.
    const absent = await bound.call("read_file", { path: "src/secrets/no-such-file" });
    expect(absent.code).toBe("PLAN_SCOPE_VIOLATION");
    for (const path of shown) await bound.must("read_file", { path });
    const { files } = await workspace(root).list("", "", 100, planHash);
    expect(files.map(({ path }) => path).toSorted()).toEqual(shown.toSorted());
    // Small pages skip what is hidden and lose nothing.
    const seen: string[] = [];
    for (let after = ""; ; ) {
      const page = await workspace(root).list("", after, 1, planHash);
      seen.push(...page.files.map(({ path }) => path));
      if (page.next === null) break;
      after = page.next;
    }
    expect(seen.toSorted()).toEqual(shown.toSorted());
    // Without a plan everything is read.
    expect((await open.client.must("list_files")).value.files).toHaveLength(8);
  });

  test("stays forbidden for reads after the plan was revoked or ran out", async () => {
    const root = newRoot();
    const { client, planHash } = await executor(root, { plan });
    await revoke(root, planHash);
    await crash(workspace(root));
    expect((await client.call("read_file", { path: "src/secrets/key" })).code).toBe(
      "PLAN_SCOPE_VIOLATION",
    );
  });
});

describe("a plan", () => {
  test("goes from proposed to approved to revoked, which is final", async () => {
    const root = newRoot();
    const planHash = await savePlan(root);
    const planner = await Client.open(await mintKey("antigravity"));
    await planner.must("begin_session", { workspace_root: root });
    const statusNow = async () =>
      (await planner.must("read_plan", { plan_hash: planHash })).value.status;
    expect(await statusNow()).toBe("proposed");
    const approved = await approve(root, planHash);
    expect([approved.status, approved.body]).toMatchObject([
      200,
      {
        plan_hash: planHash,
        workspace_root: root,
        status: "approved",
        approved_at: new Date().toISOString(),
        expires_at: new Date(Date.now() + 7 * DAY).toISOString(),
      },
    ]);
    expect(await statusNow()).toBe("approved");
    // Approved again is the same approval.
    advance(HOUR / 2);
    expect((await approve(root, planHash)).body).toEqual(approved.body);
    // Saved again is the same plan, as it stands.
    const again = await planner.must("save_plan", { plan: planOf() });
    expect(again.value).toMatchObject({ plan_hash: planHash, status: "approved" });
    expect((await revoke(root, planHash)).body).toMatchObject({
      status: "revoked",
      revoked_at: new Date().toISOString(),
    });
    expect(await statusNow()).toBe("revoked");
    const final = await approve(root, planHash);
    expect([final.status, final.body]).toMatchObject([409, { error: { code: "CONFLICT" } }]);
    expect((await planner.must("save_plan", { plan: planOf() })).value.status).toBe("revoked");
    expect((await revoke(root, planHash)).status).toBe(200);
    expect((await planner.must("list_plans", { status: "revoked" })).value.plans).toHaveLength(1);
    expect((await planner.must("list_plans", { status: "approved" })).value.plans).toEqual([]);
  });

  test("may be revoked before it was ever approved", async () => {
    const root = newRoot();
    const planHash = await savePlan(root);
    expect((await revoke(root, planHash)).body).toMatchObject({ status: "revoked" });
    expect((await approve(root, planHash)).status).toBe(409);
  });

  test("belongs to its workspace and tenant", async () => {
    const root = newRoot();
    const planHash = await savePlan(root);
    expect((await approve(newRoot(), planHash)).status).toBe(404);
    expect((await approve(root, planHash, "another")).status).toBe(404);
    expect((await revoke(newRoot(), planHash)).status).toBe(404);
    expect((await approve(root, "0".repeat(64))).body).toMatchObject({
      error: { code: "PLAN_NOT_FOUND" },
    });
    const elsewhere = newRoot();
    const { client } = await executor(elsewhere);
    const refused = await client.call("write_file", {
      path: "src/a",
      content: "a",
      plan_hash: await approvedPlan(root, planOf({ title: "Of another workspace" })),
    });
    expect(refused.code).toBe("PLAN_NOT_FOUND");
  });

  test("runs out with its approval, and may be approved again", async () => {
    const root = newRoot();
    const planHash = await approvedPlan(root);
    const write = async (content: string) => {
      const client = await Client.open(await mintKey("windsurf"));
      await client.must("begin_session", { workspace_root: root });
      return client.call("write_file", { path: "src/a", content, plan_hash: planHash });
    };
    advance(7 * DAY - 1);
    expect((await write("in time")).code).toBeNull();
    advance(1);
    expect((await write("too late")).code).toBe("PLAN_EXPIRED");
    const binding = await Client.open(await mintKey("windsurf"));
    const bound = await binding.call("begin_session", {
      workspace_root: root,
      plan_hash: planHash,
    });
    expect(bound.code).toBe("PLAN_EXPIRED");
    const shown = await admin("GET", `/plans/${planHash}?workspace_root=${root}`);
    expect(shown.body).toMatchObject({ status: "expired" });
    const renewed = await approve(root, planHash);
    expect(renewed.body).toMatchObject({
      status: "approved",
      approved_at: new Date().toISOString(),
      expires_at: new Date(Date.now() + 7 * DAY).toISOString(),
    });
    const after = await write("renewed");
    expect([after.code, after.value.version]).toEqual([null, 2]);
  });

  test("that names its own end runs out with that, and is then not approved", async () => {
    const root = newRoot();
    const end = new Date(Date.now() + 2 * HOUR).toISOString();
    const planHash = await savePlan(root, planOf({ expires_at: end }));
    expect((await approve(root, planHash)).body).toMatchObject({ expires_at: end });
    const client = await Client.open(await mintKey("windsurf"));
    await client.must("begin_session", { workspace_root: root, plan_hash: planHash });
    await client.must("write_file", { path: "src/a", content: "in time" });
    advance(HOUR - 1);
    await client.must("write_file", { path: "src/a", content: "still in time" });
    advance(HOUR - 1);
    await client.must("write_file", { path: "src/a", content: "just in time" });
    advance(2);
    const late = await client.call("write_file", { path: "src/a", content: "too late" });
    expect(late.code).toBe("PLAN_EXPIRED");
    const again = await approve(root, planHash);
    expect([again.status, again.body]).toMatchObject([409, { error: { code: "PLAN_EXPIRED" } }]);
  });

  test("revoked while the content of a large write is on its way to R2 wins over that write", async () => {
    const root = newRoot();
    const { client, planHash } = await executor(root);
    const put = env.BUCKET.put.bind(env.BUCKET);
    const stored = gate();
    const goOn = gate();
    using _put = vi.spyOn(env.BUCKET, "put").mockImplementationOnce(async (key, value) => {
      const object = await put(key, value);
      if (object === null) throw new Error("the content was there before");
      stored.open();
      await goOn.opened();
      return object;
    });
    const write = client.call("write_file", {
      path: "src/a",
      content: "r".repeat(INLINE_BYTES + 1),
    });
    await stored.opened();
    expect((await revoke(root, planHash)).status).toBe(200);
    goOn.open();
    expect((await write).code).toBe("PLAN_NOT_APPROVED");
    expect(await versionsOf(root, "src/a")).toEqual({ versions: [] });
  });

  test("revoked while writes race it: each write is before it and there, or refused and not", async () => {
    for (let round = 0; round < 8; round++) {
      const root = newRoot();
      const { client, planHash } = await executor(root);
      const writes = Array.from(
        { length: 6 },
        (_, n) => () => client.call("write_file", { path: `src/${n}`, content: "x" }),
      );
      const started = writes.slice(0, round % 6).map((write) => write());
      const revoked = revoke(root, planHash);
      started.push(...writes.slice(round % 6).map((write) => write()));
      const answers = await Promise.all(started);
      expect((await revoked).status).toBe(200);
      for (const { code } of answers) expect([null, "PLAN_NOT_APPROVED"]).toContain(code);
      const { files } = await workspace(root).list("", "", 100, null);
      expect(files).toHaveLength(answers.filter(({ code }) => code === null).length);
      expect((await client.call("write_file", { path: "src/z", content: "z" })).code).toBe(
        "PLAN_NOT_APPROVED",
      );
      const results = (await recordsOf(client.id)).filter(({ event }) => event === "tool_result");
      expect(results).toHaveLength(7);
      const checked = await client.must("verify_workspace_integrity");
      expect(checked.value).toMatchObject({ ok: true, findings: [] });
    }
  });

  test("is listed across workspaces once the archive knows of them, and kept up until it does", async () => {
    const root = newRoot();
    const planHash = await savePlan(root);
    {
      using _run = vi.spyOn(env.ARCHIVE_DB, "prepare").mockImplementationOnce(() => {
        throw new Error("D1 is away");
      });
      expect(await ring(workspace(root))).toBe(true);
    }
    expect(logs.some((line) => line.includes("workspace_register_failed"))).toBe(true);
    await evict(workspace(root));
    expect(await ring(workspace(root))).toBe(true);
    expect(await ring(workspace(root))).toBe(false);
    const listed = await admin("GET", "/plans?status=proposed&limit=200");
    expect(listed.body).toMatchObject({
      plans: expect.arrayContaining([
        expect.objectContaining({ plan_hash: planHash, workspace_root: root, tenant: "default" }),
      ]),
    });
  });
});

describe("the journal", () => {
  test("names the session and seq behind every change, as the chain does", async () => {
    const root = newRoot();
    const { client } = await executor(root);
    await client.must("write_file", { path: "src/a", content: "1" });
    await client.call("write_file", { path: "outside", content: "1" });
    await client.must("write_file", { path: "src/b", content: "2" });
    await client.must("delete_file", { path: "src/a" });
    const journal = await workspace(root).journal(client.id, 0, 100);
    const effects = (await recordsOf(client.id)).flatMap(({ intent_seq, context }) =>
      intent_seq === null || context === null
        ? []
        : [{ seq: intent_seq, outcome: { kind: "file", ...context } }],
    );
    expect(journal).toMatchObject(effects);
    expect(journal).toHaveLength(3);
    expect(await workspace(root).journal("another", 0, 100)).toEqual([]);
  });
});

describe("verify_workspace_integrity finds", () => {
  /** A workspace with a small and a large file, its session, and what the tool says of it. */
  async function intact() {
    const root = newRoot();
    const { client, planHash } = await executor(root);
    await client.must("write_file", { path: "src/small", content: "old" });
    await client.must("write_file", { path: "src/small", content: "small" });
    const large = `${root}${"L".repeat(INLINE_BYTES)}`;
    await client.must("write_file", { path: "src/large", content: large });
    const before = await client.must("verify_workspace_integrity");
    expect(before.value).toMatchObject({
      ok: true,
      chain: { ok: true, records: 8 },
      files: { ok: true, checked: 2 },
      plans: { ok: true, checked: 1 },
      findings: [],
    });
    const check = async () => (await client.must("verify_workspace_integrity")).value;
    return { root, client, planHash, blob: `blobs/default/${sha256(large)}`, check };
  }

  test("a content that was changed", async () => {
    const { root, check } = await intact();
    await inWorkspace(root, (sql) => {
      sql.exec("UPDATE versions SET content = 'smalL' WHERE path = 'src/small' AND version = 2");
    });
    expect(await check()).toMatchObject({
      ok: false,
      chain: { ok: true },
      files: { ok: false },
      findings: [{ part: "workspace", code: "CONTENT_MISMATCH" }],
    });
  });

  test("a content that was changed together with its hash", async () => {
    const { root, check } = await intact();
    await inWorkspace(root, (sql) => {
      sql.exec(
        "UPDATE versions SET content = 'smalL', sha256 = ? WHERE path = 'src/small' AND version = 2",
        sha256("smalL"),
      );
      sql.exec("UPDATE files SET sha256 = ? WHERE path = 'src/small'", sha256("smalL"));
    });
    expect(await check()).toMatchObject({ ok: false });
  });

  test("an old version that was changed: it must stay what it was", async () => {
    const { root, check } = await intact();
    await inWorkspace(root, (sql) => {
      sql.exec("UPDATE versions SET content = 'olD' WHERE path = 'src/small' AND version = 1");
    });
    expect(await check()).toMatchObject({ ok: false, files: { ok: false } });
  });

  test("a file's entry that says something else than its version", async () => {
    const { root, check } = await intact();
    await inWorkspace(root, (sql) => {
      sql.exec("UPDATE files SET sha256 = ? WHERE path = 'src/small'", "0".repeat(64));
    });
    expect(await check()).toMatchObject({ ok: false, files: { ok: false } });
  });

  test("a file that was turned back to an old version", async () => {
    const { root, check } = await intact();
    await inWorkspace(root, (sql) => {
      sql.exec(
        "UPDATE files SET version = 1, sha256 = ?, bytes = 3 WHERE path = 'src/small'",
        sha256("old"),
      );
    });
    expect(await check()).toMatchObject({ ok: false, files: { ok: false } });
  });

  test("a file that lost its version, and a version that no call made", async () => {
    const { root, check } = await intact();
    await inWorkspace(root, (sql) => {
      sql.exec("DELETE FROM versions WHERE path = 'src/large'");
      sql.exec(
        `INSERT INTO versions SELECT 'src/planted', 1, sha256, bytes, encoding, content, in_bucket,
           deleted, 'nobody', 1, principal, plan_hash, created_at
         FROM versions WHERE path = 'src/small' AND version = 1`,
      );
    });
    expect(await check()).toMatchObject({
      ok: false,
      findings: expect.arrayContaining([
        expect.objectContaining({ code: "FILE_WITHOUT_VERSION" }),
        expect.objectContaining({ code: "VERSION_WITHOUT_CALL" }),
      ]),
    });
  });

  test("a large content that was changed in R2, and one that is gone", async () => {
    const { blob, check, client } = await intact();
    await env.BUCKET.put(blob, "something else");
    const changed = await check();
    expect(changed).toMatchObject({ ok: false, files: { ok: false } });
    // Nobody is given what is not the file.
    const read = await client.call("read_file", { path: "src/large" });
    expect([read.code, read.value]).toEqual(["INTERNAL_ERROR", {}]);
    await env.BUCKET.delete(blob);
    expect(await check()).toMatchObject({
      ok: false,
      findings: [{ part: "workspace", code: "CONTENT_MISSING" }],
    });
  });

  test("a plan that was changed", async () => {
    const { root, check } = await intact();
    await inWorkspace(root, (sql) => {
      sql.exec(`UPDATE plans SET plan = replace(plan, 'src/**', '**')`);
    });
    expect(await check()).toMatchObject({
      ok: false,
      plans: { ok: false },
      findings: [{ part: "workspace", code: "PLAN_HASH_MISMATCH" }],
    });
  });

  test("a plan that is none any more", async () => {
    const { root, check } = await intact();
    await inWorkspace(root, (sql) => {
      sql.exec("UPDATE plans SET plan = '{'");
    });
    expect(await check()).toMatchObject({ ok: false, plans: { ok: false } });
  });

  test("a record of the chain that was changed, at its seq", async () => {
    const { client, check } = await intact();
    await inSession(client.id, (sql) => {
      sql.exec(`UPDATE records SET line = replace(line, 'write_file', 'read_file') WHERE seq = 5`);
    });
    expect(await check()).toMatchObject({
      ok: false,
      chain: { ok: false },
      files: { ok: true },
      findings: expect.arrayContaining([
        expect.objectContaining({ part: "chain", code: "HASH_MISMATCH" }),
      ]),
    });
  });

  test("a change that the journal has and the chain has not, and the other way round", async () => {
    const { root, client, check } = await intact();
    await inWorkspace(root, (sql) => {
      sql.exec("UPDATE journal SET seq = 4 WHERE session_id = ? AND seq = 3", client.id);
    });
    expect(await check()).toMatchObject({
      ok: false,
      findings: expect.arrayContaining([
        expect.objectContaining({
          part: "journal",
          message: expect.stringContaining("the call 4 is not in the chain"),
        }),
        expect.objectContaining({
          part: "journal",
          message: expect.stringContaining("by the call 3"),
        }),
      ]),
    });
  });

  test("the same for an auditor who names the session", async () => {
    const { root, client } = await intact();
    const auditor = await Client.open(await mintKey("auditor"));
    const args = { audit_session_id: client.id };
    expect((await auditor.must("verify_workspace_integrity", args)).value).toMatchObject({
      ok: true,
    });
    await inWorkspace(root, (sql) => {
      sql.exec("UPDATE versions SET content = 'smalL' WHERE path = 'src/small' AND version = 2");
    });
    expect((await auditor.must("verify_workspace_integrity", args)).value).toMatchObject({
      ok: false,
      findings: [{ code: "CONTENT_MISMATCH" }],
    });
  });
});

test("a workspace that holds nothing stores nothing, whatever is read of it", async () => {
  const root = newRoot();
  const client = await Client.open(await mintKey("windsurf"));
  await client.must("begin_session", { workspace_root: root });
  expect((await client.must("list_files")).value).toEqual({ files: [], next_cursor: null });
  expect((await client.call("read_file", { path: "a" })).code).toBe("NOT_FOUND");
  expect((await client.must("list_plans")).value).toMatchObject({ plans: [] });
  expect((await client.call("read_plan", { plan_hash: "0".repeat(64) })).code).toBe(
    "PLAN_NOT_FOUND",
  );
  expect((await client.must("verify_workspace_integrity")).value).toMatchObject({ ok: true });
  expect(await versionsOf(root, "a")).toEqual({ versions: [] });
  expect((await approve(root, "0".repeat(64))).status).toBe(404);
  expect(await tablesOf(workspace(root))).toEqual([]);
  expect(await exported(client.id)).toHaveLength(7);
  expect(await tablesOf(session(client.id))).toContain("records");
});
