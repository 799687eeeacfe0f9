/**
 * @module
 * Which of a JSON text's numbers a double keeps.
 */

const ZERO = 0x30;

/**
 * True when reading a JSON number into a double loses nothing: what is written
 * is, as a decimal, the shortest form of that double (what JavaScript, Python
 * and every other shortest-form printer writes, in any spelling: `1e2`,
 * `100.0`), or it is an integer that the double holds exactly (Python writes
 * 2 ** 70 in full). False for 9007199254740993, 0.10000000000000001, 1e400 and
 * 1e-400.
 */
export function keepsItsValue(literal: string): boolean {
  const double = Number(literal);
  // What is not a number at all is not this function's to refuse.
  if (String(double) === literal || Number.isNaN(double)) return true;
  const written = decimal(literal);
  if (written.digits === "") return true;
  if (double === 0 || !Number.isFinite(double)) return false;
  const shortest = decimal(String(double));
  if (written.digits === shortest.digits && written.exponent === shortest.exponent) return true;
  if (written.exponent < 0) return false;
  return BigInt(written.digits) * 10n ** BigInt(written.exponent) === BigInt(Math.abs(double));
}

/** The magnitude of a number literal as `digits` times ten to the `exponent`, without outer zeros; zero has no digits. */
function decimal(literal: string): { digits: string; exponent: number } {
  const [mantissa = "", power = "0"] = literal.toLowerCase().split("e");
  const [whole = "", fraction = ""] = mantissa.replace("-", "").split(".");
  const all = whole + fraction;
  let start = 0;
  while (start < all.length && all.charCodeAt(start) === ZERO) start++;
  let end = all.length;
  while (end > start && all.charCodeAt(end - 1) === ZERO) end--;
  const exponent = Number(power) - fraction.length + (all.length - end);
  return { digits: all.slice(start, end), exponent };
}
