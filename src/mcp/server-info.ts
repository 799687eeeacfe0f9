/**
 * @module
 * How the gateway introduces itself in both eras.
 */
import { VERSION } from "../version.ts";

/** `Implementation` of the schema; what a client makes of it is its own affair. */
export const SERVER_INFO = { name: "atlas-gate", title: "Atlas Gate", version: VERSION } as const;

/** Where a result of 2026-07-28 names the server (Overview, per-response protocol fields). */
export const SERVER_INFO_META_KEY = "io.modelcontextprotocol/serverInfo";

/** What a model should know before its first call. */
export const INSTRUCTIONS =
  "Call begin_session with a workspace_root first. Reading is free; every change needs a plan that an operator approved: pass its plan_hash. Each result carries a receipt.";
