/**
 * @module
 * `atlas-gate plan`: what waits for an operator, what it would allow, and the
 * decision. Nobody approves what was not shown to them: the grants come first,
 * then the question, which a script answers with `--yes`.
 *
 * Text that the plan's author wrote is printed as JSON strings, and nothing that a
 * terminal would act on is printed as it is.
 */
import { createInterface } from "node:readline/promises";
import * as z from "zod";
import { type Command, type ExitCode, parseCommandLine, UsageError } from "../command.ts";
import { AdminClient, GATEWAY_FLAGS } from "./gateway.ts";

const OPTIONS = {
  ...GATEWAY_FLAGS,
  "workspace-root": { type: "string" },
  tenant: { type: "string" },
  status: { type: "string" },
  reason: { type: "string" },
  yes: { type: "boolean" },
  json: { type: "boolean" },
} as const;

const HASH = /^[0-9a-f]{64}$/;

const listSchema = z.object({
  plans: z.array(
    z.looseObject({
      plan_hash: z.string(),
      workspace_root: z.string(),
      title: z.string(),
      status: z.string(),
      tenant: z.string(),
    }),
  ),
  next_cursor: z.string().nullable(),
});

const planSchema = z.looseObject({
  plan_hash: z.string(),
  workspace_root: z.string(),
  title: z.string(),
  status: z.string(),
  saved_by: z.string(),
  saved_at: z.string(),
  expires_at: z.string().nullable(),
  approvals: z.array(z.object({ by: z.string(), at: z.string() })),
  approvals_required: z.number(),
  grants: z.array(z.string()),
});

type Plan = z.infer<typeof planSchema>;
type Values = ReturnType<typeof parseCommandLine<typeof OPTIONS>>["values"];

export const planCommand: Command = {
  run: async (args) => {
    const { values, positionals } = parseCommandLine(args, OPTIONS);
    const [action, hash, ...more] = positionals;
    if (more.length > 0) throw new UsageError(`There is one argument too many: ${more[0]}`);
    const gateway = await AdminClient.open(values);
    switch (action) {
      case "list":
        if (hash !== undefined) throw new UsageError("plan list takes no hash");
        return list(gateway, values);
      case "show":
        return shown(await read(gateway, planHash(hash), values), values);
      case "approve":
        return decide(gateway, "approve", planHash(hash), values);
      case "revoke":
        return decide(gateway, "revoke", planHash(hash), values);
      default:
        throw new UsageError("plan takes list, show, approve or revoke");
    }
  },
};

function planHash(hash: string | undefined): string {
  if (hash !== undefined && HASH.test(hash)) return hash;
  throw new UsageError("Which plan? Give its plan_hash, 64 hexadecimal digits.");
}

function rootOf(values: Values): string {
  const root = values["workspace-root"];
  if (root === undefined) throw new UsageError("Which workspace? Give --workspace-root.");
  return root;
}

async function list(gateway: AdminClient, values: Values): Promise<ExitCode> {
  const found: z.infer<typeof listSchema>["plans"] = [];
  let cursor: string | null = null;
  do {
    const query = new URLSearchParams({
      limit: "200",
      ...(cursor === null ? {} : { cursor }),
      ...(values["workspace-root"] === undefined
        ? {}
        : { workspace_root: values["workspace-root"] }),
      ...(values.tenant === undefined ? {} : { tenant: values.tenant }),
      ...(values.status === undefined ? {} : { status: values.status }),
    });
    const page: z.infer<typeof listSchema> = await gateway.get(`/plans?${query}`, listSchema);
    found.push(...page.plans);
    cursor = page.next_cursor;
  } while (cursor !== null);
  if (values.json === true) console.log(JSON.stringify(found));
  else if (found.length === 0) console.log("There is no such plan.");
  for (const plan of values.json === true ? [] : found) {
    const { plan_hash, status, tenant, workspace_root, title } = plan;
    console.log(`${plan_hash}  ${status}  ${tenant}  ${quoted(workspace_root)}  ${quoted(title)}`);
  }
  return 0;
}

async function read(gateway: AdminClient, hash: string, values: Values): Promise<Plan> {
  const query = new URLSearchParams({
    workspace_root: rootOf(values),
    ...(values.tenant === undefined ? {} : { tenant: values.tenant }),
  });
  return gateway.get(`/plans/${hash}?${query}`, planSchema);
}

async function decide(
  gateway: AdminClient,
  decision: "approve" | "revoke",
  hash: string,
  values: Values,
): Promise<ExitCode> {
  const plan = await read(gateway, hash, values);
  // With --json, what is printed last is the answer alone.
  if (values.json !== true) shown(plan, values);
  if (values.yes !== true && !(await confirmed(decision))) {
    console.error("Nothing was decided.");
    return 1;
  }
  const answer = await gateway.post(
    `/plans/${hash}/${decision}`,
    {
      workspace_root: rootOf(values),
      ...(values.tenant === undefined ? {} : { tenant: values.tenant }),
      ...(values.reason === undefined ? {} : { reason: values.reason }),
    },
    planSchema,
  );
  console.log(values.json === true ? JSON.stringify(answer) : `\n${stateOf(answer)}`);
  return 0;
}

async function confirmed(decision: string): Promise<boolean> {
  if (!process.stdin.isTTY) {
    throw new UsageError(`plan ${decision} asks, and nobody is there to answer: give --yes.`);
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question(`\n${decision} this plan? Type yes: `);
    return answer.trim().toLowerCase() === "yes";
  } finally {
    terminal.close();
  }
}

function shown(plan: Plan, { json }: Values): ExitCode {
  if (json === true) {
    console.log(JSON.stringify(plan));
    return 0;
  }
  const lines = [
    `Plan ${plan.plan_hash}`,
    `  title      ${quoted(plan.title)}`,
    `  workspace  ${quoted(plan.workspace_root)}`,
    `  saved      by ${plain(plan.saved_by)} at ${plan.saved_at}`,
    `  ${stateOf(plan)}`,
    "",
    "Approved, it allows:",
    ...plan.grants.map((grant) => `  - ${plain(grant)}`),
  ];
  console.log(lines.join("\n"));
  return 0;
}

function stateOf({ status, approvals, approvals_required, expires_at }: Plan): string {
  const by = approvals.map((approval) => `${plain(approval.by)} at ${approval.at}`).join(", ");
  const missing = approvals_required - approvals.length;
  return [
    `It is ${status}`,
    by === "" ? "" : `, approved by ${by}`,
    status === "proposed" && by !== "" && missing > 0
      ? `; it takes ${missing} more operator${missing === 1 ? "" : "s"}`
      : "",
    status === "approved" && expires_at !== null ? `, until ${expires_at}` : "",
    ".",
  ].join("");
}

function quoted(text: string): string {
  return plain(JSON.stringify(text));
}

/** Control and format characters, and separators of lines, as escapes: a terminal acts on them. */
function plain(text: string): string {
  return text.replaceAll(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`,
  );
}
