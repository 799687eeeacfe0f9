/**
 * @module
 * Where the name of a host leads, so that a public name for a private address is refused too.
 *
 * Trade-off: the request itself looks the name up again, and whoever owns the name may answer
 * otherwise then (DNS rebinding). On Cloudflare's network such a request has no route into
 * anyone's private space; where workerd runs elsewhere, the network must be closed the same way.
 * A name that cannot be looked up is let through: the request would not find it either.
 */
import * as z from "zod";

/** Addresses of a name; none where it has none, or nobody answers. */
export type Resolve = (name: string) => Promise<readonly string[]>;

/** How long an answer holds, in ms. */
const KNOWN_MS = 60_000;
/** What a look-up may take, in ms: it comes before the first request of a minute. */
const PATIENCE_MS = 2_000;
const MAX_NAMES = 1_000;

/** The JSON form of DNS over HTTPS. `node:dns` asks the same resolver, and leaves rejections behind where it cannot. */
const RESOLVER = "https://cloudflare-dns.com/dns-query";
/** A and AAAA (RFC 1035, RFC 3596); an answer holds the aliases on the way, too. */
const ADDRESS_TYPES = new Map([
  ["A", 1],
  ["AAAA", 28],
]);
const answerSchema = z.object({
  Answer: z.array(z.object({ type: z.number(), data: z.string() })).default([]),
});

/** By Cloudflare's resolver. Throws where it does not answer. */
export const resolveName: Resolve = async (name) => {
  const answers = await Promise.all(
    [...ADDRESS_TYPES].map(async ([asked, type]) => {
      const response = await fetch(`${RESOLVER}?name=${encodeURIComponent(name)}&type=${asked}`, {
        headers: { accept: "application/dns-json" },
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      const { Answer } = answerSchema.parse(await response.json());
      return Answer.flatMap(({ type: found, data }) => (found === type ? [data] : []));
    }),
  );
  return answers.flat();
};

/** The resolver that remembers for a minute, and never throws. */
export function remembering(resolve: Resolve, now: () => number = Date.now): Resolve {
  const known = new Map<
    string,
    { readonly addresses: readonly string[]; readonly until: number }
  >();
  return async (name) => {
    const at = now();
    const found = known.get(name);
    if (found !== undefined && found.until > at) return found.addresses;
    const addresses = await resolve(name).catch((): readonly string[] => []);
    const oldest = known.keys().next();
    if (known.size >= MAX_NAMES && !oldest.done) known.delete(oldest.value);
    known.delete(name);
    known.set(name, { addresses, until: at + KNOWN_MS });
    return addresses;
  };
}
