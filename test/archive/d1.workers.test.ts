import { env } from "cloudflare:workers";
import { D1Archive } from "../../src/archive/d1.ts";
import { describeArchive } from "./suite.ts";

describeArchive("D1", () => new D1Archive(env.ARCHIVE_DB));
