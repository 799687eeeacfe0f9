/**
 * @module
 * Hears of changes of the directory for one caller whose stream this Worker
 * holds: through the tenant's hub, and by comparing versions now and then,
 * should the hub be lost. Only a list that reads otherwise than before, to this
 * caller, has changed.
 */
import { hubStub } from "../objects.ts";
import { logEvent } from "../ops/log.ts";
import { LISTS_CHANGED, type ListName } from "../session/stream-request.ts";
import { type ListMethod, listText } from "../tools/lists.ts";
import { type Directory, directoryOf, forgetDirectory } from "../upstream/directory.ts";
import { leave } from "./event-stream.ts";
import type { Principal } from "./principal.ts";

/** Pause before a lost hub is asked for again, in ms. */
const HUB_RETRY_MS = 5_000;

const METHODS: Readonly<Record<ListName, readonly ListMethod[]>> = {
  tools: ["tools/list"],
  prompts: ["prompts/list"],
  resources: ["resources/list", "resources/templates/list"],
};

export type DirectoryWatch = {
  /** Looks whether there is a newer version; for the time when the hub said nothing. */
  readonly look: () => Promise<void>;
  readonly stop: () => void;
};

/** Watches from the version that the caller has seen. `onChange` gets each newer one, and what changed. */
export function watchDirectory(
  env: Env,
  principal: Principal,
  seen: Directory,
  onChange: (version: number, changed: readonly ListName[]) => void,
): DirectoryWatch {
  let current = seen;
  let isStopped = false;
  let socket: WebSocket | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;

  const look = async (): Promise<void> => {
    const next = await directoryOf(env);
    if (isStopped || next.version === current.version) return;
    const changed = LISTS_CHANGED.filter((list) =>
      METHODS[list].some(
        (method) => textOf(current, principal, method) !== textOf(next, principal, method),
      ),
    );
    current = next;
    onChange(next.version, changed);
  };
  const lookNow = (): void => {
    forgetDirectory();
    look().catch((error: unknown) =>
      logEvent("warn", "directory_unreadable", { error: String(error) }),
    );
  };
  const connect = async (): Promise<void> => {
    try {
      const response = await hubStub(env, principal.tenant).fetch("https://hub/", {
        headers: { upgrade: "websocket", "x-tenant": principal.tenant },
      });
      const opened = response.webSocket;
      if (opened === null) throw new Error(`the hub answered ${response.status}`);
      if (isStopped) {
        opened.accept();
        return leave(opened);
      }
      socket = opened;
      opened.addEventListener("message", lookNow);
      opened.addEventListener("close", again);
      opened.addEventListener("error", again);
      opened.accept();
      // What changed before the hub knew of this watch.
      lookNow();
    } catch (error) {
      logEvent("warn", "hub_unreachable", { error: String(error) });
      again();
    }
  };
  const again = (): void => {
    socket = null;
    if (isStopped || timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      void connect();
    }, HUB_RETRY_MS);
  };

  void connect();
  return {
    look,
    stop: () => {
      isStopped = true;
      if (timer !== null) clearTimeout(timer);
      if (socket !== null) leave(socket);
    },
  };
}

function textOf(directory: Directory, principal: Principal, method: ListMethod): string {
  const text = listText(directory, principal, method, "2025", undefined);
  return text.ok ? text.value : "";
}
