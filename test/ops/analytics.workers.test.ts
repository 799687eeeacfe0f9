import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { createApp } from "../../src/app.ts";
import { BASE, initializeRequest, mintKey } from "../support/gateway.ts";
import { captureLogs } from "../support/objects.ts";

const logs = captureLogs();

type Point = { indexes: string[]; blobs: string[]; doubles: number[] };

/** One request to a gateway that has a dataset. */
async function fetchWith(
  dataset: { writeDataPoint: (point: Point) => void },
  path: string,
  init: RequestInit = {},
): Promise<Response> {
  const context = createExecutionContext();
  const request = new Request<unknown, IncomingRequestCfProperties>(`${BASE}${path}`, {
    ...init,
    // The platform says where a request came in.
    cf: { colo: "ZRH" },
  } as RequestInit<IncomingRequestCfProperties>);
  const response = await createApp().fetch(request, { ...env, ANALYTICS: dataset } as Env, context);
  await waitOnExecutionContext(context);
  return response;
}

function collecting() {
  const points: Point[] = [];
  return { points, dataset: { writeDataPoint: (point: Point) => void points.push(point) } };
}

function mcp(key: string, body: unknown, session?: string): RequestInit {
  return {
    method: "POST",
    headers: {
      authorization: `Bearer ${key}`,
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      ...(session === undefined ? {} : { "mcp-session-id": session }),
    },
    body: JSON.stringify(body),
  };
}

test("each request leaves one point, with all in its place", async () => {
  const { points, dataset } = collecting();
  const { key } = await mintKey("windsurf");
  const opened = await fetchWith(dataset, "/mcp", mcp(key, initializeRequest()));
  const id = opened.headers.get("mcp-session-id") ?? "";
  const call = (name: string) =>
    mcp(key, { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name, arguments: {} } }, id);
  await fetchWith(dataset, "/mcp", call("read_audit_log"));
  await fetchWith(dataset, "/mcp", call("nobody\nhas this"));
  await fetchWith(dataset, "/mcp", mcp("wrong", {}));
  await fetchWith(dataset, "/health");
  await fetchWith(dataset, "/admin/nothing/like/this");
  const none = ["none", "none", "none"];
  expect(points.map(({ indexes, blobs }) => [...indexes, ...blobs])).toEqual([
    ["default", "/mcp", "initialize", "windsurf", "2025", "", "", "ZRH"],
    ["default", "/mcp", "tools/call", "windsurf", "2025", "read_audit_log", "", "ZRH"],
    [
      ...["default", "/mcp", "tools/call", "windsurf", "2025", "nobody has this"],
      ...["TOOL_NOT_FOUND", "ZRH"],
    ],
    ["none", "/mcp", ...none, "", "UNAUTHENTICATED", "ZRH"],
    ["none", "/health", ...none, "", "", "ZRH"],
    ["none", "other", ...none, "", "", "ZRH"],
  ]);
  expect(points.map(({ doubles: [status] }) => status)).toEqual([200, 200, 200, 401, 200, 404]);
  for (const { doubles } of points) {
    expect(doubles).toHaveLength(2);
    expect(doubles[1]).toBeGreaterThanOrEqual(0);
  }
  expect(JSON.stringify(points)).not.toContain(key);
});

test("a dataset that throws costs a log line each, and no request", async () => {
  const broken = {
    writeDataPoint: () => {
      throw new Error("the dataset is full");
    },
  };
  expect((await fetchWith(broken, "/health")).status).toBe(200);
  const { key } = await mintKey("windsurf");
  expect((await fetchWith(broken, "/mcp", mcp(key, initializeRequest()))).status).toBe(200);
  expect(logs.filter((line) => line.includes("analytics_failed"))).toHaveLength(2);
  // A binding that is no dataset is none.
  const { status } = await fetchWith({} as typeof broken, "/health");
  expect(status).toBe(200);
});

test("a tool that is called by a credential's name is a point without it", async () => {
  const { points, dataset } = collecting();
  const { key } = await mintKey("windsurf");
  const opened = await fetchWith(dataset, "/mcp", mcp(key, initializeRequest()));
  const id = opened.headers.get("mcp-session-id") ?? "";
  const params = { name: key, arguments: {} };
  await fetchWith(
    dataset,
    "/mcp",
    mcp(key, { jsonrpc: "2.0", id: 1, method: "tools/call", params }, id),
  );
  expect(points).toHaveLength(2);
  expect(points[1]?.blobs[4]).toBe("[REDACTED]");
});
