/**
 * @module
 * Words that make a plan impossible to hold someone to.
 */

/** Whole texts that say nothing. Compared in lower case, without punctuation around them. */
const PLACEHOLDERS: ReadonlySet<string> = new Set([
  "tbd",
  "tba",
  "tbc",
  "todo",
  "to do",
  "to be done",
  "to be decided",
  "to be determined",
  "to be defined",
  "to be confirmed",
  "wip",
  "fixme",
  "fix",
  "fix it",
  "fix this",
  "fix later",
  "fix the bug",
  "do it",
  "do the work",
  "do stuff",
  "make it work",
  "n/a",
  "na",
  "not applicable",
  "not needed",
  "not required",
  "none",
  "nil",
  "null",
  "undefined",
  "nothing",
  "done",
  "later",
  "asap",
  "unknown",
  "whatever",
  "anything",
  "something",
  "stuff",
  "misc",
  "various",
  "etc",
  "same",
  "as above",
  "see above",
  "placeholder",
  "xxx",
  "lorem ipsum",
  "test it",
  "check it",
  "verify it",
  "it works",
  "looks good",
  "undo it",
]);

/** What leaves it to the reader what is meant. "/etc" and "etc-" are names, not words. */
const AMBIGUOUS =
  /(?<![\w/.-])(?:maybe|perhaps|possibly|probably|hopefully|somehow|might|etc|and so (?:on|forth)|as needed|(?:if|when|where) (?:needed|necessary|possible|appropriate|applicable)|as (?:necessary|appropriate|required)|should probably|various|some kind of|some sort of|something like|or similar|or so|more or less|stuff|tbd|todo)(?![\w/-])/giu;

/** Whether the text, as a whole, is a word that stands for "nothing was decided". */
export function isPlaceholder(text: string): boolean {
  const words = text
    .normalize("NFKC")
    .toLowerCase()
    .replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "")
    .replace(/\s+/g, " ");
  return words === "" || PLACEHOLDERS.has(words);
}

/** Ambiguous words in the text, in lower case, each once. */
export function ambiguousWords(text: string): string[] {
  return [...new Set(Array.from(text.matchAll(AMBIGUOUS), ([word]) => word.toLowerCase()))];
}
