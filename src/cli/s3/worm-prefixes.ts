/**
 * @module
 * What of the bucket is written once, and therefore can be locked: here, in the
 * bucket's own lock rules, and in a copy elsewhere. Never `log/checkpoint`, which
 * is replaced with every commit.
 */

export const WORM_PREFIXES = ["audit/", "log/tile/", "log/checkpoints/"] as const;
