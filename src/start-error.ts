// Pure. An error at start that an operator can fix.

/**
 * The message is one sentence, or a list of sentences, that names the file, folder or setting and the remedy. The
 * command line prints it and exits with code 1, so the message never quotes a file that may hold secrets.
 */
export class StartError extends Error {
  override readonly name: string = "StartError";
}
