/**
 * @module
 * A session's records as a test reads them, once the chain was checked twice:
 * by the tests' own code and by the gateway's verifier.
 */
import { type ExportedRecord, exportLines, problemsOf, readLine } from "./chain.ts";
import { at } from "./http.ts";
import type { Operator } from "./operator.ts";

/** Every record of a session whose chain holds; throws when it does not. */
export async function soundRecords(
  operator: Operator,
  sessionId: string,
  tenant = "default",
): Promise<ExportedRecord[]> {
  const text = await operator.export(sessionId);
  const problems = problemsOf(text, { tenant, id: sessionId });
  if (problems.length > 0) throw new Error(problems.join("; "));
  const report = await operator.ok("GET", `/audit/sessions/${sessionId}/verify`);
  if (at(report, "verdicts.integrity.ok") !== true) throw new Error(JSON.stringify(report));
  return exportLines(text).map(readLine);
}

/** `event result error_code` of records, without those that open and bind. */
export function story(records: readonly ExportedRecord[]): string[] {
  return records
    .filter(({ event }) => !String(event).startsWith("session_"))
    .map(({ event, result, error_code, tool }) => {
      const what = event === "client_request" ? `${event}(${tool})` : String(event);
      return [what, result, ...(error_code === null ? [] : [error_code])].join(" ");
    });
}
