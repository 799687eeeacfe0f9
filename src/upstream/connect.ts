/**
 * @module
 * The first words with an upstream: which era it speaks, what it says of
 * itself, and a way to read its lists.
 */
import type { JsonObject } from "../mcp/ijson.ts";
import { SERVER_INFO } from "../mcp/server-info.ts";
import { probeEra } from "./probe.ts";
import type { UpstreamConfig, WireFailure, WireOutcome, WireTarget } from "./types.ts";
import { close, request as request2025 } from "./wire-2025.ts";
import { request as request2026 } from "./wire-2026.ts";

export type ListMethod =
  | "tools/list"
  | "prompts/list"
  | "resources/list"
  | "resources/templates/list";

/** Reads the lists of an upstream, in either era. */
export type UpstreamReader = {
  /** One page: from the beginning, or after a cursor that the upstream gave. */
  readonly list: (method: ListMethod, cursor: string | null) => Promise<WireOutcome>;
  /** Ends what was opened for reading; nothing depends on it. */
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

export type Connect = (
  target: WireTarget,
  config: Pick<UpstreamConfig, "timeout_ms" | "sampling" | "elicitation">,
) => Promise<Connected>;

const clientInfo: JsonObject = { ...SERVER_INFO };

/**
 * What a client may have at most, as far as the registration lets the upstream
 * use it: there are servers that only list what their client is capable of. A
 * request that comes while lists are read is refused all the same.
 */
function capabilitiesOf({ sampling, elicitation }: Parameters<Connect>[1]): JsonObject {
  return {
    roots: {},
    ...(sampling ? { sampling: {} } : {}),
    ...(elicitation ? { elicitation: { form: {}, url: {} } } : {}),
  };
}

const connect: Connect = async (target, config) => {
  const hooks = { timeoutMs: config.timeout_ms };
  const capabilities = capabilitiesOf(config);
  const probed = await probeEra(target, {
    clientInfo,
    capabilities2025: capabilities,
    capabilities2026: capabilities,
    ...hooks,
  });
  if (probed.era === null) return { ok: false, failure: probed.failure };
  if (probed.era === "2025") {
    const { session, ...said } = probed;
    const reader: UpstreamReader = {
      list: (method, cursor) => request2025(target, session, method, pageAfter(cursor), hooks),
      close: () => close(target, session),
    };
    const { protocolVersion } = session;
    return { ok: true, connection: { ...said, protocolVersion, ttlMs: null, reader } };
  }
  const { protocolVersion } = probed;
  const options = { clientInfo, clientCapabilities: capabilities, protocolVersion };
  const reader: UpstreamReader = {
    list: (method, cursor) => request2026(target, method, pageAfter(cursor), options, hooks),
    close: async () => {},
  };
  return { ok: true, connection: { ...probed, reader } };
};

function pageAfter(cursor: string | null): JsonObject | undefined {
  return cursor === null ? undefined : { cursor };
}

/** The wire client. An object, so that there is one place where tests put another in its place. */
export const wire: { connect: Connect } = { connect };
