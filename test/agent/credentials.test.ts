// The agent's folder, and what other users put into it: links, also links that others own.
import {
  chmodSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createCredentials, loadCredentials } from "../../src/agent/credentials.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "lucid-folder-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const tokens = { accessToken: "access", refreshToken: "refresh", expiresAt: new Date(1e12) };
const isRoot = process.geteuid?.() === 0;
if (!isRoot) console.warn("NOT TESTED WITHOUT ROOT: links that another user has made");

describe("credentials", () => {
  test("behind a link of ours are read and replaced where they are, and the link stays", () => {
    mkdirSync(join(folder, "real"), { mode: 0o700 });
    const [real, link] = [join(folder, "real", "agent.json"), join(folder, "agent.json")];
    createCredentials(real, "node_linked");
    symlinkSync(real, link);
    const credentials = loadCredentials(link);
    expect(credentials?.identity.nodeId).toBe("node_linked");
    credentials?.keep(tokens);
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(JSON.parse(readFileSync(real, "utf8"))).toMatchObject({ access_token: "access" });
    expect(lstatSync(real).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(folder, "real"))).toEqual(["agent.json"]);
  });

  test("in a folder that is a link are kept as in any other", () => {
    mkdirSync(join(folder, "real"), { mode: 0o700 });
    symlinkSync(join(folder, "real"), join(folder, "linked"));
    createCredentials(join(folder, "linked", "agent.json"), "node_linked").keep(tokens);
    expect(JSON.parse(readFileSync(join(folder, "real", "agent.json"), "utf8"))).toMatchObject({
      node_id: "node_linked",
      access_token: "access",
    });
  });

  test.each(["agent.json", "nowhere"])("behind a link that leads to %s, itself or nothing, are refused", (target) => {
    symlinkSync(join(folder, target), join(folder, "agent.json"));
    expect(() => loadCredentials(join(folder, "agent.json"))).toThrow(/symbolic link|circle/);
  });

  describe.runIf(isRoot)("where another user can write", () => {
    const stranger = 4_242;
    const aStrangersLink = (to: string, from: string) => {
      symlinkSync(to, from);
      lchownSync(from, stranger, stranger);
    };

    test("are not read through a link that this user has made", () => {
      createCredentials(join(folder, "other.json"), "node_other");
      chmodSync(folder, 0o1777);
      aStrangersLink(join(folder, "other.json"), join(folder, "agent.json"));
      expect(() => loadCredentials(join(folder, "agent.json"))).toThrow(`another user has made (uid ${stranger})`);
    });

    test("replace nothing through a link that this user has put in their place; the agent says so and goes on", () => {
      chmodSync(folder, 0o777);
      const [file, precious] = [join(folder, "agent.json"), join(folder, "precious")];
      const said: string[] = [];
      const credentials = createCredentials(file, "node_ours", { onUnsaved: (message) => said.push(message) });
      writeFileSync(precious, "precious");
      unlinkSync(file);
      aStrangersLink(precious, file);
      credentials.keep(tokens);
      credentials.keep(tokens);
      expect(readFileSync(precious, "utf8")).toBe("precious");
      expect(said).toEqual([expect.stringContaining(`another user has made (uid ${stranger})`)]);
      expect(credentials.tokens()).toEqual(tokens);
    });
  });
});
