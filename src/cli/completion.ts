// Scripts that complete the command line in a shell, generated from the commands' definitions.
import type { CommandUnknownOpts } from "@commander-js/extra-typings";

export const shells = ["bash", "zsh"] as const;

/** The script for that shell to source. It contains all words, so it never calls the command line. */
export const completionOf = (shell: (typeof shells)[number], program: CommandUnknownOpts): string =>
  (shell === "bash" ? bashOf : zshOf)(treeOf(program));

/** A word that may come next, and its meaning. */
interface Word {
  readonly word: string;
  readonly means: string;
}

/** The values allowed in a place: one of some words, a file, or anything. */
type Value = readonly string[] | "file" | "anything";

interface CompletedOption extends Word {
  /** Undefined for a flag. */
  readonly value: Value | undefined;
}

/** A command, or a group of commands, such as the program itself. */
interface CompletedCommand extends Word {
  /** Its first argument, if it has one. */
  readonly value: Value | undefined;
  readonly options: readonly CompletedOption[];
  /** Not empty for a group. */
  readonly commands: readonly CompletedCommand[];
}

function treeOf(program: CommandUnknownOpts): CompletedCommand {
  const helper = program.createHelp();
  const optionsOf = (command: CommandUnknownOpts): CompletedOption[] =>
    helper.visibleOptions(command).map((option) => ({
      word: option.long ?? option.flags,
      means: option.description,
      value: option.required ? completedBy(option.argChoices, option.flags) : undefined,
    }));
  const commandOf = (command: CommandUnknownOpts, group?: CommandUnknownOpts): CompletedCommand => {
    const [argument] = command.registeredArguments;
    // The library's own help command takes the name of another command.
    const isHelp = group !== undefined && !group.commands.includes(command);
    const value = argument && completedBy(isHelp ? namesOf(program) : argument.argChoices, `<${argument.name()}>`);
    return {
      ...{ word: command.name(), means: command.description(), value, options: isHelp ? [] : optionsOf(command) },
      commands:
        command.commands.length === 0 ? [] : helper.visibleCommands(command).map((one) => commandOf(one, command)),
    };
  };
  return commandOf(program);
}

const namesOf = (program: CommandUnknownOpts): string[] => program.commands.map((command) => command.name());

const completedBy = (choices: readonly string[] | undefined, flags: string): Value =>
  choices ?? (flags.includes("<file>") ? "file" : "anything");

/** Also works with the bash 3.2 of macOS. */
function bashOf(program: CompletedCommand): string {
  const name = program.word;
  const completing = functionOf([name]);
  return `# Completes ${name} in bash. In ~/.bashrc: source <(${name} completion bash)
${completing}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD - 1]}" words= files=
  # bash takes --option=value for three words.
  if [[ $current == = ]]; then
    current=
  elif [[ $previous == = ]]; then
    previous="\${COMP_WORDS[COMP_CWORD - 2]}"
  fi
  ${bashCase(program, 0)}
  if [[ $files == yes ]]; then
    # One name a line, for a name may have blanks.
    local IFS=$'\\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$current"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  fi
}
complete -F ${completing} ${name}`;
}

/** What may follow the name of a group that is so many words deep. */
function bashCase({ commands, options }: CompletedCommand, depth: number): string {
  const answer = (value: Value): string =>
    value === "file" ? "files=yes" : value === "anything" ? "words=" : `words=${quoted(value.join(" "))}`;
  const first = [...commands, ...options].map(({ word }) => word);
  const cases = commands.flatMap((command) => {
    if (command.commands.length > 0) return [`*" ${command.word} "*)\n${bashCase(command, depth + 1)} ;;`];
    return [
      ...command.options.flatMap(({ word, value }) =>
        value === undefined ? [] : [`*" ${command.word} ${word}") ${answer(value)} ;;`],
      ),
      ...(command.value === undefined ? [] : [`"2 ${command.word} "*) ${answer(command.value)} ;;`]),
      `*" ${command.word} "*) words=${quoted(command.options.map(({ word }) => word).join(" "))} ;;`,
    ];
  });
  const at = depth === 0 ? "$COMP_CWORD" : `$((COMP_CWORD - ${depth}))`;
  return `case "${at} \${COMP_WORDS[${depth + 1}]} $previous" in
    "1 "*) words=${quoted(first.join(" "))} ;;
    ${cases.join("\n    ")}
  esac`;
}

function zshOf(program: CompletedCommand): string {
  const name = program.word;
  const completing = functionOf([name]);
  return `#compdef ${name}
# Completes ${name} in zsh. In ~/.zshrc, after compinit: source <(${name} completion zsh)
${zshFunctions(program, [name])}
compdef ${completing} ${name}`;
}

/** A function for a group, and before it those of the groups in it. */
function zshFunctions({ commands, options }: CompletedCommand, path: readonly string[]): string {
  const place = (value: Value | undefined): string =>
    value === undefined
      ? ""
      : `:${value === "file" ? "file:_files" : value === "anything" ? "value: " : `value:(${value.join(" ")})`}`;
  const optionsOf = (listed: readonly (Word & { readonly value?: Value | undefined })[]): string[] =>
    listed.map(({ word, means, value }) =>
      quoted(`${word}${value === undefined ? "" : "="}[${means.replaceAll(/[[\]\\:]/g, "\\$&")}]${place(value)}`),
    );
  const cases = commands.map(({ word, value, options: own, commands: inner }) => {
    if (inner.length > 0) return `${word}) ${functionOf([...path, word])} ;;`;
    const specs = [...optionsOf(own), ...(value === undefined ? [] : [quoted(`1${place(value)}`)])];
    return `${word}) ${specs.length === 0 ? ":" : `_arguments ${specs.join(" ")}`} ;;`;
  });
  const groups = commands.filter((command) => command.commands.length > 0);
  return `${groups.map((group) => `${zshFunctions(group, [...path, group.word])}\n`).join("")}${functionOf(path)}() {
  local context state state_descr line
  typeset -A opt_args
  local -a commands=(
    ${commands.map(({ word, means }) => quoted(`${word}:${means}`)).join("\n    ")}
  )
  _arguments -C ${optionsOf(options).join(" ")} '1:command:->command' '*::argument:->argument'
  case "$state" in
    command) _describe ${quoted(`${path.join(" ")} command`)} commands ;;
    argument)
      case "$line[1]" in
        ${cases.join("\n        ")}
      esac ;;
  esac
}`;
}

const functionOf = (path: readonly string[]): string => `_${path.join("_").replaceAll("-", "_")}`;

/** Quotes any text as one word of a shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
