/**
 * @module
 * The one table of built-in tools.
 */

import { SERVER_INFO, SERVER_INFO_META_KEY } from "../mcp/server-info.ts";
import { readAuditLog, replayExecution, verifyWorkspaceIntegrity } from "./audit.ts";
import { deleteFile, listFiles, readFile, writeFile } from "./files.ts";
import { lintPlan, listPlans, readPlan, savePlan } from "./plans.ts";
import { beginSession } from "./session.ts";
import type { BuiltInTool, ToolListing } from "./tool.ts";

const TOOLS: ReadonlyMap<string, BuiltInTool> = new Map(
  [
    beginSession,
    readFile,
    listFiles,
    writeFile,
    deleteFile,
    savePlan,
    lintPlan,
    listPlans,
    readPlan,
    readAuditLog,
    verifyWorkspaceIntegrity,
    replayExecution,
  ].map((tool) => [tool.name, tool]),
);

export function findTool(name: string): BuiltInTool | null {
  return TOOLS.get(name) ?? null;
}

/** The names that upstream tools cannot have. */
export function builtInToolNames(): string[] {
  return [...TOOLS.keys()];
}

const listTexts = new Map<string, string>();

/** How long a client of the 2026 era may keep a list, in ms. */
export const LIST_TTL_MS = 60_000;

/** The header that mirrors the handle: `Mcp-Param-Atlas-Session`. */
export const HANDLE_HEADER = "Atlas-Session";

/** The result of `tools/list` for a role, as text: what it may call, sorted by name. */
export function toolListText(role: string, era: "2025" | "2026"): string {
  const key = `${era} ${role}`;
  const known = listTexts.get(key);
  if (known !== undefined) return known;
  const tools = [...TOOLS.values()]
    .filter((tool) => tool.roles.some((allowed) => allowed === role))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((tool) =>
      era === "2026" && tool.takesHandle ? withHandle(tool.listing()) : tool.listing(),
    );
  const text = JSON.stringify(
    era === "2025"
      ? { tools }
      : {
          _meta: { [SERVER_INFO_META_KEY]: SERVER_INFO },
          resultType: "complete",
          tools,
          ttlMs: LIST_TTL_MS,
          cacheScope: "private",
        },
  );
  listTexts.set(key, text);
  return text;
}

/** In the 2026 era the session is an argument, mirrored into a header so that the Worker can route by it. */
function withHandle(listing: ToolListing): ToolListing {
  const { properties } = listing.inputSchema;
  const own = typeof properties === "object" && !Array.isArray(properties) ? properties : {};
  return {
    ...listing,
    inputSchema: {
      ...listing.inputSchema,
      properties: {
        ...own,
        session_id: {
          type: "string",
          description: "The session_id that begin_session answered with.",
          "x-mcp-header": HANDLE_HEADER,
        },
      },
    },
  };
}
