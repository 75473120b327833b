// Common to all measured servers: reports the port, and the memory when asked.
export function present(port, metricsPort) {
  process.on("message", () => {
    // Twice: the second collection frees what the first one finalised.
    globalThis.gc();
    globalThis.gc();
    process.send(process.memoryUsage());
  });
  // Exits with the process that started it.
  process.on("disconnect", () => process.exit());
  process.send({ port, metricsPort });
}

/** The encoded node in the references' answers: the same as in the service's. */
export const nodeBytes = () => Buffer.from(process.env.NODE_MESSAGE ?? "", "base64");
