/**
 * @module
 * Tools and prompts that ask the client for something before they answer. Each
 * is a list of rounds: a 2025 server asks by server-to-client requests, a 2026
 * server by `input_required` results; what is asked, and the answer, are the same.
 */
import type { ElicitRequestFormParams } from "@modelcontextprotocol/server";
import { stringsSchema } from "./catalogue.ts";

export type Ask =
  | {
      readonly method: "elicitation/create";
      readonly params: { mode: "form"; message: string; requestedSchema: FormSchema };
    }
  | {
      readonly method: "sampling/createMessage";
      readonly params: {
        messages: { role: "user"; content: { type: "text"; text: string } }[];
        maxTokens: number;
      };
    }
  | { readonly method: "roots/list"; readonly params: Record<string, never> };

type FormSchema = ElicitRequestFormParams["requestedSchema"];

/** The client capability that each kind of asking needs. */
export const CAPABILITY_OF = {
  "elicitation/create": "elicitation",
  "sampling/createMessage": "sampling",
  "roots/list": "roots",
} as const;

export type Round = Readonly<Record<string, Ask>>;

/** Answers by the key that they were asked under. */
export type Answers = Readonly<Record<string, unknown>>;

export type Interactive = {
  readonly name: string;
  readonly description: string;
  readonly arguments: readonly string[];
  /** Whether the 2026 form carries a `requestState`; several rounds always do. */
  readonly sealed: boolean;
  /** Whether it leaves out what the client did not declare, instead of failing. */
  readonly adapts?: true;
  readonly rounds: (args: Readonly<Record<string, unknown>>) => readonly Round[];
  readonly answer: (answers: Answers) => string;
};

export const form = (message: string, schema: FormSchema): Ask => ({
  method: "elicitation/create",
  params: { mode: "form", message, requestedSchema: schema },
});
const sample = (prompt: string, maxTokens = 100): Ask => ({
  method: "sampling/createMessage",
  params: { messages: [{ role: "user", content: { type: "text", text: prompt } }], maxTokens },
});
const ROOTS: Ask = { method: "roots/list", params: {} };
export const NAME = stringsSchema(["name"]);
const CONFIRM = form("Please confirm", {
  type: "object",
  properties: { ok: { type: "boolean" } },
  required: ["ok"],
});

const answered = (answers: Answers) => JSON.stringify(answers);

const DEFAULTS_SCHEMA: FormSchema = {
  type: "object",
  properties: {
    name: { type: "string", default: "John Doe" },
    age: { type: "integer", default: 30 },
    score: { type: "number", default: 95.5 },
    status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
    verified: { type: "boolean", default: true },
  },
};

const titled = (prefix: string) =>
  ["First", "Second", "Third"].map((title, index) => ({
    const: `value${index + 1}`,
    title: `${title} ${prefix}`,
  }));
const OPTIONS = ["option1", "option2", "option3"];

const ENUMS_SCHEMA: FormSchema = {
  type: "object",
  properties: {
    untitledSingle: { type: "string", enum: OPTIONS },
    titledSingle: { type: "string", oneOf: titled("Option") },
    legacyEnum: {
      type: "string",
      enum: ["opt1", "opt2", "opt3"],
      enumNames: ["Option One", "Option Two", "Option Three"],
    },
    untitledMulti: { type: "array", items: { type: "string", enum: OPTIONS } },
    titledMulti: { type: "array", items: { anyOf: titled("Choice") } },
  },
};

