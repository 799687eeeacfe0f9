/**
 * @module
 * Which schema this version of the gateway needs in PostgreSQL.
 */

/** The newest of `migrations/postgres`; a test compares the two. */
export const POSTGRES_SCHEMA = "0003_session_key";

/** Where `npm run migrate:postgres` notes what it has applied. */
export const MIGRATIONS_TABLE = "atlas_migrations";

/** What is wrong with a database whose newest migration is `newest`, or null. */
export function schemaProblem(newest: string | null): string | null {
  if (newest === POSTGRES_SCHEMA) return null;
  if (newest !== null && newest > POSTGRES_SCHEMA) {
    return `the archive's schema is ${newest}, newer than the ${POSTGRES_SCHEMA} that this version knows`;
  }
  return `the archive's schema is ${newest ?? "not there"}, this version needs ${POSTGRES_SCHEMA}: run npm run migrate:postgres`;
}
