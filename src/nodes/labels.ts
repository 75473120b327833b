// Labels as stored, and label selectors: terms joined by commas, which must all hold. Pure.
import { malformed } from "../failure.js";
import type { Filter } from "../storage/collection.js";

const term =
  /^(?:(!)?([a-zA-Z0-9](?:[a-zA-Z0-9._/-]*[a-zA-Z0-9])?)|([a-zA-Z0-9](?:[a-zA-Z0-9._/-]*[a-zA-Z0-9])?)(==?|!=)([a-zA-Z0-9._-]*))$/;

/**
 * `key=value`, `key!=value` (also true when the key is missing), `key`, `!key`. Undefined for an empty selector.
 * @throws Failure 4001
 */
export function labelFilter(selector: string): Filter | undefined {
  if (selector.trim() === "") return undefined;
  const conditions = selector.split(",").map((text): Filter => {
    const [, not, present, key, operator, value] = term.exec(text.trim()) ?? [];
    if (present !== undefined) return { [path(present)]: { $exists: not === undefined } };
    if (key !== undefined && value !== undefined) {
      return { [path(key)]: operator === "!=" ? { $ne: value } : value };
    }
    throw malformed({
      field: "label_selector",
      description: `"${text.trim().slice(0, 100)}" is not key, !key, key=value or key!=value`,
    });
  });
  return { $and: conditions };
}

/**
 * In the store a dot would be a path and a key of digits a position in a list. So "~" replaces each dot and "@" goes
 * before every key. Callers can write neither.
 */
export const storeLabels = (labels: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(labels).map(([key, value]) => [storeLabelKey(key), value]));
const storeLabelKey = (key: string): string => `@${key.replaceAll(".", "~")}`;
export const labelKeyOf = (stored: string): string => stored.slice(1).replaceAll("~", ".");

const path = (key: string) => `labels.${storeLabelKey(key)}`;
