/**
 * @module
 * JSON in ASCII, for what goes to an object with an upgrade, which has headers
 * and no body, and for lines of the log. Names may be of any script.
 */

/** The JSON text of a value, in ASCII. */
export function headerJson(value: object): string {
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
