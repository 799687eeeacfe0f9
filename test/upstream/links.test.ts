import { afterEach, describe, expect, it } from "vitest";
import { UpstreamLinks, type UpstreamRequest } from "../../src/upstream/links.ts";
import { memoryShelf } from "../../src/upstream/memory-shelf.ts";
import { TokenRefused } from "../../src/upstream/oauth.ts";
import { entryOf, upstreamConfig } from "./entries.ts";
import { type FaultyServer, faultyServer, targetOf } from "./support.ts";

let server: FaultyServer | null = null;

afterEach(async () => {
  await server?.close();
  server = null;
});

const REQUEST: UpstreamRequest = {
  method: "tools/call",
  params: { name: "echo" },
  meta: {},
  capabilities: {},
  logLevel: null,
  progressToken: null,
  paramHeaders: {},
};

/** The links of one owner to an upstream of the 2025 era that lets `good` and `other` in. */
async function linksTo(refusal: number) {
  const upstream = await faultyServer(({ headers, body, json, result }) => {
    const isLetIn = ["Bearer good", "Bearer other"].includes(headers.authorization ?? "");
    if (!isLetIn) return json(refusal, "");
    if (body?.method === "initialize") {
      const { protocolVersion } = body.params;
      const serverInfo = { name: "an upstream", version: "1" };
      return json(
        200,
        { jsonrpc: "2.0", id: body.id, result: { protocolVersion, capabilities: {}, serverInfo } },
        { "mcp-session-id": "s" },
      );
    }
    return body?.id === undefined ? json(202, "") : result({ content: [] });
  });
  server = upstream;
  const links = new UpstreamLinks({
    target: (_entry, token) =>
      targetOf(upstream.url, {
        authorize: async () => {
          const value = token?.() ?? null;
          if (value === null) throw new TokenRefused("The caller came without an access token.");
          return { authorization: `Bearer ${value}` };
        },
      }),
    shelf: memoryShelf(),
  });
  const entry = entryOf(upstreamConfig("one"), [], { era: "2025" });
  const ask = async (token: string | null): Promise<string> => {
    const outcome = await links.exchange(entry, REQUEST, { timeoutMs: 5_000, token: () => token });
    return outcome.kind === "failed" ? outcome.failure.reason : outcome.kind;
  };
  const openings = () =>
    upstream.seen
      .filter(({ body }) => body?.method === "initialize")
      .map(({ headers }) => headers.authorization);
  return { ask, openings };
}

describe("an upstream session that several callers need at the same time", () => {
  it.each([
    [null, 401, "unauthorized"],
    ["bad", 401, "unauthorized"],
    ["bad", 403, "refused"],
  ] as const)(
    "is opened by one who may, when %j came first and was refused with %i",
    async (first, refusal, reason) => {
      const { ask, openings } = await linksTo(refusal);
      const outcomes = await Promise.all([ask(first), ask("good"), ask("other")]);
      expect(outcomes).toEqual([reason, "result", "result"]);
      // Once it is there it is for all of them: they are one user's.
      expect(openings().filter((authorization) => authorization !== "Bearer bad")).toEqual([
        "Bearer good",
      ]);
    },
  );

  it("is asked for once by those of one token, whatever comes of it", async () => {
    const { ask, openings } = await linksTo(403);
    expect(await Promise.all([ask("bad"), ask("bad"), ask("bad")])).toEqual([
      "refused",
      "refused",
      "refused",
    ]);
    expect(openings()).toEqual(["Bearer bad"]);
  });
});
