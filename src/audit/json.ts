/**
 * @module
 * JSON values as types, and a copy that can change them on the way.
 */

export type JsonValue = string | number | boolean | null | JsonValue[] | JsonObject;
export type JsonObject = { [key: string]: JsonValue };

/** Whether a JSON value is an object, not an array or null. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What becomes of the parts of a value when it is copied. */
export type CopyRules = {
  /** Of each string, keys included. */
  text(text: string): string;
  /** Of each key, where it differs from `text`. */
  key?(key: string): string;
  /** Of each number; it stays as it is without this rule. */
  number?(value: number): number;
  /** In place of an object's member; undefined copies the member. `parent` is of the source. */
  member?(key: string, value: JsonValue, parent: JsonObject): JsonValue | undefined;
};

/**
 * A deep copy under `rules`; the source is not touched. Keys that become equal
 * leave the last one's value.
 *
 * It keeps a stack of its own, because arguments come from outside and nesting
 * of 100,000 levels fits in a body that is accepted. Objects have no prototype,
 * so that an own `__proto__` key is copied as a key.
 */
export function copyJson(root: JsonValue, rules: CopyRules): JsonValue {
  const pending: (() => void)[] = [];

  const convert = (value: JsonValue): JsonValue => {
    if (typeof value === "string") return rules.text(value);
    if (typeof value === "number") return rules.number === undefined ? value : rules.number(value);
    if (typeof value !== "object" || value === null) return value;
    if (Array.isArray(value)) {
      const target: JsonValue[] = [];
      pending.push(() => {
        for (const item of value) target.push(convert(item));
      });
      return target;
    }
    const target: JsonObject = Object.create(null);
    pending.push(() => {
      for (const [key, item] of Object.entries(value)) {
        const replaced = rules.member?.(key, item, value);
        target[rules.key === undefined ? rules.text(key) : rules.key(key)] =
          replaced === undefined ? convert(item) : replaced;
      }
    });
    return target;
  };

  const copy = convert(root);
  for (let fill = pending.pop(); fill !== undefined; fill = pending.pop()) fill();
  return copy;
}

/** Rules that only replace lone surrogates by U+FFFD, so that the copy has a canonical form. */
export const WELL_FORMED: CopyRules = { text: (text) => text.toWellFormed() };
