/**
 * @module
 * Results that are, or tell of, a task of the extension: the members of them that
 * are the gateway's own.
 */
import type { JsonObject } from "../../mcp/ijson.ts";
import { covers } from "../capabilities.ts";
import { sealTaskId } from "../task-id.ts";
import type { Job } from "./job.ts";
import { labelledAll, questionsOf } from "./questions.ts";

/**
 * What is the gateway's own in a result that is, or tells of, a task: its id,
 * and the labels of what it asks. Null when it asks what it may not.
 */
export function taskMembers(job: Job, result: JsonObject): JsonObject | null {
  const { route, runtime, host, workspace_root, plan_hash } = job;
  const isTask = route.kind === "task" || (route.kind === "tool" && result.resultType === "task");
  if (!isTask || typeof result.taskId !== "string") return {};
  const { tenant, principal } = runtime.state();
  const upstream = route.entry.config.name;
  const planned =
    workspace_root === null || plan_hash === null ? null : { workspace_root, plan_hash };
  const plan = route.startedUnder === undefined ? planned : route.startedUnder;
  const task = { upstream, id: result.taskId, tool: route.label, plan };
  // The id that the client gave is the one it goes on with; sealing it again would make another.
  const given = route.params.taskId === result.taskId ? job.request.params?.taskId : undefined;
  const replaced: JsonObject = {
    taskId: given ?? sealTaskId(host.secretsKey, { tenant, principal }, task),
  };
  if (result.inputRequests === undefined) return replaced;
  const questions = questionsOf(result);
  const mayAsk = [...(questions?.values() ?? [])].every((question) =>
    covers(job.declared, question),
  );
  return questions === null || !mayAsk
    ? null
    : { ...replaced, inputRequests: labelledAll(questions, upstream) };
}
