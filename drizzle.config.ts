import { defineConfig } from "drizzle-kit";

/** `npm run migrations` makes those of D1; `DIALECT=postgresql` before it, those of PostgreSQL. */
export default process.env.DIALECT === "postgresql"
  ? defineConfig({
      dialect: "postgresql",
      schema: "./src/db/postgres.ts",
      out: "./migrations/postgres",
    })
  : defineConfig({
      dialect: "sqlite",
      schema: "./src/db/d1.ts",
      out: "./migrations/d1",
    });
