/**
 * @module
 * The one table of built-in tools.
 */

import type { JsonObject } from "../mcp/ijson.ts";
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

/** How long a client of the 2026 era may keep a list, in ms. */
export const LIST_TTL_MS = 60_000;

/** The header that mirrors the handle: `Mcp-Param-Atlas-Session`. */
export const HANDLE_HEADER = "Atlas-Session";

/** The built-in tools that a role may call, as an era lists them. */
export function builtInListings(role: string, era: "2025" | "2026"): JsonObject[] {
  return [...TOOLS.values()]
    .filter((tool) => tool.roles.some((allowed) => allowed === role))
    .map((tool) => {
      const listing = tool.listing();
      return { ...(era === "2026" && tool.takesHandle ? withHandle(listing) : listing) };
    });
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
