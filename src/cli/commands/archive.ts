/**
 * @module
 * `atlas-gate archive`: the relational archive moved, rebuilt, exported and
 * restored. The work is the gateway's, in steps; what is here asks for the next
 * one, says how far it is, and may be stopped and started again.
 */
import { parseArgs } from "node:util";
import * as z from "zod";
import { exportArchive } from "./archive-export.ts";
import { restoreArchive } from "./archive-restore.ts";
import { type Command, UsageError } from "./command.ts";
import { AdminClient, GATEWAY_FLAGS } from "./gateway.ts";

const USAGE = [
  "atlas-gate archive backfill --from d1|postgres --to postgres|d1 [--after ID]",
  "atlas-gate archive rebuild --from r2 [--after KEY]",
  "atlas-gate archive verify",
  "atlas-gate archive export DIR",
  "atlas-gate archive restore DIR",
  "  each with [--url URL --key KEY | --state-dir DIR]",
].join("\n");

const progressSchema = z.object({
  sessions: z.int(),
  records: z.int(),
  problems: z.array(z.object({ session_id: z.string(), seq: z.int(), message: z.string() })),
  next: z.string().nullable(),
});

type Progress = z.infer<typeof progressSchema>;

export const archive: Command = {
  usage: USAGE,
  run: async (args) => {
    const { values, positionals } = read(args);
    const [action, dir, ...more] = positionals;
    if (more.length > 0) throw new UsageError(`There is one argument too many: ${more[0]}`);
    const gateway = await AdminClient.open(values);
    switch (action) {
      case "backfill":
        return backfill(gateway, values);
      case "rebuild":
        if (values.from !== "r2") throw new UsageError("rebuild takes --from r2");
        return rebuild(gateway, values.after);
      case "verify":
        return verify(gateway, "");
      case "export":
        return exportArchive(gateway, folder(dir), say);
      case "restore":
        return (await restoreArchive(gateway, folder(dir), say)) ? verify(gateway, "") : 1;
      default:
        throw new UsageError(`archive has no action ${action ?? "without a name"}`);
    }
  },
};

function read(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        ...GATEWAY_FLAGS,
        from: { type: "string" },
        to: { type: "string" },
        after: { type: "string" },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function folder(dir: string | undefined): string {
  if (dir === undefined) throw new UsageError("Which folder?");
  return dir;
}

async function backfill(
  gateway: AdminClient,
  { from, to, after }: { from?: string; to?: string; after?: string },
): Promise<number> {
  const kinds = ["d1", "postgres"];
  if (!kinds.includes(from ?? "") || !kinds.includes(to ?? "") || from === to) {
    throw new UsageError("backfill takes --from and --to, d1 and postgres");
  }
  const copied = await toTheEnd(after, "copied", (next) =>
    gateway.post(
      "/archive/backfill",
      { from, to, ...(next === null ? {} : { after: next }) },
      progressSchema,
    ),
  );
  const held = await verify(gateway, `archive=${to}&against=${from}&`);
  return copied ? held : 1;
}

async function rebuild(gateway: AdminClient, after: string | undefined): Promise<number> {
  const read = await toTheEnd(after, "rebuilt", (next) =>
    gateway.post("/archive/rebuild", next === null ? {} : { after: next }, progressSchema),
  );
  const held = await verify(gateway, "");
  return read ? held : 1;
}

async function verify(gateway: AdminClient, query: string): Promise<number> {
  const held = await toTheEnd(undefined, "verified", (next) =>
    gateway.get(`/archive/verify?${query}${next === null ? "" : `after=${next}`}`, progressSchema),
  );
  console.log(held ? "Every chain holds." : "Not every chain holds.");
  return held ? 0 : 1;
}

/** Asks for step after step; false when one of them found a problem. */
async function toTheEnd(
  from: string | undefined,
  done: string,
  step: (next: string | null) => Promise<Progress>,
): Promise<boolean> {
  let next: string | null = from ?? null;
  let sessions = 0;
  let records = 0;
  let good = true;
  do {
    const progress: Progress = await step(next);
    sessions += progress.sessions;
    records += progress.records;
    for (const { session_id, seq, message } of progress.problems) {
      console.log(`PROBLEM  ${session_id} record ${seq}: ${message}`);
      good = false;
    }
    next = progress.next;
    say(
      `${done}: ${sessions} sessions, ${records} records${next === null ? "" : ` (--after ${next})`}`,
    );
  } while (next !== null);
  return good;
}

function say(text: string): void {
  console.log(text);
}
