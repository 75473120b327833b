// A terminal that keeps what a command says to it, and answers questions as the test wants.
import type { Terminal } from "../../../src/cli/terminal.js";

export interface KeptTerminal extends Terminal {
  /** Results, in order. */
  readonly answers: string[];
  /** Lines for people. */
  readonly told: string[];
  readonly progressed: string[];
  readonly questions: string[];
}

/** `says` answers every question; without it nobody can be asked. */
export function keptTerminal(says?: boolean): KeptTerminal {
  const [answers, told, progressed, questions]: [string[], string[], string[], string[]] = [[], [], [], []];
  return {
    ...{ answers, told, progressed, questions },
    answer: (text) => {
      answers.push(text);
      return 0;
    },
    tell: (line) => void told.push(line),
    progress: (line) => void progressed.push(line),
    confirm: (question) => {
      questions.push(question);
      return says === undefined ? undefined : Promise.resolve(says);
    },
  };
}
