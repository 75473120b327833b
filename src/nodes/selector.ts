// Label selectors: terms joined by commas, all of which must hold. A label's key is stored as wire.ts writes it.
import { malformed } from "../failure.js";
import type { Filter } from "../storage/collection.js";
import { storeLabelKey } from "./wire.js";

const term =
  /^(?:(!)?([a-zA-Z0-9](?:[a-zA-Z0-9._/-]*[a-zA-Z0-9])?)|([a-zA-Z0-9](?:[a-zA-Z0-9._/-]*[a-zA-Z0-9])?)(==?|!=)([a-zA-Z0-9._-]*))$/;

/** `key=value`, `key!=value` (also where the key is missing), `key`, `!key`. Undefined for an empty one. @throws Failure 4001 */
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

const path = (key: string) => `labels.${storeLabelKey(key)}`;
