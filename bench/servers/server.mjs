// What every server of the measurements has in common: it tells its port, and its memory when asked.
export function present(port, metricsPort) {
  process.on("message", () => {
    // Twice: what the first collection finalises the second one frees.
    globalThis.gc();
    globalThis.gc();
    process.send(process.memoryUsage());
  });
  // It is not to outlive who started it.
  process.on("disconnect", () => process.exit());
  process.send({ port, metricsPort });
}

/** The node that references answer with, encoded: the same that the service answers with. */
export const nodeBytes = () => Buffer.from(process.env.NODE_MESSAGE ?? "", "base64");
