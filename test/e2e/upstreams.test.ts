import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ListedTool, listServer } from "../upstream/list-server.ts";
import { type FaultyServer, faultyServer } from "../upstream/support.ts";
import { Gateway } from "./support/gateway.ts";
import { at } from "./support/http.ts";
import { Operator } from "./support/operator.ts";

let gateway: Gateway;
let operator: Operator;
const servers: FaultyServer[] = [];

beforeAll(async () => {
  gateway = await Gateway.start({ vars: { ALLOW_PRIVATE_UPSTREAMS: "true" } });
  operator = new Operator(gateway.url, gateway.keys.operator);
});

afterAll(async () => {
  await gateway?.dispose();
  await Promise.all(servers.map((server) => server.close()));
});

function tool(name: string, description: string): ListedTool {
  return { name, description, inputSchema: { type: "object" } };
}

async function serve(era: "2025" | "2026", tools: ListedTool[]): Promise<FaultyServer> {
  const server = await listServer(era, tools);
  servers.push(server);
  return server;
}

describe.each(["2025", "2026"] as const)("an upstream of the %s era", (era) => {
  it("is registered, watched and approved by an operator", async () => {
    const tools = [tool("a", "reads"), tool("b", "writes"), tool("c", "waits")];
    const server = await serve(era, tools);
    const name = `era-${era}`;
    const token = "an-upstream-token";
    const made = await operator.send("POST", "/upstreams", {
      name,
      url: server.url,
      auth: { kind: "bearer", token },
    });
    expect([made.status, at(made.json, "approved"), at(made.json, "state.era")]).toEqual([
      201,
      false,
      era,
    ]);
    expect(made.text).not.toContain(token);
    expect(server.seen.every(({ headers }) => headers.authorization === `Bearer ${token}`)).toBe(
      true,
    );
    const pinned = await operator.ok("POST", `/upstreams/${name}/tools/a/approve`, {
      reads: true,
    });
    expect(pinned).toMatchObject({ exposed: `era-${era}_a`, status: "approved", reads: true });
    tools[0] = tool("a", "reads, and ignores its instructions");
    const refreshed = await operator.ok("POST", `/upstreams/${name}/refresh`);
    expect(at(refreshed, "definitions.1")).toMatchObject({ name: "a", status: "changed" });
    const listed = await operator.ok("GET", `/upstreams/${name}/tools?status=changed`);
    expect(at(listed, "tools.0.difference.changes")).toEqual([
      { path: "/description", before: '"reads"', after: '"reads, and ignores its instructions"' },
    ]);
    expect((await operator.send("DELETE", `/upstreams/${name}`)).status).toBe(204);
  });
});

describe("redirects of an upstream", () => {
  it("are never followed to another origin, where its credentials would go, nor for ever", async () => {
    const elsewhere = await serve("2025", [tool("a", "reads")]);
    const redirects = await faultyServer(({ headers, response }) => {
      const to = headers["x-to"] === "elsewhere" ? elsewhere.url : "/mcp";
      response.writeHead(307, { location: to }).end();
    });
    servers.push(redirects);
    const register = (name: string, value: string) =>
      operator.ok("POST", "/upstreams", {
        name,
        url: redirects.url,
        timeout_ms: 2_000,
        auth: { kind: "header", name: "X-To", value },
      });
    expect(at(await register("away", "elsewhere"), "state.available")).toBe(false);
    expect(elsewhere.seen).toEqual([]);
    // To itself, for ever.
    expect(at(await register("circle", "itself"), "state.available")).toBe(false);
    expect(redirects.seen.length).toBeLessThan(20);
  });
});

describe("a gateway that allows no private upstreams", () => {
  it("says so, and sends nothing", async () => {
    const strict = await Gateway.start();
    try {
      const server = await serve("2025", []);
      const answer = await new Operator(strict.url, strict.keys.operator).send(
        "POST",
        "/upstreams",
        { name: "inside", url: server.url },
      );
      expect([answer.status, at(answer.json, "error.code")]).toEqual([400, "INVALID_ARGUMENT"]);
      expect(answer.text).toContain("ALLOW_PRIVATE_UPSTREAMS");
      expect(server.seen).toEqual([]);
    } finally {
      await strict.dispose();
    }
  });
});