export const INTERACTIVE_TOOLS: readonly Interactive[] = [
  {
    name: "test_sampling",
    description: "Asks the client's model",
    arguments: ["prompt"],
    sealed: false,
    rounds: ({ prompt }) => [{ completion: sample(String(prompt)) }],
    answer: (answers) => `LLM response: ${answered(answers)}`,
  },
  {
    name: "test_elicitation",
    description: "Asks the client's user",
    arguments: ["message"],
    sealed: false,
    rounds: ({ message }) => [
      { response: form(String(message), stringsSchema(["username", "email"])) },
    ],
    answer: (answers) => `User response: ${answered(answers)}`,
  },
  {
    name: "test_elicitation_sep1034_defaults",
    description: "Asks with a default for every primitive type",
    arguments: [],
    sealed: false,
    rounds: () => [{ response: form("Please review the values", DEFAULTS_SCHEMA) }],
    answer: (answers) => `Elicitation completed: ${answered(answers)}`,
  },
  {
    name: "test_elicitation_sep1330_enums",
    description: "Asks with every form of enumeration",
    arguments: [],
    sealed: false,
    rounds: () => [{ response: form("Please choose", ENUMS_SCHEMA) }],
    answer: (answers) => `Elicitation completed: ${answered(answers)}`,
  },
  {
    name: "test_input_required_result_elicitation",
    description: "Asks for a name",
    arguments: [],
    sealed: false,
    rounds: () => [{ user_name: form("What is your name?", NAME) }],
    answer: (answers) => `Hello, ${answered(answers)}!`,
  },
  {
    name: "test_input_required_result_sampling",
    description: "Asks the client's model for a capital",
    arguments: [],
    sealed: false,
    rounds: () => [{ capital_question: sample("What is the capital of France?") }],
    answer: answered,
  },
  {
    name: "test_input_required_result_list_roots",
    description: "Asks for the client's roots",
    arguments: [],
    sealed: false,
    rounds: () => [{ client_roots: ROOTS }],
    answer: answered,
  },
  {
    name: "test_input_required_result_request_state",
    description: "Asks for a confirmation, with state",
    arguments: [],
    sealed: true,
    rounds: () => [{ confirm: CONFIRM }],
    answer: () => "state-ok",
  },
  {
    name: "test_input_required_result_tampered_state",
    description: "Asks for a confirmation, with state that must not be changed",
    arguments: [],
    sealed: true,
    rounds: () => [{ confirm: CONFIRM }],
    answer: () => "state-ok",
  },
  {
    name: "test_input_required_result_multiple_inputs",
    description: "Asks for three things at once",
    arguments: [],
    sealed: true,
    rounds: () => [
      {
        user_name: form("What is your name?", NAME),
        greeting: sample("Generate a greeting", 50),
        client_roots: ROOTS,
      },
    ],
    answer: answered,
  },
  {
    name: "test_input_required_result_multi_round",
    description: "Asks twice",
    arguments: [],
    sealed: true,
    rounds: () => [
      { step1: form("Step 1: What is your name?", NAME) },
      { step2: form("Step 2: What is your favorite color?", stringsSchema(["color"])) },
    ],
    answer: answered,
  },
  {
    name: "test_input_required_result_capabilities",
    description: "Asks only for what the client declared",
    arguments: [],
    sealed: false,
    adapts: true,
    rounds: () => [
      {
        user_name: form("What is your name?", NAME),
        greeting: sample("Generate a greeting", 50),
      },
    ],
    answer: answered,
  },
  {
    name: "test_streaming_elicitation",
    description: "Asks while its response is open",
    arguments: [],
    sealed: false,
    rounds: () => [{ user_name: form("What is your name?", NAME) }],
    answer: answered,
  },
  {
    name: "test_missing_capability",
    description: "Needs a client that can sample",
    arguments: [],
    sealed: false,
    rounds: () => [{ completion: sample("Anything") }],
    answer: answered,
  },
];

export const INTERACTIVE_PROMPT: Interactive = {
  name: "test_input_required_result_prompt",
  description: "A prompt that asks for its context",
  arguments: [],
  sealed: false,
  rounds: () => [
    { user_context: form("What context should the prompt use?", stringsSchema(["context"])) },
  ],
  answer: (answers) => `The context is ${answered(answers)}`,
};

/** What is asked of a client that declared these capabilities. */
export function roundsFor(
  tool: Interactive,
  args: Readonly<Record<string, unknown>>,
  capabilities: object,
): readonly Round[] {
  const rounds = tool.rounds(args);
  if (tool.adapts !== true) return rounds;
  return rounds.map((round) =>
    Object.fromEntries(
      Object.entries(round).filter(([, { method }]) => CAPABILITY_OF[method] in capabilities),
    ),
  );
}
