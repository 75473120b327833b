// The last line of a run, in words that any reader of logs understands.
import type { Reporter, TestModule } from "vitest/node";

export default class Summary implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const count = (state: string) => tests.filter((test) => test.result().state === state).length;
    // A file that could not be read has no tests that could fail: the file counts as one failure.
    const broken = modules.filter((module) => module.state() === "failed" && module.errors().length > 0).length;
    const again = tests.filter((test) => (test.diagnostic()?.retryCount ?? 0) > 0);
    for (const { fullName, project } of again) process.stdout.write(`tried twice (${project.name}): ${fullName}\n`);
    const engines = new Set(modules.map(({ project }) => project.name));
    process.stdout.write(`engines: ${[...engines].join("; ")}\n`);
    process.stdout.write(
      `${count("passed")} passed, ${count("failed") + broken} failed, ${count("skipped")} skipped\n`,
    );
  }
}
