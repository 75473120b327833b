// lucid-node simulate: many nodes in one process, with a live line of counts.
import { isatty } from "node:tty";
import { parseArgs } from "node:util";
import { simulate as runSimulation, type SimulationCounts } from "../agent/simulate.js";
import { systemClock, systemRandom } from "../clock.js";
import { readClientTokens } from "../settings/settings.js";
import { standardSink } from "../telemetry/sink.js";
import { visible } from "../telemetry/visible.js";
import { type Command, serverOption, UsageError, wholeNumber } from "./command.js";
import { untilSignalled } from "./service.js";

export const simulate: Command = {
  summary: "run many simulated nodes in one process",
  usage:
    "lucid-node simulate --nodes N --server URL [--token ADMIN_TOKEN] [--prefix NAME] [--streams-per-connection N]\n" +
    "The token may come in the environment as LUCID_TOKEN.",
  run: async (arguments_) => {
    const { values } = parseArgs({
      args: [...arguments_],
      options: {
        nodes: { type: "string", default: "10" },
        server: { type: "string" },
        token: { type: "string" },
        prefix: { type: "string", default: "sim" },
        "streams-per-connection": { type: "string", default: "100" },
      },
    });
    const adminToken = values.token ?? readClientTokens().token;
    const baseUrl = serverOption(values.server);
    if (adminToken === undefined) throw new UsageError("--token or LUCID_TOKEN is required: an admin's token");
    const counts = await runSimulation(
      {
        baseUrl,
        adminToken,
        nodes: wholeNumber("nodes", values.nodes, 1, 100_000),
        prefix: values.prefix,
        streamsPerConnection: wholeNumber("streams-per-connection", values["streams-per-connection"], 1, 1000),
        clock: systemClock,
        random: systemRandom,
        onCounts: (counts) => show(counts),
      },
      untilSignalled(),
    );
    standardSink(1).write("\n");
    return counts.refused === 0 ? 0 : 1;
  },
};

/** One line that is written over on a terminal, one line a second elsewhere. */
function show(counts: SimulationCounts): void {
  const { created, connected, connecting, waiting, refused, acknowledged, reconnects, lastError } = counts;
  const text =
    `created ${created} connected ${connected} connecting ${connecting} waiting ${waiting} refused ${refused} ` +
    `beats ${acknowledged} reconnects ${reconnects}${lastError === "" ? "" : ` last error: ${lastError.slice(0, 60)}`}`;
  standardSink(1).write(isatty(1) ? `\r\x1b[2K${visible(text)}` : `${visible(text)}\n`);
}
