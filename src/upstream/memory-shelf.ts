/**
 * @module
 * Upstream sessions of an owner that has no storage: they live as long as it does.
 */
import type { SessionShelf } from "./links.ts";
import type { WireSession2025 } from "./types.ts";

export function memoryShelf(): SessionShelf {
  const kept = new Map<string, { upstream: string; session: WireSession2025 }>();
  return {
    load: (key) => kept.get(key)?.session ?? null,
    save: (key, upstream, session) => {
      kept.set(key, { upstream, session });
    },
    drop: (key) => {
      kept.delete(key);
    },
    all: () => [...kept].map(([key, { upstream, session }]) => ({ key, upstream, session })),
  };
}
