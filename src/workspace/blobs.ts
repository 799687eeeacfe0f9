/**
 * @module
 * Contents too large for the object's own storage: R2 objects under the SHA-256
 * of what they hold, so that a repeated write is the same object and a
 * reader can check what it got.
 */
import { createHash } from "node:crypto";

/** Content-addressed within a tenant: one tenant cannot probe for what another stores. */
const blobKey = (tenant: string, sha256: string): string => `blobs/${tenant}/${sha256}`;

/** Stores `bytes` under `sha256` (hex), which R2 checks. A repeat is a no-op. */
export async function putBlob(
  bucket: R2Bucket,
  tenant: string,
  sha256: string,
  bytes: Uint8Array,
): Promise<void> {
  await bucket.put(blobKey(tenant, sha256), bytes, {
    sha256,
    onlyIf: { etagDoesNotMatch: "*" },
  });
}

export type Blob = { ok: true; bytes: Uint8Array } | { ok: false; problem: string };

/** Reads and checks a blob; not ok when it is missing or is not what its name says. Throws when R2 does not answer. */
export async function getBlob(bucket: R2Bucket, tenant: string, sha256: string): Promise<Blob> {
  const object = await bucket.get(blobKey(tenant, sha256));
  if (object === null) return { ok: false, problem: "missing in the bucket" };
  const bytes = await object.bytes();
  if (createHash("sha256").update(bytes).digest("hex") !== sha256) {
    return { ok: false, problem: "not what its SHA-256 says" };
  }
  return { ok: true, bytes };
}
