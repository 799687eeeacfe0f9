import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type Revision, serverScenarios } from "../conformance/suite.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const DOCUMENT = readFileSync(join(ROOT, "docs", "conformance.md"), "utf8");
const REVISIONS: readonly Revision[] = ["2025-11-25", "2026-07-28"];

type Row = {
  readonly revision: Revision | null;
  readonly requirement: string;
  readonly source: string;
  readonly evidence: string;
};

/** The lines of every table, with the revision of the chapter that they stand in. */
function rowsOf(text: string): Row[] {
  let revision: Revision | null = null;
  const rows: Row[] = [];
  for (const line of text.split("\n")) {
    const chapter = /^## (.+)$/.exec(line)?.[1];
    if (chapter !== undefined) revision = REVISIONS.find((known) => known === chapter) ?? null;
    if (!line.startsWith("| ") || line.startsWith("| Requirement")) continue;
    const [, requirement = "", source = "", evidence = ""] = line.split("|").map((s) => s.trim());
    rows.push({ revision, requirement, source, evidence });
  }
  return rows;
}

type Named = { readonly file: string; readonly titles: string[] };

/** The test files that a text names, each with the titles that follow it. */
function testsIn(text: string): Named[] {
  const found: Named[] = [];
  for (const [, file, title] of text.matchAll(/`([\w./-]+\.test\.ts)`|"([^"]+)"/g)) {
    if (file !== undefined) found.push({ file: file.replace(/^test\//, ""), titles: [] });
    else if (title !== undefined) found.at(-1)?.titles.push(title);
  }
  return found;
}

/** The scenarios of the suite that a cell names, of which there may be several after one `suite`. */
function scenariosIn(evidence: string): string[] {
  return [...evidence.matchAll(/suite ((?:`[\w-]+` ?)+)/g)].flatMap(([, names = ""]) =>
    [...names.matchAll(/`([\w-]+)`/g)].map(([, name = ""]) => name),
  );
}

function sourceOf(file: string): string {
  return readFileSync(join(ROOT, "test", file), "utf8");
}

const ROWS = rowsOf(DOCUMENT);

describe("docs/conformance.md", () => {
  it("has something to say of both revisions, and something that shows each line of it", () => {
    for (const revision of REVISIONS) {
      expect(ROWS.filter((row) => row.revision === revision).length).toBeGreaterThan(40);
    }
    const bare = ROWS.filter(
      ({ evidence }) => testsIn(evidence).length + scenariosIn(evidence).length === 0,
    );
    expect(bare.map(({ requirement }) => requirement)).toEqual([]);
  });

  it("names only files of tests that are there, and tests that are in them", () => {
    const wrong = testsIn(DOCUMENT).flatMap(({ file, titles }) => {
      if (!existsSync(join(ROOT, "test", file))) return [`${file} is not there`];
      const source = sourceOf(file);
      return titles
        .filter((title) => !['"', "`"].some((quote) => source.includes(quote + title + quote)))
        .map((title) => `${file} has no "${title}"`);
    });
    expect(wrong).toEqual([]);
  });

  it("names at least one test of each file in its tables", () => {
    const bare = ROWS.flatMap(({ evidence }) => testsIn(evidence)).filter(
      ({ titles }) => titles.length === 0,
    );
    expect(bare.map(({ file }) => file)).toEqual([]);
  });

  it("names only scenarios that the suite runs at that revision", async () => {
    const client = sourceOf("conformance/client.test.ts");
    const wrong: string[] = [];
    for (const revision of REVISIONS) {
      const { required, others } = await serverScenarios(revision);
      const own = new RegExp(`"${revision}": \\[([^\\]]*)\\]`).exec(client)?.[1] ?? "";
      for (const row of ROWS.filter((each) => each.revision === revision)) {
        for (const name of scenariosIn(row.evidence)) {
          const isRun = [...required, ...others].includes(name) || own.includes(`"${name}"`);
          if (!isRun) wrong.push(`${revision} ${name}`);
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  it("says of each line where it is done, in files that are there", () => {
    const wrong = ROWS.flatMap(({ requirement, source }) => {
      const files = [...source.matchAll(/`([\w./-]+)`/g)].map(([, file = ""]) => file);
      if (files.length === 0) return [requirement];
      return files.filter((file) => !existsSync(join(ROOT, "src", file)));
    });
    expect(wrong).toEqual([]);
  });
});
