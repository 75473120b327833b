// Pure. What keeps the process from its work and an operator can remove.

/**
 * The message is one sentence, or a list of them, that names the file, folder or setting and the remedy. The command line
 * prints it and ends with exit code 1, so it holds nothing of what a file with secrets contains.
 */
export class StartError extends Error {
  override readonly name: string = "StartError";
}
