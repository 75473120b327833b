// lucid-node simulate: many nodes in one process, with a live line of counts.
import { isatty } from "node:tty";
import { simulate as runSimulation, type SimulationCounts } from "../agent/simulate.js";
import { systemClock, systemRandom } from "../clock.js";
import { readClientTokens } from "../settings/environment.js";
import { standardSink } from "../telemetry/sink.js";
import { visible } from "../telemetry/visible.js";
import { untilSignalled } from "./service.js";
import { UsageError } from "./usage.js";

export interface SimulateOptions {
  readonly server: string;
  readonly nodes: number;
  /** The environment's when absent. */
  readonly token?: string | undefined;
  readonly prefix: string;
  readonly streamsPerConnection: number;
}

/** Returns the exit code. @throws UsageError without a token */
export async function simulate({ server, token, ...options }: SimulateOptions): Promise<number> {
  const adminToken = token ?? readClientTokens().token;
  if (adminToken === undefined) throw new UsageError("--token or LUCID_TOKEN is required: an admin's token");
  const counts = await runSimulation(
    {
      ...options,
      baseUrl: server,
      adminToken,
      clock: systemClock,
      random: systemRandom,
      onCounts: (counts) => show(counts),
    },
    untilSignalled(),
  );
  standardSink(1).write("\n");
  return counts.refused === 0 ? 0 : 1;
}

/** On a terminal one line that is overwritten, elsewhere one line a second. */
function show(counts: SimulationCounts): void {
  const { created, connected, connecting, waiting, refused, acknowledged, reconnects, lastError } = counts;
  const text =
    `created ${created} connected ${connected} connecting ${connecting} waiting ${waiting} refused ${refused} ` +
    `beats ${acknowledged} reconnects ${reconnects}${lastError === "" ? "" : ` last error: ${lastError.slice(0, 60)}`}`;
  standardSink(1).write(isatty(1) ? `\r\x1b[2K${visible(text)}` : `${visible(text)}\n`);
}
