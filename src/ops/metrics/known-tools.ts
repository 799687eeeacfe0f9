/**
 * @module
 * The names that the label `tool` may have: those of tools that there are.
 */
import { builtInToolNames } from "../../tools/index.ts";
import { directoryOf } from "../../upstream/directory.ts";
import { logEvent } from "../log.ts";

/** Built-in tools, and those that an operator has approved of any upstream. While upstreams cannot be read, theirs count as others. */
export async function knownTools(env: Env): Promise<string[]> {
  try {
    const directory = await directoryOf(env);
    const exposed = directory
      .entries()
      .flatMap(({ definitions }) =>
        definitions.filter(({ kind }) => kind === "tool").map((definition) => definition.exposed),
      );
    return [...builtInToolNames(), ...exposed];
  } catch (error) {
    logEvent("warn", "directory_unreadable", { error: String(error) });
    return [...builtInToolNames()];
  }
}
