/**
 * @module
 * An answer that anybody may ask for, and that costs a question to a store or an
 * object: asked for once for all who want it at the same time, and kept a moment.
 */
import { SingleFlight } from "../upstream/single-flight.ts";

type Shared<T> = { readonly flight: SingleFlight<T>; last: { value: T; at: number } | null };

/**
 * `ask`, at most once in `freshMs` for all of an isolate that ask, who wait
 * `patienceMs` for each other. What throws is not kept.
 */
export function sharedAnswer<T>(
  { freshMs, patienceMs }: { readonly freshMs: number; readonly patienceMs: number },
  ask: (env: Env) => Promise<T>,
): (env: Env) => Promise<T> {
  const known = new WeakMap<Env, Shared<T>>();
  return async (env) => {
    const shared = known.get(env) ?? { flight: new SingleFlight<T>(patienceMs), last: null };
    known.set(env, shared);
    const { last, flight } = shared;
    if (last !== null && Date.now() - last.at < freshMs) return last.value;
    return flight.run(async () => {
      const at = Date.now();
      const value = await ask(env);
      shared.last = { value, at };
      return value;
    });
  };
}
