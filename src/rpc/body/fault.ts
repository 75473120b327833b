// What a scan finds wrong with a body. Pure.

/** The body is refused: the caller's mistake, named by the field where that is known. */
export class BodyFault extends Error {
  override readonly name = "BodyFault";
  /** Path in proto names, such as "hardware_info.storage"; "" for the body as a whole. */
  readonly field: string;
  /** What the contract says about shape (a rule, an unknown name), in contrast to bytes that are no message at all. */
  readonly shape: boolean;

  constructor(field: string, description: string, shape: boolean) {
    super(description);
    this.field = field;
    this.shape = shape;
  }
}

/** Bytes that are no message of the format. */
export const unreadable = (description: string, field = "") => new BodyFault(field, description, false);
/** A message that the contract does not allow. */
export const notAllowedByContract = (field: string, description: string) => new BodyFault(field, description, true);

/** In the validator's own words, which a caller meets for counts just beyond the rule. */
export const tooManyOf = (field: string, max: number, map: boolean) =>
  notAllowedByContract(
    field,
    map ? `must contain no more than ${max} pair(s)` : `must contain no more than ${max} item(s)`,
  );

export const tooLong = (field: string, bytesMax: number) =>
  notAllowedByContract(field, `must not be as long as ${bytesMax} bytes`);

export const tooManyFields = (max: number) =>
  notAllowedByContract("", `The message holds more than ${max} fields: no request of this kind needs as many`);
