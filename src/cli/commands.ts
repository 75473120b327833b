// The commands and their options. Help, completion and the tables in docs/operations.md are made from them. The code of
// a command is loaded when it runs, so that help and completion answer at once.
import { homedir } from "node:os";
import { join } from "node:path";
import { Argument, Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { nodeRoles, serviceRoles } from "../access/permission.js";
import { completionOf, shells } from "./completion.js";
import { examples, required, server } from "./options.js";
import { answer } from "./output.js";
import { addPayoutCommands } from "./payouts/commands.js";
import { needed, wholeNumber } from "./usage.js";

export interface CommandLine {
  /** What --version prints. */
  readonly version: string;
  /** Receives the text of help and version, in pieces. */
  readonly write: (text: string) => void;
  /** Called with the exit code when a command is done. */
  readonly end: (code: number) => void;
}

const credentialsDefault = join(homedir(), ".config", "lucid-node", "agent.json");

/** The whole command line. Parsing throws CommanderError (exit code 0 after help and version) or UsageError. */
export function createProgram({ version, write, end }: CommandLine) {
  const program = new Command("lucid-node")
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
      // Nothing here may touch process.stdout, which would block on a pipe without a reader.
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
    .description("create the collections and indexes of this version, then exit; serve does so too")
    .addHelpText("after", examples("MONGODB_URL=mongodb://HOST lucid-node migrate"))
    .action(async () => end(await (await import("./migrate.js")).migrate()));

  program
    .command("agent")
    .description("make this machine a node: enrol it once, then stay connected")
    .addOption(server().default(undefined, required))
    .addOption(
      new Option(
        "--enrollment-token <token>",
        "enrols the node, needed once; an option is visible in the list of processes, the environment is not",
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
      new Option(
        "--prove-command <command>",
        "prove the output of this command, at most 1 MiB; $1 is the proof's nonce",
      ).default(undefined, "a small built-in computation"),
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
      new Option("--token <token>", "an admin's token, to create the nodes").default(
        undefined,
        "LUCID_TOKEN in the environment",
      ),
    )
    .addOption(
      new Option("--prefix <name>", "nodes are named NAME-0, NAME-1 ...; the same prefix reuses them").default("sim"),
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
      new Option("--role <role>", "the holder's role; node roles need --node-id")
        .choices([...nodeRoles, ...serviceRoles])
        .default(undefined, "worker with --enrollment, else required"),
    )
    .addOption(
      new Option("--node-id <node>", "the node that the token is for").default(undefined, "none, for a service role"),
    )
    .addOption(new Option("--subject <name>", "who holds it").default(undefined, "the node, else cli-ROLE"))
    .addOption(
      new Option("--ttl <seconds>", "how long it is valid").default(undefined, "3600, or 900 with --enrollment"),
    )
    .addOption(new Option("--enrollment", "make a token that enrols the node, once").default(false))
    .addHelpText(
      "after",
      examples("TOKEN=$(lucid-node token --role admin)", "lucid-node token --enrollment --node-id NODE --ttl 600"),
    )
    .action(async (options) => end(await (await import("./token.js")).token(options)));

  program
    .command("health")
    .description("check whether the service is SERVING; only then the exit code is 0")
    .addOption(server().default(undefined, "the address in HOST and PORT"))
    .addOption(
      new Option("--service <name>", "readiness, liveness or a service of the contract").default("", "readiness"),
    )
    .addHelpText(
      "after",
      examples("lucid-node health", "lucid-node health --server https://HOST:8083 --service liveness"),
    )
    .action(async (options) => end(await (await import("./health.js")).health(options)));

  addPayoutCommands(program, end);
  program
    .command("run")
    .description("run the service and an agent of this machine together, to try it out")
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

/** Where an option's value comes from when it is not given: "required", a default, or "" for a plain flag. */
export function sourceOf({ defaultValue, defaultValueDescription }: AnyOption): string {
  if (defaultValueDescription === required) return required;
  if (defaultValueDescription !== undefined) return `default: ${defaultValueDescription}`;
  return defaultValue === undefined || defaultValue === false ? "" : `default: ${defaultValue}`;
}

type AnyOption = CommandUnknownOpts["options"][number];

const parenthesised = (text: string): string => (text === "" ? "" : `(${text})`);

/** The words that call a command, such as "lucid-node payouts list". */
export const pathOf = (command: CommandUnknownOpts): string =>
  command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;

/** The command with its options and arguments, such as "lucid-node health [--server <url>] [--service <name>]". */
export function usageOf(command: CommandUnknownOpts): string {
  if (command.commands.length > 0) return `${pathOf(command)} COMMAND`;
  const options = command.options.map((option) => (sourceOf(option) === required ? option.flags : `[${option.flags}]`));
  const places = command.registeredArguments.map((argument) => `<${argument.name()}>`);
  return [pathOf(command), ...places, ...options].join(" ");
}
