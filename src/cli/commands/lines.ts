/**
 * @module
 * Lines of NDJSON from a stream of text. Only a line feed ends one: Node's
 * readline would also split at U+2028, which JSON text may hold.
 */

/** The lines without their ends. Throws when the text ends in the middle of one. */
export async function* linesIn(chunks: AsyncIterable<string>): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of chunks) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
  if (rest !== "") throw new Error("The text breaks off in the middle of a line.");
}
