/**
 * @module
 * Ids of tasks (extension `io.modelcontextprotocol/tasks`) as clients see them:
 * the upstream's own, sealed together with where it came from, for the one
 * principal that began the task. A guessed, borrowed or changed id is none.
 */
import * as z from "zod";
import { openText, sealText } from "../crypto/aead.ts";

const PURPOSE = "task-id";

const taskSchema = z.object({
  upstream: z.string(),
  /** The upstream's own id. */
  id: z.string(),
  /** The tool whose call became the task, as clients see it. */
  tool: z.string().nullable(),
  /** The plan that the call was made under. */
  plan: z.object({ workspace_root: z.string(), plan_hash: z.string() }).nullable(),
});
export type BoundTask = z.infer<typeof taskSchema>;

type Owner = { readonly tenant: string; readonly principal: string };

export function sealTaskId(secretsKey: Uint8Array, owner: Owner, task: BoundTask): string {
  return sealText(secretsKey, PURPOSE, JSON.stringify(task), placeOf(owner));
}

/** The task behind an id, or null for what was not given to this owner. */
export function openTaskId(secretsKey: Uint8Array, owner: Owner, sealed: string): BoundTask | null {
  try {
    return taskSchema.parse(JSON.parse(openText(secretsKey, PURPOSE, sealed, placeOf(owner))));
  } catch {
    // Whatever a client sends that is no id of its own.
    return null;
  }
}

function placeOf({ tenant, principal }: Owner): string {
  return `${tenant}\n${principal}`;
}
