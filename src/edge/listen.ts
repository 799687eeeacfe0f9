/**
 * @module
 * `subscriptions/listen` of 2026-07-28: one long response that carries the
 * changes that the client asked for. The Worker holds it; what it hears of
 * comes from the tenant's hub and, for resources, from a Listener object.
 */
import * as z from "zod";
import { LISTEN_HEADER, type ListenWish } from "../hub/listener-object.ts";
import { headerJson } from "../mcp/header-json.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import type { RpcRequest } from "../mcp/jsonrpc.ts";
import { INVALID_PARAMS } from "../mcp/jsonrpc.ts";
import { SERVER_INFO, SERVER_INFO_META_KEY } from "../mcp/server-info.ts";
import { sseEvent } from "../mcp/sse.ts";
import { listenerStub } from "../objects.ts";
import { logEvent } from "../ops/log.ts";
import { stoppedBy } from "../policy/kill-switch.ts";
import { recordRequest } from "../session/ambient.ts";
import { relayable } from "../session/capabilities.ts";
import type { Entry } from "../session/ledger.ts";
import type { ListName } from "../session/stream-request.ts";
import { directoryOf } from "../upstream/directory.ts";
import { watchDirectory } from "./directory-watch.ts";
import { leave, openEventStream } from "./event-stream.ts";
import { type McpRequest, streamStopped, tooManyRequests } from "./mcp-answer.ts";
import { type StreamPlace, takeStreamPlace } from "./open-streams.ts";
import { HttpRefusal } from "./refusal.ts";

const SUBSCRIPTION_ID_KEY = "io.modelcontextprotocol/subscriptionId";
/** Resources of one stream. */
const MAX_URIS = 256;
/** Pause before a lost Listener object is replaced, in ms. */
const LISTENER_RETRY_MS = 2_000;

const filterSchema = z.object({
  toolsListChanged: z.boolean().optional(),
  promptsListChanged: z.boolean().optional(),
  resourcesListChanged: z.boolean().optional(),
  resourceSubscriptions: z.array(z.string()).max(MAX_URIS).optional(),
});

type Filter = z.infer<typeof filterSchema>;

const FLAGS: Readonly<Record<ListName, keyof Filter>> = {
  tools: "toolsListChanged",
  prompts: "promptsListChanged",
  resources: "resourcesListChanged",
};

/**
 * Opens the stream: acknowledged with what of the filter is granted, recorded
 * before. Throws `HttpRefusal`: 400, 429 for one request too many of the ambient
 * session, 503 for one stream too many.
 */
export async function listen(
  call: McpRequest,
  request: RpcRequest,
  capabilities: JsonObject,
): Promise<Response> {
  const parsed = filterSchema.safeParse(request.params?.notifications);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const field = ["notifications", ...(issue?.path ?? [])].map(String).join(".");
    throw new HttpRefusal(400, "INVALID_ARGUMENT", `${field}: ${issue?.message}`, {
      rpcCode: INVALID_PARAMS,
    });
  }
  const place = takeStreamPlace(call.principal);
  try {
    return await openListening(call, request, capabilities, parsed.data, place);
  } catch (error) {
    place.leave();
    throw error;
  }
}

