// PyPI's grpcio, in one Python process. Lines of JSON tell it what to call.
import { startProgram } from "../process.js";
import { createInbox, type Detail, type ForeignClient, type Json, type Kind, refusalOf } from "./client.js";

const root = new URL("../../..", import.meta.url).pathname;

interface Refused {
  readonly code: string;
  readonly message: string;
  readonly details: readonly Detail[];
}

/** One line of the Python process. */
interface Answer {
  readonly response?: Json;
  readonly refusal?: Refused;
  readonly message?: Json;
  readonly end?: Refused;
  readonly services?: string[];
  readonly status?: string;
}

export interface PythonClient extends ForeignClient {
  /** What reflection lists. */
  services(): Promise<string[]>;
  /** The status's name by grpc.health.v1. */
  health(service: string): Promise<string>;
}

export async function openPython(python: string, port: number): Promise<PythonClient> {
  const program = startProgram(python, [
    "-u",
    `${root}/test/e2e/python_client.py`,
    `127.0.0.1:${port}`,
    `${root}/proto`,
  ]);
  await program.printed(/^ready\n/, 60_000);
  const answers = new Map<number, ReturnType<typeof createInbox<Answer>>>();
  let read = program.stdout.indexOf("\n") + 1;
  let asked = 0;
  const listen = async (): Promise<void> => {
    for (;;) {
      await program.printed(new RegExp(`^[^]{${read}}[^\\n]*\\n`), 3_600_000);
      const end = program.stdout.indexOf("\n", read);
      const answer: Answer & { readonly id: number } = JSON.parse(program.stdout.slice(read, end));
      read = end + 1;
      const inbox = answers.get(answer.id);
      if (answer.end === undefined) inbox?.put(answer);
      else inbox?.finish(answer.end.code === "OK" ? undefined : new Error(JSON.stringify(answer.end)));
    }
  };
  listen().catch((error: unknown) => {
    for (const inbox of answers.values()) inbox.finish(error);
  });
  const say = (words: object) => program.write(`${JSON.stringify(words)}\n`);
  const begin = (words: object) => {
    const id = ++asked;
    const inbox = createInbox<Answer>();
    answers.set(id, inbox);
    say({ id, ...words });
    return { id, inbox };
  };
  const ask = (words: object): Promise<Answer> => begin(words).inbox.take();

  return {
    call: async (method, request, headers) => {
      const { response = {}, refusal } = await ask({ do: "call", method, request, headers });
      if (refusal === undefined) return { response };
      return { refusal: refusalOf(refusal.code, refusal.message, refusal.details) };
    },
    heartbeat: (headers) => {
      const { id, inbox } = begin({ do: "open", headers });
      return {
        send: (message) => say({ id, do: "send", message }),
        next: async () => (await inbox.take()).message ?? {},
        end: async () => {
          say({ id, do: "end" });
          await inbox.take().then(
            ({ message }) => {
              throw new Error(`a message instead of the end: ${JSON.stringify(message)}`);
            },
            (error: Error) => {
              if (!error.message.includes("ended OK")) throw error;
            },
          );
        },
      };
    },
    services: async () => (await ask({ do: "services" })).services ?? [],
    health: async (service) => (await ask({ do: "health", service })).status ?? "",
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  };
}

export const pythonKind = (python: string): Kind => ({
  name: "grpcio",
  streams: true,
  open: (port) => openPython(python, port),
});
