/**
 * @module
 * What the conformance suite expects every server to have, whatever its era:
 * tools that answer at once, prompts and resources. Names and texts are the suite's.
 */
/** A red pixel, and silence of no length. */
const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
const WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";

export const text = (value: string) => ({ type: "text" as const, text: value });
const image = { type: "image" as const, data: PNG, mimeType: "image/png" };

export type Content =
  | ReturnType<typeof text>
  | typeof image
  | { type: "audio"; data: string; mimeType: string }
  | { type: "resource"; resource: { uri: string; mimeType: string; text: string } };

export type ContentTool = {
  readonly name: string;
  readonly description: string;
  readonly isError?: true;
  readonly content: Content[];
};

export const CONTENT_TOOLS: readonly ContentTool[] = [
  {
    name: "test_simple_text",
    description: "Answers with text",
    content: [text("This is a simple text response for testing.")],
  },
  { name: "test_image_content", description: "Answers with an image", content: [image] },
  {
    name: "test_audio_content",
    description: "Answers with sound",
    content: [{ type: "audio", data: WAV, mimeType: "audio/wav" }],
  },
  {
    name: "test_embedded_resource",
    description: "Answers with a resource inside",
    content: [
      {
        type: "resource",
        resource: {
          uri: "test://embedded-resource",
          mimeType: "text/plain",
          text: "This is an embedded resource content.",
        },
      },
    ],
  },
  {
    name: "test_multiple_content_types",
    description: "Answers with text, an image and a resource",
    content: [
      text("Multiple content types test:"),
      image,
      {
        type: "resource",
        resource: {
          uri: "test://mixed-content-resource",
          mimeType: "application/json",
          text: '{"test":"data","value":123}',
        },
      },
    ],
  },
  {
    name: "test_error_handling",
    description: "Always fails",
    isError: true,
    content: [text("This tool intentionally returns an error for testing")],
  },
];

/** Keywords that a server, or a gateway that rewrites schemas, is apt to lose. */
export const JSON_SCHEMA_TOOL = {
  name: "json_schema_2020_12_tool",
  description: "Tool with JSON Schema 2020-12 features",
  inputSchema: {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    type: "object" as const,
    $defs: {
      address: {
        $anchor: "addressDef",
        type: "object",
        properties: { street: { type: "string" }, city: { type: "string" } },
      },
    },
    properties: {
      name: { type: "string" },
      address: { $ref: "#/$defs/address" },
      contactMethod: { type: "string", enum: ["phone", "email"] },
      phone: { type: "string" },
      email: { type: "string" },
    },
    allOf: [{ anyOf: [{ required: ["phone"] }, { required: ["email"] }] }],
    if: { properties: { contactMethod: { const: "phone" } }, required: ["contactMethod"] },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
    then: { required: ["phone"] },
    else: { required: ["email"] },
    additionalProperties: false,
  },
};

/** How far a tool has come, out of 100, when it reports; 50 ms lie between. */
export const PROGRESS_STEPS = [0, 50, 100];
export const LOG_MESSAGES = [
  "Tool execution started",
  "Tool processing data",
  "Tool execution completed",
];
export const STEP_MS = 50;

type PromptMessage = { role: "user"; content: Content };

export type Prompt = {
  readonly name: string;
  readonly description: string;
  readonly arguments: readonly string[];
  readonly messages: (args: Readonly<Record<string, string>>) => PromptMessage[];
};

export const user = (content: Content): PromptMessage => ({ role: "user", content });

export const PROMPTS: readonly Prompt[] = [
  {
    name: "test_simple_prompt",
    description: "A prompt without arguments",
    arguments: [],
    messages: () => [user(text("This is a simple prompt for testing."))],
  },
  {
    name: "test_prompt_with_arguments",
    description: "A prompt with two arguments",
    arguments: ["arg1", "arg2"],
    messages: ({ arg1, arg2 }) => [
      user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)),
    ],
  },
  {
    name: "test_prompt_with_embedded_resource",
    description: "A prompt with a resource inside",
    arguments: ["resourceUri"],
    messages: ({ resourceUri = "" }) => [
      user({
        type: "resource",
        resource: {
          uri: resourceUri,
          mimeType: "text/plain",
          text: "Embedded resource content for testing.",
        },
      }),
      user(text("Please process the embedded resource above.")),
    ],
  },
  {
    name: "test_prompt_with_image",
    description: "A prompt with an image",
    arguments: [],
    messages: () => [user(image), user(text("Please analyze the image above."))],
  },
];

/** What is suggested for `arg1` of the prompt with arguments. */
export const COMPLETIONS = ["test-one", "test-two", "text"];

export const completionsOf = (typed: string) =>
  COMPLETIONS.filter((value) => value.startsWith(typed));

export type Resource = {
  readonly uri: string;
  readonly name: string;
  readonly description: string;
  readonly mimeType: string;
  readonly body: { readonly text: string } | { readonly blob: string };
};

export const WATCHED_URI = "test://watched-resource";

export const RESOURCES: readonly Resource[] = [
  {
    uri: "test://static-text",
    name: "static-text",
    description: "A text that never changes",
    mimeType: "text/plain",
    body: { text: "This is the content of the static text resource." },
  },
  {
    uri: "test://static-binary",
    name: "static-binary",
    description: "An image that never changes",
    mimeType: "image/png",
    body: { blob: PNG },
  },
  {
    uri: WATCHED_URI,
    name: "watched-resource",
    description: "A text that may be watched",
    mimeType: "text/plain",
    body: { text: "Watched." },
  },
];

export const TEMPLATE = {
  uriTemplate: "test://template/{id}/data",
  name: "template",
  description: "Data by id",
  mimeType: "application/json",
};

const TEMPLATE_URI = /^test:\/\/template\/([^/]+)\/data$/;

/** The contents of a resource, listed or of the template; null for one that does not exist. */
export function readResource(uri: string) {
  const listed = RESOURCES.find((resource) => resource.uri === uri);
  if (listed !== undefined) return { uri, mimeType: listed.mimeType, ...listed.body };
  const id = TEMPLATE_URI.exec(uri)?.[1];
  if (id === undefined) return null;
  const data = { id, templateTest: true, data: `Data for ID: ${id}` };
  return { uri, mimeType: TEMPLATE.mimeType, text: JSON.stringify(data) };
}

/** A schema of string properties, all of them required. */
export function stringsSchema(names: readonly string[]) {
  const properties: Record<string, { type: "string" }> = {};
  for (const name of names) properties[name] = { type: "string" };
  return { type: "object" as const, properties, required: [...names] };
}