async function openListening(
  call: McpRequest,
  request: RpcRequest,
  capabilities: JsonObject,
  filter: Filter,
  place: StreamPlace,
): Promise<Response> {
  const { env, principal, requestId } = call;
  await refuseStopped(call);
  const directory = await directoryOf(env);
  const uris = (filter.resourceSubscriptions ?? []).filter(
    (uri) => directory.ownerOf(principal, uri) !== null,
  );
  const granted = grantedOf(filter, uris);
  await recordCounted(call, {
    event: "subscriptions_listen",
    result: "ok",
    request_id: requestId,
    args: { notifications: request.params?.notifications ?? null },
    context: { granted: uris.length },
  });

  const notification = (method: string, params: JsonObject): string =>
    sseEvent({
      event: "message",
      data: JSON.stringify({
        jsonrpc: "2.0",
        method,
        params: { ...params, _meta: { [SUBSCRIPTION_ID_KEY]: request.id } },
      }),
    });
  let stopListener = (): void => {};
  const stream = openEventStream({
    first: notification("notifications/subscriptions/acknowledged", { notifications: granted }),
    isCall: false,
    recheck: async () => {
      place.seen();
      const mayListen = await call.stillAllowed();
      if (mayListen) await watch.look();
      else stream.write(closing(request));
      return mayListen;
    },
    isStopped: async () => {
      const stopped = await call.isStopped(null);
      if (stopped) stream.write(closing(request));
      return stopped;
    },
    onEnd: () => {
      place.leave();
      watch.stop();
      stopListener();
    },
  });
  const watch = watchDirectory(env, principal, directory, (_version, changed) => {
    for (const list of changed) {
      if (filter[FLAGS[list]] === true) {
        stream.write(notification(`notifications/${list}/list_changed`, {}));
      }
    }
  });
  if (uris.length > 0) {
    const { accessToken } = call;
    const wish = {
      principal,
      capabilities: relayable(capabilities, "2026"),
      uris,
      accessToken,
    };
    stopListener = listenForResources(env, wish, (uri) => {
      // Authorised again: a key or an upstream may have been narrowed since.
      directoryOf(env).then(
        (now) => {
          if (now.ownerOf(principal, uri) === null) return;
          stream.write(notification("notifications/resources/updated", { uri }));
        },
        (error: unknown) => logEvent("warn", "directory_unreadable", { error: String(error) }),
      );
    });
  }
  return stream.response;
}

/** A stopped caller gets no stream, and the attempt is recorded. */
async function refuseStopped(call: McpRequest): Promise<void> {
  const { switches, requestId } = call;
  const { tenant, role } = call.principal;
  const subject = { tenant, role, session_id: null, tool: null, upstream: null };
  const stopping = stoppedBy(switches, subject);
  if (stopping === null) return;
  await recordCounted(call, {
    event: "subscriptions_listen",
    result: "error",
    error_code: "KILL_SWITCH",
    request_id: requestId,
    context: { kill_switch: stopping.id },
  });
  throw streamStopped(stopping);
}

/** Records the request with the ambient session, which counts it. Throws `HttpRefusal` 429. */
async function recordCounted({ env, principal }: McpRequest, entry: Entry): Promise<void> {
  const recorded = await recordRequest(env, principal, entry);
  if ("kind" in recorded) throw tooManyRequests(recorded);
}

function grantedOf(filter: Filter, uris: readonly string[]): JsonObject {
  const granted: JsonObject = {};
  for (const flag of Object.values(FLAGS)) if (filter[flag] === true) granted[flag] = true;
  if (uris.length > 0) granted.resourceSubscriptions = [...uris];
  return granted;
}

/** Asks a Listener object, and another one whenever it is lost. The function that ends it. */
function listenForResources(
  env: Env,
  wish: ListenWish,
  onUpdated: (uri: string) => void,
): () => void {
  let isStopped = false;
  let socket: WebSocket | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;
  const connect = async (): Promise<void> => {
    try {
      const response = await listenerStub(env).fetch("https://listener/", {
        headers: { upgrade: "websocket", [LISTEN_HEADER]: headerJson(wish) },
      });
      const opened = response.webSocket;
      if (opened === null) throw new Error(`the listener answered ${response.status}`);
      opened.addEventListener("message", ({ data }: MessageEvent) => {
        if (typeof data === "string") onUpdated(data);
      });
      opened.addEventListener("close", again);
      opened.addEventListener("error", again);
      opened.accept();
      socket = opened;
      if (isStopped) leave(opened);
    } catch (error) {
      logEvent("warn", "listener_unreachable", { error: String(error) });
      again();
    }
  };
  const again = (): void => {
    socket = null;
    if (isStopped || timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      void connect();
    }, LISTENER_RETRY_MS);
  };
  void connect();
  return () => {
    isStopped = true;
    if (timer !== null) clearTimeout(timer);
    if (socket !== null) leave(socket);
  };
}

/** The response to the request, which ends the subscription of the server's own accord. */
function closing(request: RpcRequest): string {
  return sseEvent({
    event: "message",
    data: JSON.stringify({
      jsonrpc: "2.0",
      id: request.id,
      result: {
        _meta: {
          [SERVER_INFO_META_KEY]: SERVER_INFO,
          [SUBSCRIPTION_ID_KEY]: request.id,
        },
        resultType: "complete",
      },
    }),
  });
}
