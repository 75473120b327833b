// The subcommands of lucid-node payouts and their options.
import { Argument, type Command, Option } from "@commander-js/extra-typings";
import { examples, required, server } from "../options.js";
import { wholeNumber } from "../usage.js";

type End = (code: number) => void;

const id = () => new Argument("<id>", "the id of a payout or a batch");
const currencies = ["USDT", "LUCID"] as const;
const statuses = ["PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED"] as const;
const priorities = ["LOW", "NORMAL", "HIGH", "URGENT"] as const;

/** A subcommand with what each takes: where the service is, as whom to call it, and the form of the answer. */
const subcommand = (group: Command, name: string) =>
  group
    .command(name)
    .addOption(server().default(undefined, "the address in HOST and PORT"))
    .addOption(new Option("--token <token>", "an access token").default(undefined, "LUCID_TOKEN in the environment"))
    .addOption(new Option("--json", "print one JSON document").default(false));

const nodeId = () => new Option("--node-id <node>", "the node that is paid");
const priority = () =>
  new Option("--priority <priority>", "which payouts are taken first").choices(priorities).default(undefined, "NORMAL");
const scheduledAt = () =>
  new Option("--scheduled-at <time>", "wait until then, such as 2026-03-01T12:00:00Z").default(undefined, "at once");
const key = () =>
  new Option("--key <key>", "one payout for each key, for ever: repeats a run safely").default(
    undefined,
    "a new one, printed",
  );
const wait = () =>
  new Option("--wait", "wait until all is done; only then, and paid, the exit code is 0").default(false);

/** Adds the group with all its subcommands. */
export function addPayoutCommands(program: Command, end: End): void {
  const group = program
    .command("payouts")
    .description("pay nodes: order, look, approve, cancel, and settle doubts")
    .helpCommand(false)
    .addHelpText(
      "after",
      examples(
        "export LUCID_TOKEN=$(lucid-node token --role payer --subject NAME)",
        "lucid-node payouts batch march.csv",
        "lucid-node help payouts batch",
      ),
    );
  for (const add of [
    addList,
    addShow,
    addCreate,
    addBatch,
    addApprove,
    addReject,
    addCancel,
    addRetry,
    addQueue,
    addPause,
    addResume,
    addReconcile,
    addAccept,
  ])
    add(group, end);
}

const addList = (group: Command, end: End) =>
  subcommand(group, "list")
    .description("list payouts, the newest first")
    .addOption(new Option("--node-id <node>", "of this node").default(undefined, "any"))
    .addOption(new Option("--batch-id <batch>", "of this batch").default(undefined, "any or none"))
    .addOption(new Option("--status <status>", "in this status").choices(statuses).default(undefined, "any"))
    .addOption(new Option("--currency <currency>", "in this currency").choices(currencies).default(undefined, "any"))
    .addOption(new Option("--since <time>", "created then or later").default(undefined, "from the first"))
    .addOption(new Option("--until <time>", "created before then").default(undefined, "until now"))
    .addOption(
      new Option("--limit <count>", "how many at most, 1 to 10000")
        .argParser((text) => wholeNumber("limit", text, 1, 10_000))
        .default(20),
    )
    .addHelpText("after", examples("lucid-node payouts list --status FAILED --since 2026-03-01T00:00:00Z"))
    .action(async (options) => end(await (await import("./reading.js")).list(options)));

const addShow = (group: Command, end: End) =>
  subcommand(group, "show")
    .description("tell the story of a payout step by step, or the sums of a batch")
    .addArgument(id())
    .addHelpText("after", examples("lucid-node payouts show PAYOUT"))
    .action(async (named, options) => end(await (await import("./reading.js")).show(named, options)));

const addCreate = (group: Command, end: End) =>
  subcommand(group, "create")
    .description("order one payout")
    .addOption(nodeId().default(undefined, required))
    .addOption(
      new Option("--currency <currency>", "in which it is paid").choices(currencies).default(undefined, required),
    )
    .addOption(new Option("--amount <amount>", "whole tokens, such as 12.5").default(undefined, required))
    .addOption(new Option("--wallet <address>", "where to").default(undefined, "the node's payout address"))
    .addOption(priority())
    .addOption(scheduledAt())
    .addOption(key())
    .addOption(wait())
    .addHelpText("after", examples("lucid-node payouts create --node-id NODE --currency USDT --amount 12.5 --wait"))
    .action(async (options) => end(await (await import("./paying.js")).create(options)));

