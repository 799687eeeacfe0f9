/**
 * @module
 * The Listener object: one a `subscriptions/listen` stream that asks for
 * resources. It holds the upstreams' streams, sessions of its own included, and
 * tells the Worker which resource changed.
 *
 * Lifecycle: as long as the one socket of its Worker. Nothing is stored: if the
 * object is lost the socket breaks, and the Worker asks for another.
 */
import { DurableObject } from "cloudflare:workers";
import * as z from "zod";
import { requireConfig } from "../config.ts";
import { principalSchema } from "../edge/principal.ts";
import { jsonObjectSchema } from "../mcp/json-object.ts";
import { logEvent } from "../ops/log.ts";
import { declaredTo } from "../session/capabilities.ts";
import { refreshAndAnnounce } from "../upstream/announce.ts";
import { directoryOf } from "../upstream/directory.ts";
import { UpstreamLinks } from "../upstream/links.ts";
import { memoryShelf } from "../upstream/memory-shelf.ts";
import { targetOfEntry } from "../upstream/target.ts";

/** Where the Worker writes what it wants: an upgrade has no body. */
export const LISTEN_HEADER = "x-listen";

export const listenSchema = z.object({
  principal: principalSchema,
  capabilities: jsonObjectSchema,
  uris: z.array(z.string()),
  /** The caller's, for upstreams that are asked in its name. */
  accessToken: z.string().nullable().default(null),
});
export type ListenWish = z.input<typeof listenSchema>;

export class ListenerObject extends DurableObject<Env> {
  override async fetch(request: Request): Promise<Response> {
    const wish = listenSchema.parse(JSON.parse(request.headers.get(LISTEN_HEADER) ?? "null"));
    const { 0: client, 1: server } = new WebSocketPair();
    server.accept();
    const aborter = new AbortController();
    const stop = (): void => aborter.abort(new Error("the listener has left"));
    server.addEventListener("close", stop);
    server.addEventListener("error", stop);
    await this.#watch(wish, server, aborter.signal);
    return new Response(null, { status: 101, webSocket: client });
  }

  /** Watches each upstream for those URIs that are its own and that the principal may use. */
  async #watch(
    wish: z.output<typeof listenSchema>,
    socket: WebSocket,
    signal: AbortSignal,
  ): Promise<void> {
    const { principal, capabilities, accessToken } = wish;
    const config = requireConfig(this.env);
    const directory = await directoryOf(this.env);
    const links = new UpstreamLinks({
      target: (upstream) =>
        targetOfEntry(config, upstream, {
          kind: "caller",
          principal: principal.id,
          token: () => accessToken,
        }),
      shelf: memoryShelf(),
    });
    const byUpstream = Map.groupBy(wish.uris, (uri) => directory.ownerOf(principal, uri));
    for (const [entry, uris] of byUpstream) {
      if (entry === null) continue;
      links
        .watch(
          entry,
          () => ({ resourceSubscriptions: uris }),
          declaredTo(entry.config, capabilities),
          {
            signal,
            onNotification: ({ method, params }) => {
              if (method === "notifications/resources/updated") {
                const uri = params?.uri;
                if (
                  typeof uri === "string" &&
                  uris.includes(uri) &&
                  socket.readyState === WebSocket.OPEN
                ) {
                  socket.send(uri);
                }
              } else if (method.endsWith("/list_changed")) {
                this.ctx.waitUntil(refreshAndAnnounce(this.env, config, entry.config.name));
              }
            },
          },
        )
        .catch((error: unknown) =>
          logEvent("error", "listen_failed", {
            upstream: entry.config.name,
            error: String(error),
          }),
        );
    }
    signal.addEventListener("abort", () => {
      this.ctx.waitUntil(links.close((name) => directory.upstream(principal, name)));
    });
  }
}
