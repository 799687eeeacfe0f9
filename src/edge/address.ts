/**
 * @module
 * Where a request comes from, as far as the platform says so:
 * `CF-Connecting-IP`, which no client can set on Cloudflare's network, and
 * nothing else. `X-Forwarded-For` is anybody's text.
 */
import { type Cidr, isWithin } from "../policy/cidr.ts";
import { HttpRefusal } from "./refusal.ts";

/** Without the platform in front there is nobody but this machine. */
const LOCAL = "127.0.0.1";

/** The caller's address, as the platform wrote it. */
export function clientAddress(headers: Headers): string {
  return headers.get("cf-connecting-ip") ?? LOCAL;
}

/** Refuses an address that is in none of the blocks; no list lets all in. Throws `HttpRefusal` 403. */
export function requireAddress(allowed: readonly Cidr[] | null, headers: Headers): void {
  if (allowed === null || isWithin(allowed, clientAddress(headers))) return;
  throw new HttpRefusal(
    403,
    "ADDRESS_FORBIDDEN",
    "This address may not use this gateway, or not with this credential.",
  );
}
