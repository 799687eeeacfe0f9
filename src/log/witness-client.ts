/**
 * @module
 * Asks a witness for its cosignature (C2SP tlog-witness). A witness that knows
 * another size than was thought is asked once more from there.
 */
import { cosignatureTime, cosignatureVerifier, TIME_TOLERANCE_SECONDS } from "./cosignature.ts";
import { isOf, parseSignatureLine, type VerifierKey } from "./note.ts";
import { formatAddCheckpoint, MAX_REQUEST_BYTES, parseSize } from "./witness-request.ts";

/** A witness of this log, from the configuration. */
export type Witness = {
  readonly name: string;
  readonly key: VerifierKey;
  readonly vkey: string;
  /** The submission prefix, without a slash at its end. */
  readonly url: string;
};

export type WitnessAnswer =
  | { readonly kind: "cosigned"; readonly line: string; readonly time: number }
  /** It has cosigned a larger tree of this log than there is: this log was turned back. */
  | { readonly kind: "ahead"; readonly size: number }
  /** It has cosigned another tree of this size, or finds no way from the one that it knows. */
  | { readonly kind: "forked" }
  /** It says that it cosigned before the checkpoint was made, or that it will. */
  | { readonly kind: "false_time"; readonly time: number }
  | { readonly kind: "failed"; readonly message: string };

/** Longest wait for one answer. */
const TIMEOUT_MS = 10_000;

export type Asked = {
  readonly size: number;
  readonly note: string;
  /** What the cosignature must be over: the note's text. */
  readonly text: string;
  /** When the checkpoint was made, Unix ms. */
  readonly madeAt: number;
  /** Where the witness is thought to be. */
  readonly oldSize: number;
  readonly proofFrom: (oldSize: number) => Promise<Uint8Array[]>;
};

/** Never throws: what goes wrong is an answer, in words of the gateway's own. */
export async function askWitness(
  witness: Witness,
  asked: Asked,
  send: typeof fetch,
  now: () => number,
): Promise<WitnessAnswer> {
  try {
    const first = await post(witness, asked, Math.min(asked.oldSize, asked.size), send);
    const size = first.status === 409 ? parseSize(first.body) : null;
    if (size === null) return await readAnswer(witness, asked, first, now());
    if (size > asked.size) return { kind: "ahead", size };
    const second = await post(witness, asked, size, send);
    const moved = second.status === 409 ? parseSize(second.body) : null;
    if (moved !== null && moved !== size) return { kind: "failed", message: "it moved meanwhile" };
    return await readAnswer(witness, asked, second, now());
  } catch (error) {
    return { kind: "failed", message: error instanceof Error ? error.name : "no answer" };
  }
}

type Answer = { readonly status: number; readonly body: string };

async function post(
  witness: Witness,
  { note, proofFrom }: Asked,
  oldSize: number,
  send: typeof fetch,
): Promise<Answer> {
  const response = await send(`${witness.url}/add-checkpoint`, {
    method: "POST",
    headers: { "content-type": "text/plain; charset=utf-8" },
    body: formatAddCheckpoint({ oldSize, proof: await proofFrom(oldSize), note }),
    redirect: "manual",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  return { status: response.status, body: await boundedText(response) };
}

async function boundedText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    // Leaving the loop cancels the stream.
    if (bytes > MAX_REQUEST_BYTES) throw new RangeError("the answer is too large");
    chunks.push(chunk);
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}

async function readAnswer(
  { key }: Witness,
  { text, madeAt }: Asked,
  { status, body }: Answer,
  now: number,
): Promise<WitnessAnswer> {
  if (status === 409 || status === 422) return { kind: "forked" };
  if (status !== 200) return { kind: "failed", message: `status ${status}` };
  for (const line of body.split("\n").slice(0, -1)) {
    const signature = parseSignatureLine(line);
    // A witness may sign with several keys; lines of unknown ones are passed over.
    if (signature === null || !isOf(key, signature)) continue;
    const time = cosignatureTime(signature);
    if (time === null || !(await cosignatureVerifier(key).verify(text, signature.bytes))) break;
    if (!isPlausible(time, madeAt, now)) return { kind: "false_time", time };
    return { kind: "cosigned", line: signature.line, time };
  }
  return { kind: "failed", message: "no cosignature of its key" };
}

/**
 * The times of the leaves after this checkpoint come after its cosignatures, and those
 * before it are held against them: a time that cannot be must not get in.
 */
function isPlausible(seconds: number, madeAt: number, now: number): boolean {
  // A log that once believed a witness may be ahead of the clock.
  const earliest = Math.min(madeAt, now) / 1000 - TIME_TOLERANCE_SECONDS;
  return earliest <= seconds && seconds <= now / 1000 + TIME_TOLERANCE_SECONDS;
}
