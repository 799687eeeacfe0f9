import { env, exports } from "cloudflare:workers";
import { afterEach, describe, expect, test, vi } from "vitest";
import { requireConfig } from "../../src/config.ts";
import { checkDeployment } from "../../src/ops/deployment.ts";
import { BASE, initializeRequest, mintKey, postMcp } from "../support/gateway.ts";
import { advance, captureLogs, SECOND, useStoppedClock } from "../support/objects.ts";

useStoppedClock();
captureLogs();

let mocks: { mockRestore: () => void }[] = [];

/** What is undone after the test; the captured log and the clock go on. */
function during<T extends { mockRestore: () => void }>(mock: T): T {
  mocks.push(mock);
  return mock;
}

afterEach(() => {
  for (const mock of mocks.splice(0)) mock.mockRestore();
  mocks = [];
});

function times<T>(count: number, work: () => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, work));
}

async function get(path: string, headers: Record<string, string> = {}): Promise<number> {
  const response = await exports.default.fetch(`${BASE}${path}`, { headers });
  await response.body?.cancel();
  return response.status;
}

// First in its file: an isolate that has read the facts once does not ask again.
describe("an isolate that does not know its deployment yet", () => {
  const config = requireConfig(env);
  const check = () =>
    checkDeployment(env, config, Date.now()).then(
      ({ ok }) => ok,
      () => "unreadable",
    );

  test("asks D1 once in two seconds while it does not answer, for /health too", async () => {
    const asked = during(
      vi.spyOn(env.ARCHIVE_DB, "prepare").mockImplementation(() => {
        throw new Error("D1 is away");
      }),
    );
    expect(new Set(await times(10, check))).toEqual(new Set(["unreadable"]));
    expect(asked).toHaveBeenCalledTimes(1);
    expect(new Set(await times(10, () => get("/health")))).toEqual(new Set([200]));
    expect((await postMcp("ag_x", null, initializeRequest())).status).toBe(503);
    expect(asked).toHaveBeenCalledTimes(1);
    advance(2 * SECOND);
    expect(await check()).toBe("unreadable");
    expect(asked).toHaveBeenCalledTimes(2);
    advance(2 * SECOND);
  });

  test("notes the facts once for all who wait, and another isolate only reads them", async () => {
    const written = during(vi.spyOn(env.ARCHIVE_DB, "batch"));
    expect(new Set(await times(10, check))).toEqual(new Set([true]));
    expect(written).toHaveBeenCalledTimes(1);
    vi.resetModules();
    const another = await import("../../src/ops/deployment.ts");
    expect(another.checkDeployment).not.toBe(checkDeployment);
    expect(await another.checkDeployment(env, config, Date.now())).toEqual({ ok: true });
    expect(written).toHaveBeenCalledTimes(1);
  });
});

describe("a route that is everybody's", () => {
  test("asks the stores whether they are ready once a second, however many ask", async () => {
    const asked = during(vi.spyOn(env.BUCKET, "head"));
    expect(new Set(await times(20, () => get("/health/ready")))).toEqual(new Set([200]));
    expect(await get("/health/ready")).toBe(200);
    expect(asked).toHaveBeenCalledTimes(1);
    advance(SECOND);
    await get("/health/ready");
    expect(asked).toHaveBeenCalledTimes(2);
  });

  test("asks the log for its keys once in two seconds", async () => {
    const asked = during(vi.spyOn(env.LOG, "get"));
    expect(new Set(await times(20, () => get("/log/vkey")))).toEqual(new Set([200]));
    expect(asked).toHaveBeenCalledTimes(1);
    advance(2 * SECOND);
    await get("/log/vkey");
    expect(asked).toHaveBeenCalledTimes(2);
  });

  test("refuses an address that asks an object too often, and holds its credentials to nothing", async () => {
    const addCheckpoint = async (headers: Record<string, string>) => {
      const url = `${BASE}/witness/add-checkpoint`;
      const response = await exports.default.fetch(url, { method: "POST", headers, body: "x" });
      await response.body?.cancel();
      return [response.status, response.headers.get("retry-after")];
    };
    const here = { "cf-connecting-ip": "203.0.113.30" };
    expect(await addCheckpoint(here)).toEqual([400, null]);
    const limit = env.ADDRESS_LIMITER.limit.bind(env.ADDRESS_LIMITER);
    during(
      vi
        .spyOn(env.ADDRESS_LIMITER, "limit")
        .mockImplementation(async (asked) =>
          asked.key === "open 203.0.113.30" ? { success: false } : limit(asked),
        ),
    );
    expect(await addCheckpoint(here)).toEqual([429, "60"]);
    expect(await get("/log/tile/0/000.p/1", here)).toBe(429);
    for (const path of ["/log/tile/0/000", "/log/checkpoint"]) {
      expect([path, await get(path, here)]).toEqual([path, 404]);
    }
    expect(await addCheckpoint({ "cf-connecting-ip": "203.0.113.31" })).toEqual([400, null]);
    expect(await addCheckpoint({})).toEqual([400, null]);
    expect(await get("/log/tile/0/000.p/1")).toBe(404);
    const { key } = await mintKey("windsurf");
    expect((await postMcp(key, null, initializeRequest(), here)).status).toBe(200);
  });
});
