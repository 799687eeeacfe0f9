/**
 * @module
 * The gateway's own lines in what it and its tooling print.
 */

export type LogLine = { readonly text: string; readonly fields: Readonly<Record<string, unknown>> };

/** Every line that is, or means to be, one of the gateway's; throws for one that does not parse. */
export function logLines(output: string): LogLine[] {
  return output
    .split("\n")
    .filter((text) => text.startsWith("{"))
    .map((text) => ({ text, fields: JSON.parse(text) }));
}

/** The lines of one request. */
export function linesOf(output: string, requestId: unknown): LogLine[] {
  return logLines(output).filter(
    ({ fields }) => fields.event === "request" && fields.request_id === requestId,
  );
}

/** Events by which the gateway says that it failed. */
export function failuresIn(output: string): string[] {
  return logLines(output).flatMap(({ text, fields }) =>
    fields.level === "error" || fields.level === "alarm" ? [text] : [],
  );
}
