/**
 * @module
 * Canonical JSON (RFC 8785): one text for one value, so that a hash of the text
 * is a hash of the value.
 */
import canonicalize from "canonicalize";

/**
 * The RFC 8785 form of a JSON value. An own `__proto__` key is a key like any other.
 *
 * @throws TypeError for what has no canonical form: undefined, functions and
 * symbols at any depth, NaN and infinities, bigints, lone surrogates, cycles.
 */
export function canonicalJson(value: unknown): string {
  let text: string | undefined;
  try {
    text = canonicalize(value);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : "cannot be written";
    throw new TypeError(`No canonical JSON form: ${reason}`, { cause });
  }
  if (text === undefined) throw new TypeError(`No canonical JSON form: ${typeof value}`);
  if (typeof value === "object") refuseOmissions(value);
  return text;
}

/**
 * `canonicalize` leaves out a member that JSON cannot hold, as JSON.stringify
 * does. Two different values would then share one hash, so it is refused here.
 * Without recursion: a deep value must not end in a stack overflow. It runs
 * after `canonicalize`, which has refused cycles.
 */
function refuseOmissions(root: unknown): void {
  const pending: unknown[] = [root];
  while (pending.length > 0) {
    const value = pending.pop();
    if (typeof value === "object" && value !== null) {
      // An index, not `Object.values`: it also meets the holes of a sparse array.
      if (Array.isArray(value)) for (let i = 0; i < value.length; i++) pending.push(value[i]);
      else for (const member of Object.values(value)) pending.push(member);
    } else if (value === undefined || typeof value === "function" || typeof value === "symbol") {
      throw new TypeError(`No canonical JSON form: ${typeof value} inside a value`);
    }
  }
}
