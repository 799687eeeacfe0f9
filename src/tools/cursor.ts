/**
 * @module
 * Opaque cursors: base64url of the place to go on after.
 */
import { allow, type Decision, refuse } from "../policy/errors.ts";

export function encodeCursor(place: string): string {
  return Buffer.from(place, "utf8").toString("base64url");
}

/** The place of a cursor; no cursor is the beginning. A cursor that was not given out is refused. */
export function decodeCursor(cursor: string | undefined): Decision<string> {
  if (cursor === undefined) return allow("");
  const place = Buffer.from(cursor, "base64url").toString("utf8");
  return place !== "" && encodeCursor(place) === cursor
    ? allow(place)
    : refuse("INVALID_ARGUMENT", "cursor: must be a next_cursor of an earlier answer.");
}
