/**
 * The floors: the least that any gateway of this shape has to do. Each is
 * written in the two ways that a Worker can reach an object, an RPC and a
 * forwarded request; the benchmark takes the faster as the floor.
 *
 * `empty`: a Worker that answers. `one`: Worker → object → one inserted row.
 * `two`: Worker → object → another object, which reads; then the first inserts
 * one row. The answer waits for the row, as an output gate makes it.
 */
import { DurableObject } from "cloudflare:workers";

const JSON_HEADERS = { "content-type": "application/json" };
const CONTENT = "x".repeat(1024);

export class FloorObject extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS rows (seq INTEGER PRIMARY KEY, line TEXT)");
  }

  one(line) {
    this.ctx.storage.sql.exec("INSERT INTO rows (line) VALUES (?)", line);
    return body("inserted");
  }

  async two(line, name) {
    const content = await this.env.OTHER.getByName(name).read();
    this.ctx.storage.sql.exec("INSERT INTO rows (line) VALUES (?)", line);
    return body(content);
  }

  async fetch(request) {
    const { pathname, name } = route(request);
    const line = await request.text();
    return answer(pathname === "/one/fetch" ? this.one(line) : await this.two(line, name));
  }
}

export class OtherObject extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.storage.sql.exec(
      "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, content TEXT) WITHOUT ROWID",
    );
    ctx.storage.sql.exec("INSERT OR IGNORE INTO files VALUES ('a', ?)", CONTENT);
  }

  read() {
    return this.ctx.storage.sql.exec("SELECT content FROM files WHERE path = 'a'").one().content;
  }
}

export default {
  async fetch(request, env) {
    const { pathname, name } = route(request);
    if (pathname === "/empty") return answer(body("empty"));
    const object = env.FLOOR.getByName(name);
    switch (pathname) {
      case "/one/rpc":
        return answer(await object.one(await request.text()));
      case "/two/rpc":
        return answer(await object.two(await request.text(), name));
      case "/one/fetch":
      case "/two/fetch":
        return object.fetch(request);
      default:
        return new Response(null, { status: 404 });
    }
  },
};

function route(request) {
  const { pathname, search } = new URL(request.url);
  return { pathname, name: search };
}

function body(text) {
  return `{"jsonrpc":"2.0","id":1,"result":{"content":[{"text":"${text}","type":"text"}]}}`;
}

function answer(text) {
  return new Response(text, { headers: JSON_HEADERS });
}
