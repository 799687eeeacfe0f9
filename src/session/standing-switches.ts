/**
 * @module
 * The kill switches as a session knows them: the newest that this life of its
 * object has heard of. What they stop is in its state, so that the next life
 * begins with it.
 */
import { freshSwitches } from "../ops/kill-switches.ts";
import {
  concerning,
  type KillSwitch,
  newerOf,
  type SwitchSet,
  sameSwitches,
  stoppedBy,
} from "../policy/kill-switch.ts";
import type { SessionState } from "./state.ts";

export class StandingSwitches {
  readonly #env: Env;
  readonly #state: () => SessionState;
  readonly #keep: (switches: SwitchSet) => void;
  #newest: SwitchSet;

  /** @param keep stores a set in the session's state */
  constructor(env: Env, state: () => SessionState, keep: (switches: SwitchSet) => void) {
    this.#env = env;
    this.#state = state;
    this.#keep = keep;
    this.#newest = state().switches;
  }

  /** Takes over newer ones; stored only when they stop something else than before. */
  note(given: SwitchSet): void {
    const newest = newerOf(this.#newest, given);
    if (newest === this.#newest) return;
    this.#newest = newest;
    const { ended_at, switches } = this.#state();
    if (ended_at === null && !sameSwitches(newest, switches)) this.#keep(newest);
  }

  /** Asks for those that stand now: a call that has been under way for long may not have heard of one. */
  async renew(): Promise<void> {
    this.note(concerning(await freshSwitches(this.#env), this.#state()));
  }

  /** The one that stops something of a role; without a tool or an upstream, the session as a whole. */
  stopping(
    role: string,
    what: { readonly tool: string | null; readonly upstream: string | null },
  ): KillSwitch | null {
    const { tenant, session_id } = this.#state();
    return stoppedBy(this.#newest, { tenant, role, session_id, ...what });
  }
}
