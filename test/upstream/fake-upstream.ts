/**
 * @module
 * Upstreams that answer from memory, in the place of the wire client.
 */
import type { JsonObject } from "../../src/mcp/ijson.ts";
import type { Connect, ListMethod } from "../../src/upstream/connect.ts";
import type { WireFailure, WireOutcome } from "../../src/upstream/types.ts";

export type Fake = {
  era: "2025" | "2026";
  capabilities: JsonObject;
  instructions: string | null;
  tools: JsonObject[];
  prompts: JsonObject[];
  resources: JsonObject[];
  templates: JsonObject[];
  ttlMs: number | null;
  /** Items of a page. */
  pageSize: number;
  /** Set: it cannot be reached. */
  failure: WireFailure | null;
  /** What lists answer instead, by method. */
  outcomes: Partial<Record<ListMethod, WireOutcome>>;
  /** Called before each connection. */
  onConnect: () => Promise<void>;
  /** Methods asked for, with cursors, and the header that each connection came with. */
  asked: string[];
  headers: Record<string, string>[];
  closed: number;
};

export function fakeUpstream(changes: Partial<Fake> = {}): Fake {
  return {
    era: "2025",
    capabilities: { tools: {}, prompts: {}, resources: {} },
    instructions: null,
    tools: [],
    prompts: [],
    resources: [],
    templates: [],
    ttlMs: null,
    pageSize: 2,
    failure: null,
    outcomes: {},
    onConnect: async () => {},
    asked: [],
    headers: [],
    closed: 0,
    ...changes,
  };
}

export function fakeTool(name: string, changes: JsonObject = {}): JsonObject {
  return { name, description: `Does ${name}`, inputSchema: { type: "object" }, ...changes };
}

export const AWAY: WireFailure = {
  reason: "unreachable",
  ran: "no",
  detail: "connection refused",
  httpStatus: null,
};

/** Upstreams by URL. */
export const fakes = new Map<string, Fake>();

export const fakeConnect: Connect = async (target) => {
  const fake = fakes.get(target.url);
  if (fake === undefined) return { ok: false, failure: AWAY };
  await fake.onConnect();
  fake.headers.push({ ...(await target.authorize(false)) });
  if (fake.failure !== null) return { ok: false, failure: fake.failure };
  const lists: Record<ListMethod, [member: string, items: JsonObject[]]> = {
    "tools/list": ["tools", fake.tools],
    "prompts/list": ["prompts", fake.prompts],
    "resources/list": ["resources", fake.resources],
    "resources/templates/list": ["resourceTemplates", fake.templates],
  };
  return {
    ok: true,
    connection: {
      era: fake.era,
      protocolVersion: fake.era === "2025" ? "2025-11-25" : "2026-07-28",
      capabilities: fake.capabilities,
      instructions: fake.instructions,
      serverInfo: { name: "fake", version: "1" },
      ttlMs: null,
      reader: {
        list: async (method, cursor) => {
          fake.asked.push(cursor === null ? method : `${method} ${cursor}`);
          const special = fake.outcomes[method];
          if (special !== undefined) return special;
          const [member, items] = lists[method];
          const from = Number(cursor ?? 0);
          const to = from + fake.pageSize;
          const result: JsonObject = {
            [member]: items.slice(from, to),
            ...(fake.ttlMs === null ? {} : { ttlMs: fake.ttlMs }),
            ...(to < items.length ? { nextCursor: String(to) } : {}),
          };
          return { kind: "result", result, text: JSON.stringify(result), isIJson: true };
        },
        close: async () => {
          fake.closed += 1;
        },
      },
    },
  };
};
