/**
 * @module
 * The tools that a key is narrowed to: globs of the names that clients see.
 */
import { compileGlobs } from "./glob.ts";
import { parseGlob } from "./glob-syntax.ts";

/** Lists that an isolate keeps compiled. */
const MAX_COMPILED = 1_000;

const compiled = new Map<string, (name: string) => boolean>();

/** Whether a text is a glob that a key may have. */
export function isToolGlob(text: string): boolean {
  return parseGlob(text).ok;
}

/** Whether a tool is among those; without a list, every one is. */
export function mayUseTool(globs: readonly string[] | undefined, name: string): boolean {
  if (globs === undefined) return true;
  // No glob holds a line feed.
  const key = globs.join("\n");
  let matches = compiled.get(key);
  if (matches === undefined) {
    matches = compileGlobs(globs);
    const oldest = compiled.keys().next();
    if (compiled.size >= MAX_COMPILED && !oldest.done) compiled.delete(oldest.value);
    compiled.set(key, matches);
  }
  return matches(name);
}
