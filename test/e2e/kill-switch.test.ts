import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startEverything2025 } from "../conformance/everything-2025.ts";
import { officialServer1 } from "../upstream/official-servers.ts";
import { eventually } from "./support/eventually.ts";
import { Gateway } from "./support/gateway.ts";
import { at, textAt } from "./support/http.ts";
import { ACCEPT, postMcp, RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";

/** What a switch may take to be effective everywhere. */
const WITHIN_MS = 5_000;
const VERSION = "2026-07-28";

let upstream: Awaited<ReturnType<typeof officialServer1>>;
let everything: Awaited<ReturnType<typeof startEverything2025>>;
let gateway: Gateway;
let operator: Operator;
const standing: string[] = [];

beforeAll(async () => {
  upstream = await officialServer1();
  gateway = await Gateway.start({ vars: { ALLOW_PRIVATE_UPSTREAMS: "true" } });
  operator = new Operator(gateway.url, gateway.keys.operator);
  await operator.ok("POST", "/upstreams?approve=all", {
    name: "one",
    url: upstream.url,
    prefix: "one",
    gate: "open",
    tenants: ["default"],
    roles: ["windsurf"],
  });
  everything = await startEverything2025();
  await operator.ok("POST", "/upstreams?approve=all", {
    name: "all",
    url: everything.url,
    prefix: "all",
    gate: "open",
    tenants: ["default"],
    roles: ["windsurf"],
  });
});

afterEach(async () => {
  for (const id of standing.splice(0)) {
    expect((await operator.send("DELETE", `/kill-switches/${id}?reason=over`)).status).toBe(204);
  }
});

afterAll(async () => {
  await gateway?.dispose();
  await upstream?.close();
  await everything?.close();
});

async function engage(scope: Record<string, string>): Promise<void> {
  const body = { scope, reason: "an incident" };
  standing.push(textAt(await operator.ok("POST", "/kill-switches", body), "id"));
}

/** One `tools/call` of the 2026 era. */
async function call2026(name: string, args: Record<string, unknown>): Promise<unknown> {
  const handle = args.session_id;
  const answer = await postMcp(
    gateway.url,
    {
      jsonrpc: "2.0",
      id: 1,
      method: "tools/call",
      params: {
        name,
        arguments: args,
        _meta: {
          "io.modelcontextprotocol/protocolVersion": VERSION,
          "io.modelcontextprotocol/clientCapabilities": {},
        },
      },
    },
    {
      key: gateway.keys.windsurf,
      headers: {
        "mcp-protocol-version": VERSION,
        "mcp-method": "tools/call",
        "mcp-name": name,
        ...(typeof handle === "string" ? { "mcp-param-atlas-session": handle } : {}),
      },
    },
  );
  return answer.json;
}

/** The code of a tool's refusal; names in `_meta` hold dots. */
function codeOf(message: unknown): string | null {
  const text = at(message, "result.content.0.text");
  return at(message, "result.isError") === true
    ? (/^\[(\w+)\]/.exec(String(text))?.[1] ?? "")
    : null;
}

const open2025 = () => RawSession.open(gateway.url, gateway.keys.windsurf);

async function open2026(): Promise<string> {
  const begun = await call2026("begin_session", { workspace_root: "/srv/stopped" });
  return textAt(begun, "result.structuredContent.session_id");
}

describe("a full stop", () => {
  it("stops an idle session of each era at its next call", async () => {
    const session = await open2025();
    const handle = await open2026();
    await engage({});
    await eventually(
      "both are refused",
      async () => {
        const first = (await session.call("read_audit_log")).code;
        const second = codeOf(await call2026("read_audit_log", { session_id: handle }));
        return first === "KILL_SWITCH" && second === "KILL_SWITCH" ? true : null;
      },
      WITHIN_MS,
    );
  });

  it("stops busy sessions of both eras, whose calls never cease", async () => {
    const session = await open2025();
    const handle = await open2026();
    const busy = [
      async () => (await session.call("one_echo", { text: "x" }).catch(() => null))?.code ?? null,
      async () => codeOf(await call2026("read_audit_log", { session_id: handle })),
    ].map((call) =>
      eventually("it is refused", async () => ((await call()) === "KILL_SWITCH" ? true : null)),
    );
    await engage({});
    await expect(Promise.all(busy)).resolves.toEqual([true, true]);
  });

  it("stops every relayed method, and begin_session, in both eras", async () => {
    const session = await open2025();
    await engage({ tenant: "default" });
    expect(
      codeOf(
        (await session.request("tools/call", { name: "one_echo", arguments: { text: "x" } })).json,
      ),
    ).toBe("KILL_SWITCH");
    expect((await session.call("begin_session", { workspace_root: "/srv/x" })).code).toBe(
      "KILL_SWITCH",
    );
    expect(codeOf(await call2026("begin_session", { workspace_root: "/srv/x" }))).toBe(
      "KILL_SWITCH",
    );
    expect(codeOf(await call2026("one_echo", { text: "x" }))).toBe("KILL_SWITCH");
    const relayed: [string, unknown][] = [
      ["prompts/get", { name: "all_test_simple_prompt" }],
      ["resources/read", { uri: "test://static-text" }],
      ["resources/subscribe", { uri: "test://static-text" }],
      [
        "completion/complete",
        {
          ref: { type: "ref/prompt", name: "all_test_prompt_with_arguments" },
          argument: { name: "arg1", value: "t" },
        },
      ],
    ];
    for (const [method, params] of relayed) {
      const { json } = await session.request(method, params);
      expect([method, at(json, "error.data.code")]).toEqual([method, "KILL_SWITCH"]);
      expect(at(json, "error.data.receipt.seq")).toBeGreaterThan(0);
    }
  });

  it("of one upstream leaves the others and the built-in tools", async () => {
    const session = await open2025();
    await engage({ upstream: "all" });
    const read = await session.request("resources/read", { uri: "test://static-text" });
    expect(at(read.json, "error.data.code")).toBe("KILL_SWITCH");
    const echoed = await session.request("tools/call", {
      name: "one_echo",
      arguments: { text: "still here" },
    });
    expect(echoed.text).toContain("still here");
    expect((await session.call("read_audit_log")).code).toBeNull();
  });

  it("ends streams that are open, and lets none open", async () => {
    const session = await open2025();
    const headers = {
      authorization: `Bearer ${gateway.keys.windsurf}`,
      accept: "text/event-stream",
      "mcp-session-id": session.id,
    };
    const listening = [
      await fetch(`${gateway.url}/mcp`, { headers }),
      await fetch(`${gateway.url}/mcp`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${gateway.keys.windsurf}`,
          accept: ACCEPT,
          "content-type": "application/json",
          "mcp-protocol-version": VERSION,
          "mcp-method": "subscriptions/listen",
        },
        body: listenBody(),
      }),
    ];
    expect(listening.map(({ status }) => status)).toEqual([200, 200]);
    let open = listening.length;
    const ended = listening.map(async (response) => {
      const text = await response.text();
      open -= 1;
      return text;
    });
    await engage({});
    await eventually("both have ended", () => (open === 0 ? true : null), WITHIN_MS);
    expect(await ended[1]).toContain("resultType");
    expect((await fetch(`${gateway.url}/mcp`, { headers })).status).toBe(503);
  });
});

it("what was under way when the stop came ends as it does, and the chain is whole", async () => {
  const session = await open2025();
  const slow = session.request("tools/call", { name: "one_cut", arguments: {} });
  await eventually("it is at the upstream", () => (upstream.state.calls > 0 ? true : null));
  await engage({});
  const answer = await slow;
  expect(answer.status).toBe(200);
  expect(answer.text).toContain("after the cut");
  const report = await operator.ok("GET", `/audit/sessions/${session.id}/verify`);
  expect(at(report, "verdicts.integrity.ok")).toBe(true);
});

function listenBody(): string {
  return JSON.stringify({
    jsonrpc: "2.0",
    id: "l",
    method: "subscriptions/listen",
    params: {
      notifications: { toolsListChanged: true },
      _meta: {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
      },
    },
  });
}
