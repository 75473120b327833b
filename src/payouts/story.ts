// The story of every payout, batch and act on sending: each step writes its entry into its own document, and this moves
// the entries into the log, where each has one fixed id. So none is lost and none is there twice. Acts of people go into
// the audit log as well.
import type { Clock } from "../clock.js";
import { present } from "../present.js";
import type { CollectionDefinition, Cursor, Page, Store } from "../storage/collection.js";
import { type Next, type Outage, turns } from "../task.js";
import type { BatchDocument, Entry, PayoutDocument, SendingDocument } from "./document.js";
import type { PayoutRepository } from "./repository.js";

export interface EventDocument extends Entry {
  /** `{subject}:{version}`. */
  readonly _id: string;
  /** The payout or batch, or `sending`. */
  readonly subject: string;
}

export const payoutEventsCollection: CollectionDefinition = {
  name: "payout_events",
  durability: "durable",
  dates: ["at"],
  indexes: [{ name: "idx_subject", key: ["subject", "version"] }],
};

/** An act of a person on money. Its id is the event's, so that it is recorded once however often it is told. */
export interface Act {
  readonly id: string;
  readonly at: Date;
  readonly actor: string;
  /** Such as `payout.cancel`. */
  readonly action: string;
  /** What was acted on: the id of a payout or batch, or `sending`. */
  readonly target: string;
  readonly reason?: string;
  readonly requestId?: string;
  readonly transactionHash?: string;
}

type Telling = PayoutDocument | BatchDocument | SendingDocument;

/** Documents whose entries are moved in one turn. */
const pageMax = 200;
const everyMs = 1_000;

export type Story = Awaited<ReturnType<typeof createStory>>;

export async function createStory(parts: {
  readonly store: Store;
  readonly repository: PayoutRepository;
  /** Records acts; an act whose id is there already is skipped. */
  readonly record: (acts: readonly Act[]) => Promise<void>;
  readonly clock: Clock;
  readonly away: Outage;
}) {
  const { repository } = parts;
  const events = await parts.store.collection<EventDocument>(payoutEventsCollection);

  const move = async (documents: readonly Telling[]): Promise<void> => {
    const told = documents.flatMap((document) =>
      document.entries.map((entry) => ({ event: eventOf(document._id, entry), act: actOf(document, entry) })),
    );
    // The log first: after a crash here the entries are still in their documents, and are told again under the same ids.
    for (let from = 0; from < told.length; from += 1000) {
      const page = told.slice(from, from + 1000);
      await events.insertMany(page.map(({ event }) => event));
      const acts = page.flatMap(({ act }) => act ?? []);
      if (acts.length > 0) await parts.record(acts);
    }
    await repository.forgetEntries(documents);
  };

  const turn = async (): Promise<Next> => {
    const documents = await repository.unmoved(pageMax);
    if (documents.length > 0) await move(documents);
    return documents.length >= pageMax ? "at once" : undefined;
  };

  return {
    task: turns({ clock: parts.clock, everyMs, turn, away: parts.away }).task,
    /** The events of a payout or batch, oldest first, up to its last step. */
    list: async (
      document: PayoutDocument | BatchDocument,
      query: { readonly limit: number; readonly skip: number; readonly after?: Cursor | undefined },
    ): Promise<Page<EventDocument>> => {
      if (document.entries.length > 0) await move([document]);
      return events.page({ subject: document._id }, { index: "idx_subject", ...query });
    },
    countOf: (subject: string): Promise<number> => events.count({ subject }, { index: "idx_subject", max: 10_000 }),
  };
}

/** The version has a fixed width, so that ids sort as versions do. */
const idOf = (subject: string, version: number): string => `${subject}:${String(version).padStart(8, "0")}`;

const eventOf = (subject: string, entry: Entry): EventDocument => ({
  _id: idOf(subject, entry.version),
  subject,
  ...entry,
});

/**
 * What people do, by the step that it makes. All other steps are a worker's. The actor does not tell them apart: a caller
 * may have any name.
 */
const acts: Readonly<Record<string, string>> = {
  ...{ create: "create", approve: "approve", reject: "reject", cancel: "cancel", ask: "cancel" },
  ...{ pause: "pause", resume: "resume", reconcile: "reconcile", "accept transfer": "accept_transfer" },
};

/** The act of a person behind an entry; undefined for a worker's step, and for what follows from an act on a batch. */
function actOf(document: Telling, entry: Entry): Act | undefined {
  const { version, at, actor, step, reason, request_id: requestId, txid } = entry;
  const isNew = step === "create";
  if (isNew && "batch_index" in document) return undefined;
  const [kind] = document._id.split("_");
  const act = isNew && "retry_of" in document ? "retry" : acts[step];
  if (act === undefined) return undefined;
  const id = idOf(document._id, version);
  const told = { id, at, actor, action: `${kind}.${act}`, target: document._id };
  return present({ ...told, reason, requestId, transactionHash: txid }) as Act;
}
