/**
 * @module
 * `atlas-gate log export`: segments, tiles and checkpoints into a store with
 * Object Lock. Credentials come from the environment, never from the command line.
 */
import { type ExitCode, parseCommandLine, UsageError } from "../command.ts";
import { bucketSource, folderSource, type ObjectSource } from "../s3/object-source.ts";
import { type LockMode, S3Error, type S3Place, S3Store } from "../s3/s3-store.ts";
import { wormCopy } from "../s3/worm-copy.ts";

const OPTIONS = {
  to: { type: "string" },
  endpoint: { type: "string" },
  region: { type: "string" },
  "source-endpoint": { type: "string" },
  "retain-days": { type: "string" },
  mode: { type: "string" },
  json: { type: "boolean" },
} as const;

const DAY_MS = 86_400_000;
/** A hundred years: a typing mistake in compliance mode cannot be taken back. */
const MAX_RETAIN_DAYS = 36_500;
const PROGRESS_MS = 2_000;

const MODES: Readonly<Record<string, LockMode>> = {
  compliance: "COMPLIANCE",
  governance: "GOVERNANCE",
};

export async function exportLog(args: readonly string[]): Promise<ExitCode> {
  const { values, positionals } = parseCommandLine(args, OPTIONS);
  const [from, ...more] = positionals;
  if (from === undefined || more.length > 0) {
    throw new UsageError("log export takes one s3://BUCKET or DIR to copy from");
  }
  const to = /^s3:\/\/([^/]+)(?:\/(.*))?$/.exec(values.to ?? "");
  if (to === null) throw new UsageError("--to s3://BUCKET[/PREFIX] says where to");
  const days = Number(values["retain-days"]);
  if (!Number.isInteger(days) || days < 1 || days > MAX_RETAIN_DAYS) {
    throw new UsageError(`--retain-days is a whole number from 1 to ${MAX_RETAIN_DAYS}`);
  }
  const modeName = values.mode ?? "compliance";
  const mode = Object.hasOwn(MODES, modeName) ? MODES[modeName] : undefined;
  if (mode === undefined) throw new UsageError("--mode is compliance or governance");
  const region = values.region ?? "us-east-1";
  const place = placeOf(to[1] ?? "", values.endpoint, region, "AWS_");
  const prefix = to[2] === undefined || to[2] === "" ? "" : `${to[2].replace(/\/+$/, "")}/`;
  const lock = { mode, until: new Date(Date.now() + days * DAY_MS) };
  let last = Date.now();
  try {
    const source = sourceOf(from, values["source-endpoint"]);
    const copied = await wormCopy(source, new S3Store(place), prefix, lock, (so) => {
      if (Date.now() - last < PROGRESS_MS) return;
      last = Date.now();
      console.error(`${so.uploaded} uploaded, ${so.present} there already`);
    });
    if (copied.uploaded + copied.present === 0) throw new UsageError(`${from}: nothing to copy`);
    const text = `${copied.uploaded} objects uploaded, ${copied.present} were there; each was read back, locked until at least its date.`;
    console.log(values.json === true ? JSON.stringify(copied) : text);
    return 0;
  } catch (error) {
    if (error instanceof S3Error) throw new UsageError(error.message);
    throw error;
  }
}

function sourceOf(from: string, endpoint: string | undefined): ObjectSource {
  const match = /^s3:\/\/([^/]+)\/?$/.exec(from);
  if (match === null) return folderSource(from);
  // R2's only region.
  return bucketSource(new S3Store(placeOf(match[1] ?? "", endpoint, "auto", "SOURCE_AWS_")));
}

function placeOf(
  bucket: string,
  endpoint: string | undefined,
  region: string,
  variables: string,
): S3Place {
  const accessKeyId = process.env[`${variables}ACCESS_KEY_ID`];
  const secretAccessKey = process.env[`${variables}SECRET_ACCESS_KEY`];
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    throw new UsageError(`${variables}ACCESS_KEY_ID and ${variables}SECRET_ACCESS_KEY must be set`);
  }
  const url = endpoint ?? `https://s3.${region}.amazonaws.com`;
  if (!URL.canParse(url)) throw new UsageError(`not an endpoint: ${url}`);
  return { endpoint: url, region, bucket, accessKeyId, secretAccessKey };
}
