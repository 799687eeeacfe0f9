/**
 * @module
 * The streams of a session as its client opens them: by GET, by
 * `Last-Event-ID`, and by calls whose responses become streams.
 */
import { EventStream } from "./event-stream.ts";
import { ACCEPT, type RawSession } from "./mcp.ts";
import type { Operator } from "./operator.ts";

function headersOf({ key, id }: RawSession): Record<string, string> {
  return { authorization: `Bearer ${key}`, "mcp-session-id": id };
}

/** Opens the session's own stream, or goes on with one. */
export function getStream(session: RawSession, lastEventId?: string): Promise<EventStream> {
  return EventStream.open(`${session.url}/mcp`, {
    method: "GET",
    headers: {
      ...headersOf(session),
      accept: "text/event-stream",
      ...(lastEventId === undefined ? {} : { "last-event-id": lastEventId }),
    },
  });
}

/** Opens the session's own stream and waits for its priming event: from then on it is told of changes. */
export async function primedStream(session: RawSession): Promise<EventStream> {
  const stream = await getStream(session);
  if (stream.status !== 200) throw new Error(`GET answered ${stream.status}`);
  await stream.next();
  return stream;
}

/** Sends a request whose response may be a stream. */
export function streamed(
  session: RawSession,
  id: string | number,
  method: string,
  params: Record<string, unknown>,
): Promise<EventStream> {
  return EventStream.open(`${session.url}/mcp`, {
    method: "POST",
    headers: { ...headersOf(session), accept: ACCEPT, "content-type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", id, method, params }),
  });
}

/** Calls an upstream's tool. */
export function callStreamed(
  session: RawSession,
  id: string | number,
  name: string,
  args: Record<string, unknown>,
  meta: Record<string, unknown> = {},
): Promise<EventStream> {
  return streamed(session, id, "tools/call", { name, arguments: args, _meta: meta });
}

/** Registers an upstream that anybody may call, every definition approved. */
export async function register(
  operator: Operator,
  name: string,
  url: string,
  more: Record<string, unknown> = {},
): Promise<void> {
  await operator.ok("POST", "/upstreams?approve=all", {
    name,
    url,
    prefix: name,
    gate: "open",
    tenants: ["default"],
    roles: ["windsurf"],
    sampling: true,
    elicitation: true,
    ...more,
  });
}
