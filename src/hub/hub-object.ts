/**
 * @module
 * The Hub object: one a tenant. It tells every Worker that holds a client's
 * stream, in whatever isolate and region, that the directory has changed; and
 * while somebody listens, it listens to the upstreams, so that their changes
 * are noticed at once and not at the next refresh.
 *
 * Lifecycle: its sockets hibernate; what it hears of upstreams does not, but a
 * tenant has one hub, however many sessions listen. Trade-off: an upstream that
 * tells of list changes holds one stream of the gateway's open a tenant while
 * anybody listens there. Nothing is stored: after a restart the Workers come
 * back, and compare versions.
 */
import { DurableObject } from "cloudflare:workers";
import { requireConfig } from "../config.ts";
import { logEvent } from "../ops/log.ts";
import { refreshAndAnnounce } from "../upstream/announce.ts";
import { directoryOf, forgetDirectory } from "../upstream/directory.ts";
import { UpstreamLinks } from "../upstream/links.ts";
import { memoryShelf } from "../upstream/memory-shelf.ts";
import { targetOfEntry } from "../upstream/target.ts";
import type { UpstreamEntry } from "../upstream/types.ts";

const TENANT_HEADER = "x-tenant";

export class HubObject extends DurableObject<Env> {
  readonly #watches = new Map<string, { revision: string; aborter: AbortController }>();
  #links: UpstreamLinks | null = null;
  #tenant: string | null = null;

  /** Gives a Worker a socket that is told of changes. */
  override async fetch(request: Request): Promise<Response> {
    const tenant = request.headers.get(TENANT_HEADER);
    if (tenant === null) return new Response("no tenant", { status: 400 });
    this.#tenant = tenant;
    const { 0: client, 1: server } = new WebSocketPair();
    this.ctx.acceptWebSocket(server, [tenant]);
    this.ctx.waitUntil(this.#watch());
    return new Response(null, { status: 101, webSocket: client });
  }

  /** The directory has a new version. */
  async announce(version: number): Promise<void> {
    forgetDirectory();
    for (const socket of this.ctx.getWebSockets()) {
      if (socket.readyState === WebSocket.OPEN) socket.send(String(version));
    }
    this.ctx.waitUntil(this.#watch());
  }

  override webSocketMessage(): void {}

  override webSocketClose(): void {
    if (this.ctx.getWebSockets().length === 0) this.#stopAll();
  }

  override webSocketError(): void {
    this.webSocketClose();
  }

  /** Watches the upstreams that there are now and that tell of changes; one that changed, anew. */
  async #watch(): Promise<void> {
    try {
      const tenant = this.#tenant ?? this.#storedTenant();
      if (tenant === null) return;
      const directory = await directoryOf(this.env);
      const wanted = new Map(
        directory
          .entries()
          .filter((entry) => entry.config.tenants.includes(tenant) && tellsOfLists(entry))
          .map((entry) => [entry.config.name, entry]),
      );
      for (const [name, { revision, aborter }] of this.#watches) {
        const entry = wanted.get(name);
        if (entry !== undefined && revisionOf(entry) === revision) wanted.delete(name);
        else {
          aborter.abort(new Error("no longer watched"));
          this.#watches.delete(name);
        }
      }
      for (const [name, entry] of wanted) this.#begin(name, entry);
    } catch (error) {
      logEvent("error", "hub_watch_failed", { error: String(error) });
    }
  }

  #begin(name: string, entry: UpstreamEntry): void {
    const aborter = new AbortController();
    const config = requireConfig(this.env);
    this.#links ??= new UpstreamLinks({
      target: (upstream) => targetOfEntry(config, upstream),
      shelf: memoryShelf(),
    });
    this.#watches.set(name, { revision: revisionOf(entry), aborter });
    const filter = {
      toolsListChanged: true,
      promptsListChanged: true,
      resourcesListChanged: true,
    };
    void this.#links
      .watch(
        entry,
        () => filter,
        {},
        {
          signal: aborter.signal,
          onNotification: ({ method }) => {
            if (method.endsWith("/list_changed")) {
              this.ctx.waitUntil(refreshAndAnnounce(this.env, config, name));
            }
          },
        },
      )
      .catch((error: unknown) =>
        logEvent("error", "hub_watch_failed", { upstream: name, error: String(error) }),
      );
  }

  /** The tenant, after a hibernation: sockets remember it. */
  #storedTenant(): string | null {
    const [socket] = this.ctx.getWebSockets();
    return socket === undefined ? null : (this.ctx.getTags(socket)[0] ?? null);
  }

  #stopAll(): void {
    for (const { aborter } of this.#watches.values()) aborter.abort(new Error("nobody listens"));
    this.#watches.clear();
  }
}

function tellsOfLists({ capabilities }: UpstreamEntry): boolean {
  return ["tools", "prompts", "resources"].some((name) => {
    const own = capabilities[name];
    return (
      typeof own === "object" && own !== null && !Array.isArray(own) && own.listChanged === true
    );
  });
}

/** What of an upstream a watch depends on. */
function revisionOf({ config, era }: UpstreamEntry): string {
  return JSON.stringify([config.url, era]);
}
