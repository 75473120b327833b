// The commands and their options, said once: help, completion and the tables in docs/operations.md come from here. What a
// command does is loaded when it runs, so that help and completion answer at once.
import { homedir } from "node:os";
import { join } from "node:path";
import { Argument, Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { nodeRoles, serviceRoles } from "../access/permission.js";
import { completionOf, shells } from "./completion.js";
import { answer } from "./output.js";
import { needed, serverUrl, wholeNumber } from "./usage.js";

export interface CommandLine {
  /** What --version prints. */
  readonly version: string;
  /** Takes help and versions, in pieces. */
  readonly write: (text: string) => void;
  /** Told the exit code when a command has done its work. */
  readonly end: (code: number) => void;
}

const server = () =>
  new Option("--server <url>", "address of the service; without a scheme it is http").argParser(serverUrl);
/** Ours and not the library's, which would say that --server is missing where it was only misspelt. */
const required = "required";
const credentialsDefault = join(homedir(), ".config", "lucid-node", "agent.json");

const examples = (...lines: readonly string[]) => ["", "examples:", ...lines.map((line) => `  ${line}`)].join("\n");

/** The whole command line. To parse throws CommanderError (exit code 0 after help and versions) or UsageError. */
export function createProgram({ version, write, end }: CommandLine) {
  const program = new Command("lucid-node")
    .usage("COMMAND")
    .description("Runs the Lucid Node Management service, and nodes of it.")
    .version(version, "--version", "print the version")
    .helpOption("-h, --help", "print this")
    .helpCommand("help [command]", "print what a command does and takes")
    .configureHelp({
      styleTitle: (title) => title.toLowerCase(),
      subcommandTerm: (command) => command.name(),
      optionDescription: (option) => [option.description, parenthesised(sourceOf(option))].join(" ").trimEnd(),
      commandUsage: usageOf,
    })
    .configureOutput({
      writeOut: write,
      // Errors are thrown, and the caller prints them.
      writeErr: () => undefined,
      // Nothing here may touch process.stdout, which would block on a pipe that nobody reads.
      getOutHelpWidth: () => 120,
      getErrHelpWidth: () => 120,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .exitOverride()
    .addHelpText("after", examples("lucid-node run", "lucid-node help agent", "source <(lucid-node completion bash)"));

  program
    .command("serve")
    .description("run the service; settings come from the environment, .env and CONFIG_FILE")
    .addHelpText("after", examples("lucid-node serve", "CONFIG_FILE=/etc/lucid.conf lucid-node serve"))
    .action(async () => end(await (await import("./serve.js")).serve()));

  program
    .command("migrate")
    .description("make collections and indexes as this version wants them, then end; serve does it, too")
    .addHelpText("after", examples("MONGODB_URL=mongodb://HOST lucid-node migrate"))
    .action(async () => end(await (await import("./migrate.js")).migrate()));

  program
    .command("agent")
    .description("make this machine a node: enrol once, then stay connected")
    .addOption(server().default(undefined, required))
    .addOption(
      new Option(
        "--enrollment-token <token>",
        "what enrols the node, needed once; the list of processes shows it here, and not in the environment",
      ).default(undefined, "LUCID_ENROLLMENT_TOKEN in the environment"),
    )
    .addOption(
      new Option("--credentials <file>", "where the node's key and tokens are kept").default(
        credentialsDefault,
        "~/.config/lucid-node/agent.json",
      ),
    )
    .addOption(new Option("--prove", "sign and submit a proof of output every minute").default(false))
    .addOption(
      new Option("--prove-command <command>", "prove what this prints, at most 1 MiB; $1 is the proof's nonce").default(
        undefined,
        "work of the agent's own",
      ),
    )
    .addHelpText(
      "after",
      examples(
        "LUCID_ENROLLMENT_TOKEN=TOKEN lucid-node agent --server https://HOST:8083",
        "lucid-node agent --server https://HOST:8083 --prove",
      ),
    )
    .action(async ({ server, ...options }) =>
      end(await (await import("./agent.js")).agent({ ...options, server: needed("--server", server) })),
    );

  program
    .command("simulate")
    .description("run many simulated nodes in one process")
    .addOption(server().default(undefined, required))
    .addOption(
      new Option("--nodes <count>", "how many nodes, 1 to 100000")
        .argParser((text) => wholeNumber("nodes", text, 1, 100_000))
        .default(10),
    )
    .addOption(
      new Option("--token <token>", "an admin's token, which creates the nodes").default(
        undefined,
        "LUCID_TOKEN in the environment",
      ),
    )
    .addOption(
      new Option("--prefix <name>", "nodes are named NAME-0, NAME-1 ...; the same prefix finds them again").default(
        "sim",
      ),
    )
    .addOption(
      new Option("--streams-per-connection <count>", "how many nodes share a connection, 1 to 1000")
        .argParser((text) => wholeNumber("streams-per-connection", text, 1, 1000))
        .default(100),
    )
    .addHelpText(
      "after",
      examples(
        "export LUCID_TOKEN=$(lucid-node token --role admin)",
        "lucid-node simulate --nodes 500 --server http://127.0.0.1:8083",
      ),
    )
    .action(async ({ server, ...options }) =>
      end(await (await import("./simulate.js")).simulate({ ...options, server: needed("--server", server) })),
    );

  program
    .command("token")
    .description("print an access token, or with --enrollment an enrolment token for a node")
    .addOption(
      new Option("--role <role>", "what the holder may do; node roles go with --node-id")
        .choices([...nodeRoles, ...serviceRoles])
        .default(undefined, "worker with --enrollment, else required"),
    )
    .addOption(
      new Option("--node-id <node>", "the node that the token is for").default(undefined, "none, for a service role"),
    )
    .addOption(new Option("--subject <name>", "who holds it").default(undefined, "the node, else cli-ROLE"))
    .addOption(
      new Option("--ttl <seconds>", "how long it is good for").default(undefined, "3600, or 900 with --enrollment"),
    )
    .addOption(new Option("--enrollment", "a token that enrols the node, once").default(false))
    .addHelpText(
      "after",
      examples("TOKEN=$(lucid-node token --role admin)", "lucid-node token --enrollment --node-id NODE --ttl 600"),
    )
    .action(async (options) => end(await (await import("./token.js")).token(options)));

  program
    .command("health")
    .description("ask the service whether it serves; exit code 0 means SERVING")
    .addOption(server().default(undefined, "where HOST and PORT say that the service listens"))
    .addOption(
      new Option("--service <name>", "readiness, liveness or a service of the contract").default("", "readiness"),
    )
    .addHelpText(
      "after",
      examples("lucid-node health", "lucid-node health --server https://HOST:8083 --service liveness"),
    )
    .action(async (options) => end(await (await import("./health.js")).health(options)));

  program
    .command("run")
    .description("run the service and an agent of this machine together, to look at")
    .addHelpText("after", examples("lucid-node run", "PORT=8183 METRICS_PORT=9190 DATA_DIR=/tmp/lucid lucid-node run"))
    .action(async () => end(await (await import("./run.js")).run()));

  program
    .command("completion")
    .description("print a script that completes these commands in a shell")
    .addArgument(new Argument("<shell>", "the shell").choices(shells))
    .addHelpText(
      "after",
      examples(
        "source <(lucid-node completion bash)   # in ~/.bashrc",
        "source <(lucid-node completion zsh)    # in ~/.zshrc",
      ),
    )
    .action((shell) => end(answer(completionOf(shell, program))));

  return program;
}

/** Where the option's value comes from when it is not given: "required", a default, or "" for a plain flag. */
export function sourceOf({ defaultValue, defaultValueDescription }: AnyOption): string {
  if (defaultValueDescription === required) return required;
  if (defaultValueDescription !== undefined) return `default: ${defaultValueDescription}`;
  return defaultValue === undefined || defaultValue === false ? "" : `default: ${defaultValue}`;
}

type AnyOption = CommandUnknownOpts["options"][number];

const parenthesised = (text: string): string => (text === "" ? "" : `(${text})`);

/** The command with all that it takes, such as "lucid-node health [--server <url>] [--service <name>]". */
export function usageOf(command: CommandUnknownOpts): string {
  if (command.parent === null) return `${command.name()} ${command.usage()}`;
  const options = command.options.map((option) => (sourceOf(option) === required ? option.flags : `[${option.flags}]`));
  const places = command.registeredArguments.map((argument) => `<${argument.name()}>`);
  return [command.parent.name(), command.name(), ...places, ...options].join(" ");
}
