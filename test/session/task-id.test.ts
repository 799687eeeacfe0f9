import { describe, expect, it } from "vitest";
import { openTaskId, sealTaskId } from "../../src/session/task-id.ts";

const KEY = new Uint8Array(32).fill(7);
const OWNER = { tenant: "default", principal: "key:a" };
const TASK = { upstream: "github", id: "t-1", tool: "github_build", plan: null };

describe("the id of a task", () => {
  it("opens for who began it, and for nobody else", () => {
    const planned = { ...TASK, plan: { workspace_root: "/srv/a", plan_hash: "0".repeat(64) } };
    for (const task of [TASK, planned]) {
      const id = sealTaskId(KEY, OWNER, task);
      expect(openTaskId(KEY, OWNER, id)).toEqual(task);
      expect(openTaskId(KEY, { ...OWNER, principal: "key:b" }, id)).toBeNull();
      expect(openTaskId(KEY, { ...OWNER, tenant: "other" }, id)).toBeNull();
      expect(openTaskId(new Uint8Array(32), OWNER, id)).toBeNull();
    }
  });

  it("is nothing that was changed, cut or made up", () => {
    const id = sealTaskId(KEY, OWNER, TASK);
    const changed = id.slice(0, -2) + (id.at(-2) === "A" ? "B" : "A") + id.slice(-1);
    for (const other of [changed, id.slice(0, 20), "t-1", "", "null"]) {
      expect(openTaskId(KEY, OWNER, other)).toBeNull();
    }
  });

  it("shows nothing of the upstream's own", () => {
    const id = sealTaskId(KEY, OWNER, TASK);
    expect(id).not.toMatch(/github|t-1/);
    expect(atob(id.replaceAll("-", "+").replaceAll("_", "/"))).not.toMatch(/github|t-1/);
  });
});
