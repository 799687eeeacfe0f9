/**
 * @module
 * The tasks extension of the 2026 era (`io.modelcontextprotocol/tasks`), which
 * the SDK does not speak: it stands before the SDK's handler and takes the
 * requests that are about tasks. What a task will have come to is reckoned from
 * the clock when it is asked for, so that nothing runs in between.
 */
import { randomUUID } from "node:crypto";
import * as z from "zod";
import { type Content, text } from "./catalogue.ts";
import { type Answers, form, NAME, type Round } from "./interactive.ts";

export const TASKS_EXTENSION = "io.modelcontextprotocol/tasks";
const CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities";
const TASK_LIFE_MS = 300_000;
const POLL_MS = 100;

const HEADER_MISMATCH = -32020;
const MISSING_CAPABILITY = -32021;
const INVALID_PARAMS = -32602;
const INTERNAL_ERROR = -32603;

type Args = Readonly<Record<string, unknown>>;
type Ended =
  | { readonly result: { content: Content[]; isError?: true } }
  | { readonly error: { code: number; message: string } };

export type TaskTool = {
  readonly name: string;
  readonly description: string;
  readonly properties: Record<string, { type: "string" | "number" }>;
  /** Refuses a client that cannot have a task. */
  readonly required?: true;
  /** What it asks by `input_required` before there is a task, and what the task itself asks. */
  readonly before?: Round;
  readonly during?: Round;
  readonly seconds: (args: Args) => number;
  readonly end: (args: Args, answers: Answers) => Ended;
};

const said = (value: string): Ended => ({ result: { content: [text(value)] } });
const CONFIRM = form("Delete it?", {
  type: "object",
  properties: { confirm: { type: "boolean" } },
});
const at0 = () => 0;

export const TASK_TOOLS: readonly TaskTool[] = [
  {
    name: "slow_compute",
    description: "Takes as long as it is told",
    properties: { seconds: { type: "number" }, label: { type: "string" } },
    seconds: ({ seconds }) => Number(seconds ?? 0),
    end: ({ label }) => said(`Computed ${label}.`),
  },
  {
    name: "failing_job",
    description: "A job that fails",
    properties: {},
    required: true,
    seconds: at0,
    end: () => ({ result: { content: [text("The job failed.")], isError: true } }),
  },
  {
    name: "protocol_error_job",
    description: "A job that ends with a protocol error",
    properties: {},
    required: true,
    seconds: at0,
    end: () => ({ error: { code: INTERNAL_ERROR, message: "The job broke." } }),
  },
  {
    name: "confirm_delete",
    description: "A job that asks first",
    properties: { filename: { type: "string" } },
    required: true,
    during: { confirmation: CONFIRM },
    seconds: at0,
    end: ({ filename }, answers) => said(`${filename}: ${JSON.stringify(answers)}`),
  },
  {
    name: "multi_input",
    description: "A job that asks for two things",
    properties: {},
    required: true,
    during: { first: form("First name?", NAME), second: form("Second name?", NAME) },
    seconds: at0,
    end: (_args, answers) => said(JSON.stringify(answers)),
  },
  {
    name: "test_tool_with_task",
    description: "Asks first, and then becomes a task",
    properties: {},
    required: true,
    before: { user_name: form("What is your name?", NAME) },
    seconds: at0,
    end: (_args, answers) => said(`Hello, ${JSON.stringify(answers)}!`),
  },
];

type Task = {
  readonly id: string;
  readonly createdAt: number;
  readonly readyAt: number;
  readonly pending: Map<string, Round[string]>;
  readonly ended: () => Ended;
  readonly answers: Record<string, unknown>;
  lastUpdatedAt: number;
  cancelled: boolean;
};

const requestSchema = z.object({
  id: z.union([z.string(), z.number()]),
  method: z.string(),
  params: z.object({
    name: z.string().optional(),
    arguments: z.record(z.string(), z.unknown()).optional(),
    taskId: z.string().optional(),
    inputResponses: z.record(z.string(), z.unknown()).nullish(),
    _meta: z.object({
      [CAPABILITIES_KEY]: z
        .object({ extensions: z.record(z.string(), z.unknown()).optional() })
        .optional(),
    }),
  }),
});
type TaskRequest = z.infer<typeof requestSchema>;

const TASK_METHODS = new Set(["tasks/get", "tasks/update", "tasks/cancel"]);

export class Tasks {
  readonly #tasks = new Map<string, Task>();

