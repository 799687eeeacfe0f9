import { afterEach, describe, expect, it } from "vitest";
import { wire } from "../../src/upstream/connect.ts";
import { observe } from "../../src/upstream/observe.ts";
import type { UpstreamConfig } from "../../src/upstream/types.ts";
import { listServer } from "./list-server.ts";
import { type FaultyServer, faultyServer, targetOf } from "./support.ts";

const CONFIG: UpstreamConfig = {
  name: "acme",
  url: "https://mcp.acme.com/mcp",
  prefix: "acme",
  gate: "open",
  tenants: ["default"],
  roles: ["windsurf"],
  timeout_ms: 2_000,
  session_param: true,
  sampling: true,
  elicitation: false,
  resource_prefixes: [],
};

const servers: FaultyServer[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

async function upstream(era: "2025" | "2026"): Promise<FaultyServer> {
  const server = await listServer(
    era,
    ["a", "b", "c"].map((name) => ({ name, inputSchema: { type: "object" } })),
  );
  servers.push(server);
  return server;
}

describe.each(["2025", "2026"] as const)("an upstream of the %s era", (era) => {
  it("is read whole, and its session is ended", async () => {
    const server = await upstream(era);
    const seen = await observe(wire.connect, targetOf(server.url), CONFIG);
    if (!seen.ok) throw new Error(seen.failure);
    expect(seen.found).toMatchObject({
      era,
      protocolVersion: era === "2025" ? "2025-11-25" : "2026-07-28",
      capabilities: { tools: {} },
      serverInfo: { name: "it" },
      ttlMs: era === "2025" ? null : 4_000,
      leftOut: [],
    });
    expect(seen.found.definitions.map(({ kind, name }) => `${kind} ${name}`)).toEqual([
      "instructions instructions",
      "tool a",
      "tool b",
      "tool c",
    ]);
    const deleted = server.seen.filter(({ method }) => method === "DELETE");
    expect(deleted.map(({ headers }) => headers["mcp-session-id"])).toEqual(
      era === "2025" ? ["s1"] : [],
    );
  });

  it("is told what clients may be capable of, as far as it is registered for that", async () => {
    const server = await upstream(era);
    await observe(wire.connect, targetOf(server.url), CONFIG);
    const said = server.seen.map(({ body }) =>
      era === "2025"
        ? body?.params?.capabilities
        : body?.params?._meta?.["io.modelcontextprotocol/clientCapabilities"],
    );
    expect(said.filter((each) => each !== undefined)).toContainEqual({ roots: {}, sampling: {} });
    expect(JSON.stringify(said)).not.toContain("elicitation");
  });
});

describe("an upstream that fails", () => {
  it("is a failure and not an exception, wherever it is", async () => {
    const away = targetOf("http://127.0.0.1:1/mcp");
    expect(await observe(wire.connect, away, CONFIG)).toMatchObject({ ok: false });
    const refused = targetOf("https://mcp.acme.com/", {
      fetch: async () => {
        throw Object.assign(new Error("not a public address"), { name: "AddressRefused" });
      },
    });
    expect(await observe(wire.connect, refused, CONFIG)).toMatchObject({ ok: false });
    const unauthorized = await faultyServer(({ json }) => json(401, {}));
    servers.push(unauthorized);
    expect(await observe(wire.connect, targetOf(unauthorized.url), CONFIG)).toMatchObject({
      ok: false,
      failure: expect.stringContaining("unauthorized, HTTP 401"),
    });
  });

  it("is a failure too where no token can be had", async () => {
    const server = await upstream("2025");
    const target = targetOf(server.url, {
      authorize: async () => {
        throw Object.assign(new Error("The token endpoint answers 401."), { name: "TokenRefused" });
      },
    });
    expect(await observe(wire.connect, target, CONFIG)).toMatchObject({ ok: false });
    expect(server.seen).toEqual([]);
  });
});
