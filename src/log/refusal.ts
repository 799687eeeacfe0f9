/**
 * @module
 * Why a log refuses to sign. Each is a contradiction between what the log
 * remembers and what it finds: going on could sign two histories, so that an
 * operator must look first. A store that does not answer is no refusal, only
 * an error: the next attempt begins anew.
 */

export type RefusalReason =
  /** LOG_ORIGIN is not the name that the log was first signed under. */
  | "origin_changed"
  /** None of the configured keys has signed the log so far, or one was retired before. */
  | "keys_changed"
  /** The bucket holds a larger tree: the object was restored to an older state. */
  | "bucket_newer"
  /** The bucket holds another tree of a size that this log has signed. */
  | "bucket_forked"
  /** The bucket's checkpoint is none, or another log's; or something else lies among their copies. */
  | "bucket_unreadable"
  /** A tile or a checkpoint that is to be written is there already, with other bytes. */
  | "write_conflict"
  /** The edge of the tree does not have the root that was signed. */
  | "edge_mismatch"
  /** The staged commit does not follow from the tree, or does not have the root that was signed. */
  | "staged_mismatch"
  /** The checkpoint in the object is not the one that this commit began from. */
  | "lost_race";

export class LogRefused extends Error {
  readonly reason: RefusalReason;

  constructor(reason: RefusalReason, detail: string) {
    super(`the log refuses to sign: ${reason}: ${detail}`);
    this.name = "LogRefused";
    this.reason = reason;
  }
}