const addBatch = (group: Command, end: End) =>
  subcommand(group, "batch")
    .description("order the payouts of a CSV or JSON file, all or none; without --yes show what it would pay, then ask")
    .addArgument(new Argument("<file>", "node_id,currency,amount and, if wanted, wallet_address"))
    .addOption(
      new Option("--batch-id <batch>", "one batch for each id, for ever").default(
        undefined,
        "follows from the payouts",
      ),
    )
    .addOption(priority())
    .addOption(scheduledAt())
    .addOption(new Option("--yes", "send it without asking").default(false))
    .addOption(wait())
    .addHelpText(
      "after",
      examples("lucid-node payouts batch march.csv", "lucid-node payouts batch march.csv --yes --wait --json"),
    )
    .action(async (file, options) => end(await (await import("./paying.js")).batch(file, options)));

const addApprove = (group: Command, end: End) =>
  subcommand(group, "approve")
    .description("let a payout or a batch go on that waits for a second person")
    .addArgument(id())
    .addOption(new Option("--note <text>", "for the record").default(undefined, "none"))
    .addHelpText("after", examples('lucid-node payouts approve BATCH --note "agreed with the board"'))
    .action(async (named, options) => end(await (await import("./deciding.js")).approve(named, options)));

const addReject = (group: Command, end: End) =>
  subcommand(group, "reject")
    .description("cancel a payout or a batch that waits for a second person")
    .addArgument(id())
    .addOption(new Option("--reason <text>", "why, for the record").default(undefined, required))
    .addHelpText("after", examples('lucid-node payouts reject BATCH --reason "the month is wrong"'))
    .action(async (named, options) => end(await (await import("./deciding.js")).reject(named, options)));

const addCancel = (group: Command, end: End) =>
  subcommand(group, "cancel")
    .description("ask that a payout, or each payout of a batch, is not made")
    .addArgument(id())
    .addHelpText("after", examples("lucid-node payouts cancel PAYOUT"))
    .action(async (named, options) => end(await (await import("./deciding.js")).cancel(named, options)));

const addRetry = (group: Command, end: End) =>
  subcommand(group, "retry")
    .description("order a new payout in place of a failed one")
    .addArgument(new Argument("<payout>", "the id of the failed payout"))
    .addOption(key())
    .addOption(wait())
    .addHelpText("after", examples("lucid-node payouts retry PAYOUT --wait"))
    .action(async (named, options) => end(await (await import("./paying.js")).retry(named, options)));

const addQueue = (group: Command, end: End) =>
  subcommand(group, "queue")
    .description("show how many payouts are on their way, what holds them, and what a person has to look at")
    .addHelpText("after", examples("lucid-node payouts queue"))
    .action(async (options) => end(await (await import("./reading.js")).queue(options)));

const addPause = (group: Command, end: End) =>
  subcommand(group, "pause")
    .description("stop sending; what was sent is still watched")
    .addOption(new Option("--reason <text>", "why, for the record").default(undefined, required))
    .addHelpText("after", examples('lucid-node payouts pause --reason "the wallet moves to another key"'))
    .action(async (options) => end(await (await import("./deciding.js")).pause(options)));

const addResume = (group: Command, end: End) =>
  subcommand(group, "resume")
    .description("end the pause")
    .addHelpText("after", examples("lucid-node payouts resume"))
    .action(async (options) => end(await (await import("./deciding.js")).resume(options)));

const addReconcile = (group: Command, end: End) =>
  subcommand(group, "reconcile")
    .description("compare the transfers of all wallets with the records; only without a difference the exit code is 0")
    .addHelpText("after", examples("lucid-node payouts reconcile"))
    .action(async (options) => end(await (await import("./reading.js")).reconcile(options)));

const addAccept = (group: Command, end: End) =>
  subcommand(group, "accept")
    .description("accept an unknown transfer, so that it no longer holds sending")
    .addArgument(new Argument("<transaction>", "its hash"))
    .addOption(new Option("--note <text>", "what it was and who knows, for the record").default(undefined, required))
    .addHelpText("after", examples('lucid-node payouts accept HASH --note "moved to cold storage by NAME"'))
    .action(async (hash, options) => end(await (await import("./deciding.js")).accept(hash, options)));
