/**
 * @module
 * All that a request to `/mcp` passes before it is dealt with, and all that is noted of it
 * afterwards, in one place: what the gateway would do without.
 */
import { freshSwitches, switchesOf } from "../ops/kill-switches.ts";
import { observeRequest } from "../ops/observe-request.ts";
import { admit, stillAdmitted } from "./admission.ts";
import { guardRequest } from "./guard.ts";

export type Door = {
  readonly guard: typeof guardRequest;
  readonly admit: typeof admit;
  readonly stillAdmitted: typeof stillAdmitted;
  readonly switches: typeof switchesOf;
  readonly freshSwitches: typeof freshSwitches;
  readonly observe: typeof observeRequest;
};

/** The one that stands in every deployment. */
export const DOOR: Door = {
  guard: guardRequest,
  admit,
  stillAdmitted,
  switches: switchesOf,
  freshSwitches,
  observe: observeRequest,
};
