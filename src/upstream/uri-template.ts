/**
 * @module
 * Whether a URI is one that a URI template (RFC 6570) stands for. It only says
 * whose resource a URI may be, so an expression takes any characters; `{x}`
 * takes none that RFC 6570 would have escaped there.
 */

const EXPRESSION = /\{([^{}]*)\}/g;
/** Longer ones are nobody's: matching takes time in proportion to both. */
const MAX_EXPRESSIONS = 64;
const MAX_URI_CHARS = 8_192;

export function matchesTemplate(template: string, uri: string): boolean {
  const parts = template.split(EXPRESSION);
  if (parts.length > 2 * MAX_EXPRESSIONS || uri.length > MAX_URI_CHARS) return false;
  // Where in the URI the parts so far may end. Every second part is an expression.
  let ends = new Set([0]);
  for (const [at, part] of parts.entries()) {
    ends = at % 2 === 0 ? afterLiteral(uri, ends, part) : afterExpression(uri, ends, part);
    if (ends.size === 0) return false;
  }
  return ends.has(uri.length);
}

function afterLiteral(uri: string, starts: ReadonlySet<number>, literal: string): Set<number> {
  const ends = new Set<number>();
  for (const start of starts) {
    if (uri.startsWith(literal, start)) ends.add(start + literal.length);
  }
  return ends;
}

function afterExpression(
  uri: string,
  starts: ReadonlySet<number>,
  expression: string,
): Set<number> {
  // An operator such as + or / brings its own separators with it (RFC 6570, section 3.2).
  const isSimple = /^[A-Za-z0-9_%]/.test(expression);
  const ends = new Set<number>();
  let isOpen = false;
  for (let at = 0; at <= uri.length; at++) {
    if (isSimple && at > 0 && /[/?#]/.test(uri.charAt(at - 1))) isOpen = false;
    if (starts.has(at)) isOpen = true;
    if (isOpen) ends.add(at);
  }
  return ends;
}
