/**
 * @module
 * One relayed request and what is known of it, and how its records begin.
 */
import type { JsonObject } from "../../mcp/ijson.ts";
import type { RpcNotification, RpcRequest } from "../../mcp/jsonrpc.ts";
import type { LogLevel } from "../../mcp/log-level.ts";
import { logEvent } from "../../ops/log.ts";
import type { Approved } from "../../policy/decide.ts";
import type { UpstreamLinks } from "../../upstream/links.ts";
import type { Definition, UpstreamEntry } from "../../upstream/types.ts";
import type { Channel } from "../client-side.ts";
import type { WaitingExchanges } from "../exchange.ts";
import type { Entry, IntentNote, Receipt } from "../ledger.ts";
import { isRelayed, RELAYED } from "../routes.ts";
import type { CallRuntime } from "../tool-call.ts";

/** What relaying needs of the session's object. */
export type RelayHost = {
  readonly links: UpstreamLinks;
  readonly waiting: WaitingExchanges;
  readonly secretsKey: Uint8Array;
  /** Marks a state as spent; false when it was. */
  readonly spend: (nonce: string, expiresAt: number) => boolean;
  /** An upstream said that one of its lists changed. */
  readonly listChanged: (entry: UpstreamEntry) => void;
  /** An upstream said that a resource changed. */
  readonly resourceUpdated: (entry: UpstreamEntry, notification: RpcNotification) => void;
};

/** Who asks, and how they are reached while the request is under way. */
export type RelayClient = {
  readonly era: "2025" | "2026";
  /** What the gateway can relay of what the client declared. */
  readonly capabilities: JsonObject;
  readonly logLevel: LogLevel | null;
  readonly channel: Channel;
};

/** Where a request goes. */
export type Route = {
  readonly entry: UpstreamEntry;
  /** Of a tool or a prompt. */
  readonly definition: Definition | null;
  readonly kind: "tool" | "prompt" | "resource" | "completion" | "task";
  /** For the upstream, in its own names; without `_meta`. */
  readonly params: JsonObject;
  /** What records call it. */
  readonly label: string | null;
  /** What records keep of the parameters. */
  readonly args: JsonObject;
  readonly paramHeaders: Readonly<Record<string, string>>;
  /** Of a task: the plan that its call was made under. */
  readonly startedUnder?: { readonly workspace_root: string; readonly plan_hash: string } | null;
};

export type RelayJob = {
  readonly runtime: CallRuntime;
  readonly host: RelayHost;
  readonly client: RelayClient;
  readonly request: RpcRequest;
  readonly requestId: string;
  readonly route: Route;
  /** The route as it is now; null where there is none any more, or nobody can say. */
  readonly routeNow: () => Promise<Route | null>;
};

/** One job with what was found out about it. */
export type Job = RelayJob & {
  readonly workspace_root: string | null;
  readonly plan_hash: string | null;
  readonly declared: JsonObject;
};

/** What a request is called in the chain: before it leaves, when it ends, and when it is refused. */
export function eventsOf({ route, request }: RelayJob): {
  intent: string;
  result: string;
  refusal: string;
} {
  if (route.kind === "tool") {
    return { intent: "tool_intent", result: "tool_result", refusal: "tool_call" };
  }
  const event = isRelayed(request.method, "2026") ? RELAYED[request.method] : request.method;
  return { intent: event, result: event, refusal: event };
}

export function common(job: Job): Pick<Entry, "request_id"> & {
  tool: string | null;
  workspace_root: string | null;
  plan_hash: string | null;
} {
  return {
    tool: job.route.label,
    workspace_root: job.workspace_root,
    plan_hash: job.plan_hash,
    request_id: job.requestId,
  };
}

export function intentNote(job: Job): IntentNote {
  const events = eventsOf(job);
  return {
    event: events.intent,
    result_event: events.result,
    upstream: job.route.entry.config.name,
    ...common(job),
  };
}

export function openIntent(job: Job): Receipt {
  const { entry, definition } = job.route;
  return job.runtime.ledger.intent(
    {
      ...common(job),
      event: eventsOf(job).intent,
      args: job.route.args,
      context: {
        upstream: entry.config.name,
        pin: definition?.pin ?? null,
        gate: entry.config.gate,
      },
    },
    intentNote(job),
  );
}

export function upstreamContext({ route }: Job, approved: Approved | null): JsonObject {
  const { entry, definition } = route;
  return {
    upstream: entry.config.name,
    pin: definition?.pin ?? null,
    gate: entry.config.gate,
    ...(approved === null ? {} : { approval: { ...approved.approval } }),
  };
}

export function withoutMeta({ _meta, ...rest }: JsonObject): JsonObject {
  return rest;
}

export function log(job: Job, event: string, error: unknown): void {
  logEvent("error", event, {
    upstream: job.route.entry.config.name,
    session_id: job.runtime.state().session_id,
    request_id: job.requestId,
    error: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
  });
}
