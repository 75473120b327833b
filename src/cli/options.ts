// What the definitions of several commands have in common.
import { Option } from "@commander-js/extra-typings";
import { serverUrl } from "./usage.js";

/** Our own check: the library's would say that --server is missing when it was only misspelt. */
export const required = "required";

/** Without a default: the command says what it does then. */
export const server = () =>
  new Option("--server <url>", "address of the service; without a scheme it is http").argParser(serverUrl);

export const examples = (...lines: readonly string[]) =>
  ["", "examples:", ...lines.map((line) => `  ${line}`)].join("\n");
