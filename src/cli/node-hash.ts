/**
 * @module
 * SHA-256 of the command line: several times faster than the portable one, and
 * there in every Node 20.
 */
import { createHash } from "node:crypto";
import type { Sha256 } from "../audit/hash.ts";

export const sha256Bytes: Sha256 = (data) =>
  new Uint8Array(createHash("sha256").update(data).digest());
