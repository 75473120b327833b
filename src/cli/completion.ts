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

interface CompletedCommand extends Word {
  /** Its first argument, if it has one. */
  readonly value: Value | undefined;
  readonly options: readonly CompletedOption[];
}

interface Tree {
  readonly name: string;
  readonly commands: readonly CompletedCommand[];
  readonly options: readonly Word[];
}

function treeOf(program: CommandUnknownOpts): Tree {
  const helper = program.createHelp();
  const optionsOf = (command: CommandUnknownOpts): CompletedOption[] =>
    helper.visibleOptions(command).map((option) => ({
      word: option.long ?? option.flags,
      means: option.description,
      value: option.required ? completedBy(option.argChoices, option.flags) : undefined,
    }));
  const commands = helper.visibleCommands(program).map((command): CompletedCommand => {
    const [argument] = command.registeredArguments;
    // The library's own help command takes the name of another command.
    const isHelp = !program.commands.includes(command);
    const value = argument && completedBy(isHelp ? namesOf(program) : argument.argChoices, `<${argument.name()}>`);
    return { word: command.name(), means: command.description(), value, options: isHelp ? [] : optionsOf(command) };
  });
  return { name: program.name(), commands, options: optionsOf(program) };
}

const namesOf = (program: CommandUnknownOpts): string[] => program.commands.map((command) => command.name());

const completedBy = (choices: readonly string[] | undefined, flags: string): Value =>
  choices ?? (flags.includes("<file>") ? "file" : "anything");

/** Also works with the bash 3.2 of macOS. */
function bashOf({ name, commands, options }: Tree): string {
  const completing = functionOf(name);
  const answer = (value: Value): string =>
    value === "file" ? "files=yes" : value === "anything" ? "words=" : `words=${quoted(value.join(" "))}`;
  const first = [...commands, ...options].map(({ word }) => word);
  const cases = commands.flatMap((command) => [
    ...command.options.flatMap(({ word, value }) =>
      value === undefined ? [] : [`*" ${command.word} ${word}") ${answer(value)} ;;`],
    ),
    ...(command.value === undefined ? [] : [`"2 ${command.word} "*) ${answer(command.value)} ;;`]),
    `*" ${command.word} "*) words=${quoted(command.options.map(({ word }) => word).join(" "))} ;;`,
  ]);
  return `# Completes ${name} in bash. In ~/.bashrc: source <(${name} completion bash)
${completing}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD - 1]}" words= files=
  # bash takes --option=value for three words.
  if [[ $current == = ]]; then
    current=
  elif [[ $previous == = ]]; then
    previous="\${COMP_WORDS[COMP_CWORD - 2]}"
  fi
  case "$COMP_CWORD \${COMP_WORDS[1]} $previous" in
    "1 "*) words=${quoted(first.join(" "))} ;;
    ${cases.join("\n    ")}
  esac
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

function zshOf({ name, commands, options }: Tree): string {
  const completing = functionOf(name);
  const place = (value: Value | undefined): string =>
    value === undefined
      ? ""
      : `:${value === "file" ? "file:_files" : value === "anything" ? "value: " : `value:(${value.join(" ")})`}`;
  const optionsOf = (listed: readonly (Word & { readonly value?: Value | undefined })[]): string[] =>
    listed.map(({ word, means, value }) =>
      quoted(`${word}${value === undefined ? "" : "="}[${means.replaceAll(/[[\]\\:]/g, "\\$&")}]${place(value)}`),
    );
  const cases = commands.map(({ word, value, options: own }) => {
    const specs = [...optionsOf(own), ...(value === undefined ? [] : [quoted(`1${place(value)}`)])];
    return `${word}) ${specs.length === 0 ? ":" : `_arguments ${specs.join(" ")}`} ;;`;
  });
  return `#compdef ${name}
# Completes ${name} in zsh. In ~/.zshrc, after compinit: source <(${name} completion zsh)
${completing}() {
  local context state state_descr line
  typeset -A opt_args
  local -a commands=(
    ${commands.map(({ word, means }) => quoted(`${word}:${means}`)).join("\n    ")}
  )
  _arguments -C ${optionsOf(options).join(" ")} '1:command:->command' '*::argument:->argument'
  case "$state" in
    command) _describe ${quoted(`${name} command`)} commands ;;
    argument)
      case "$line[1]" in
        ${cases.join("\n        ")}
      esac ;;
  esac
}
compdef ${completing} ${name}`;
}

const functionOf = (name: string): string => `_${name.replaceAll("-", "_")}`;

/** Quotes any text as one word of a shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
