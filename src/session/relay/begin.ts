/**
 * @module
 * Sends a request to its upstream, and passes on what the upstream says of it
 * while it is under way.
 */
import type { JsonObject, JsonValue } from "../../mcp/ijson.ts";
import type { RpcNotification } from "../../mcp/jsonrpc.ts";
import { isAtLeast } from "../../mcp/log-level.ts";
import type { UpstreamRequest } from "../../upstream/links.ts";
import { isObject } from "../capabilities.ts";
import { Exchange } from "../exchange.ts";
import type { Job, RelayClient } from "./job.ts";
import { askClient, mayAsk, refuseQuestion } from "./questions.ts";

export function begin(job: Job, params: JsonObject): Exchange {
  const { route, client, host, request, runtime } = job;
  const { _meta: _own, ...rest } = params;
  const given = isObject(request.params?._meta) ? request.params._meta : {};
  const upstream: UpstreamRequest = {
    method: request.method,
    params: rest,
    meta: passedMeta(given),
    capabilities: job.declared,
    logLevel: client.logLevel,
    // Of the gateway's own: a client's may be another client's too.
    progressToken: given.progressToken === undefined ? null : crypto.randomUUID(),
    paramHeaders: route.paramHeaders,
  };
  const { accessToken } = runtime;
  return new Exchange(host.links, route.entry, upstream, accessToken, (question, signal) => {
    if (!mayAsk(job, question)) return refuseQuestion(job, question);
    return client.era === "2025" ? askClient(job, question, signal) : null;
  });
}

/** The client's keys of `_meta` that are neither the protocol's nor the gateway's own. */
function passedMeta(meta: JsonObject): JsonObject {
  return Object.fromEntries(
    Object.entries(meta).filter(
      ([key]) =>
        key !== "progressToken" &&
        !key.startsWith("dev.atlas-gate/") &&
        !key.startsWith("io.modelcontextprotocol/"),
    ),
  );
}

/** Passes on what the upstream says of the request while it is under way. */
export function passNotification(job: Job, notification: RpcNotification): void {
  const { client, host, route, request } = job;
  const { method, params } = notification;
  switch (method) {
    case "notifications/progress": {
      const meta = request.params?._meta;
      const token = isObject(meta) ? meta.progressToken : undefined;
      if (token === undefined || token === null) return;
      client.channel.notify({
        jsonrpc: "2.0",
        method,
        params: { ...params, progressToken: token },
      });
      return;
    }
    case "notifications/message":
      if (wantsLog(client, params?.level)) client.channel.notify(notification);
      return;
    case "notifications/tools/list_changed":
    case "notifications/prompts/list_changed":
    case "notifications/resources/list_changed":
      host.listChanged(route.entry);
      return;
    case "notifications/resources/updated":
      host.resourceUpdated(route.entry, notification);
      return;
    case "notifications/cancelled":
      return;
    case "notifications/elicitation/complete":
      if (client.era === "2025") client.channel.notify(notification);
      return;
    default:
      // Nothing that the other era's client would not know.
      if (client.era === (route.entry.era ?? client.era)) client.channel.notify(notification);
  }
}

/** A client of the 2026 era hears only of what it asked for with this request. */
function wantsLog({ era, logLevel }: RelayClient, level: JsonValue | undefined): boolean {
  return logLevel === null ? era === "2025" : isAtLeast(level, logLevel);
}