  /** The answer to a request that is about tasks; null for every other, whose body stays unread. */
  async answer(request: Request): Promise<Response | null> {
    if (request.method !== "POST") return null;
    const parsed = requestSchema.safeParse(parsedOrNull(await request.clone().text()));
    if (!parsed.success) return null;
    const { id, method, params } = parsed.data;
    const tool =
      method === "tools/call" ? TASK_TOOLS.find(({ name }) => name === params.name) : undefined;
    if (tool === undefined && !TASK_METHODS.has(method)) return null;
    const named = tool?.name ?? params.taskId;
    if (request.headers.get("mcp-method") !== method || request.headers.get("mcp-name") !== named) {
      return failure(id, 400, HEADER_MISMATCH, "The headers do not say what the body says.");
    }
    const declared = TASKS_EXTENSION in (params._meta[CAPABILITIES_KEY]?.extensions ?? {});
    if (!declared) {
      // The rest of the call's life is the SDK's: a plain tool, without a task.
      if (tool !== undefined && tool.required !== true) return null;
      const requiredCapabilities = { extensions: { [TASKS_EXTENSION]: {} } };
      return failure(id, 400, MISSING_CAPABILITY, "This needs tasks.", { requiredCapabilities });
    }
    return tool === undefined ? this.#manage(parsed.data) : this.#call(tool, parsed.data);
  }

  #call(tool: TaskTool, { id, params }: TaskRequest): Response | null {
    const args = params.arguments ?? {};
    const answers = params.inputResponses ?? {};
    const asked = Object.keys(tool.before ?? {});
    if (asked.some((key) => !(key in answers))) {
      return success(id, { resultType: "input_required", inputRequests: tool.before });
    }
    const seconds = tool.seconds(args);
    if (seconds === 0 && tool.required !== true) return null;
    const now = Date.now();
    const task: Task = {
      id: randomUUID(),
      createdAt: now,
      readyAt: now + seconds * 1000,
      pending: new Map(Object.entries(tool.during ?? {})),
      answers: { ...answers },
      ended: () => tool.end(args, task.answers),
      lastUpdatedAt: now,
      cancelled: false,
    };
    this.#tasks.set(task.id, task);
    return success(id, { ...stateOf(task, now), resultType: "task" });
  }

  #manage({ id, method, params }: TaskRequest): Response {
    const task = this.#tasks.get(params.taskId ?? "");
    if (task === undefined) return failure(id, 400, INVALID_PARAMS, "There is no such task.");
    const now = Date.now();
    switch (method) {
      case "tasks/get":
        return success(id, { ...detailsOf(task, now), resultType: "complete" });
      case "tasks/update":
        for (const [key, answer] of Object.entries(params.inputResponses ?? {})) {
          if (!task.pending.delete(key)) continue;
          task.answers[key] = answer;
          task.lastUpdatedAt = now;
        }
        break;
      default:
        if (isOver(statusOf(task, now))) break;
        task.cancelled = true;
        task.lastUpdatedAt = now;
    }
    return success(id, { resultType: "complete" });
  }
}

/** What is no JSON is for the SDK to refuse. */
function parsedOrNull(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

type Status = "working" | "input_required" | "completed" | "failed" | "cancelled";

const isOver = (status: Status) => status !== "working" && status !== "input_required";

function statusOf(task: Task, now: number): Status {
  if (task.cancelled) return "cancelled";
  if (task.pending.size > 0) return "input_required";
  if (now < task.readyAt) return "working";
  return "error" in task.ended() ? "failed" : "completed";
}

function stateOf(task: Task, now: number) {
  return {
    taskId: task.id,
    status: statusOf(task, now),
    createdAt: new Date(task.createdAt).toISOString(),
    lastUpdatedAt: new Date(task.lastUpdatedAt).toISOString(),
    ttlMs: TASK_LIFE_MS,
    pollIntervalMs: POLL_MS,
  };
}

function detailsOf(task: Task, now: number) {
  const state = stateOf(task, now);
  switch (state.status) {
    case "input_required":
      return { ...state, inputRequests: Object.fromEntries(task.pending) };
    case "completed":
    case "failed":
      return { ...state, ...task.ended() };
    default:
      return state;
  }
}

function success(id: string | number, result: object): Response {
  return Response.json({ jsonrpc: "2.0", id, result });
}

function failure(
  id: string | number,
  status: number,
  code: number,
  message: string,
  data?: object,
): Response {
  return Response.json({ jsonrpc: "2.0", id, error: { code, message, data } }, { status });
}
