/**
 * @module
 * `npm run migrate:postgres -- URL`: the database behind Hyperdrive, brought to
 * the schema of this version. The login needs to own the tables and to create roles.
 */
import { migratePostgres } from "./postgres/migrate.ts";

const [url] = process.argv.slice(2);
if (url === undefined || !/^postgres(?:ql)?:\/\//.test(url)) {
  console.error("Usage: npm run migrate:postgres -- postgres://LOGIN:PASSWORD@HOST:PORT/DATABASE");
  process.exitCode = 2;
} else {
  try {
    const applied = await migratePostgres(url);
    console.log(applied.length === 0 ? "Nothing to do." : `Applied ${applied.join(", ")}.`);
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  }
}
