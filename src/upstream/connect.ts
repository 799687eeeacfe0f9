/**
 * @module
 * The first words with an upstream: which era it speaks, what it says of
 * itself, and a way to read its lists.
 */
import type { JsonObject } from "../mcp/ijson.ts";
import type { WireFailure, WireOutcome, WireTarget } from "./types.ts";

export type ListMethod =
  | "tools/list"
  | "prompts/list"
  | "resources/list"
  | "resources/templates/list";

/** Reads the lists of an upstream, in either era. */
export type UpstreamReader = {
  /** One page: from the beginning, or after a cursor that the upstream gave. */
  readonly list: (method: ListMethod, cursor: string | null) => Promise<WireOutcome>;
  /** Ends what was opened for reading. Never throws: nothing depends on it. */
  readonly close: () => Promise<void>;
};

export type Connection = {
  readonly era: "2025" | "2026";
  readonly protocolVersion: string;
  readonly capabilities: JsonObject;
  readonly instructions: string | null;
  readonly serverInfo: JsonObject | null;
  readonly ttlMs: number | null;
  readonly reader: UpstreamReader;
};

export type Connected =
  | { readonly ok: true; readonly connection: Connection }
  | { readonly ok: false; readonly failure: WireFailure };

export type Connect = (target: WireTarget, timeoutMs: number) => Promise<Connected>;

/** The wire client of both eras. */
export const wire: { connect: Connect } = {
  connect: async () => ({
    ok: false,
    failure: { reason: "unreachable", ran: "no", detail: "no wire client", httpStatus: null },
  }),
};
