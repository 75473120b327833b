// A fault that a scan finds in a body. Pure.

/** The body is refused as the caller's mistake, with the field's name if known. */
export class BodyFault extends Error {
  override readonly name = "BodyFault";
  /** Path in proto names, such as "hardware_info.storage"; "" for the body as a whole. */
  readonly field: string;
  /** True if the message breaks the contract (a rule, an unknown name); false if the bytes are not a message at all. */
  readonly shape: boolean;

  constructor(field: string, description: string, shape: boolean) {
    super(description);
    this.field = field;
    this.shape = shape;
  }
}

/** For bytes that are not a message of the format. */
export const unreadable = (description: string, field = "") => new BodyFault(field, description, false);
/** For a message that the contract does not allow. */
export const notAllowedByContract = (field: string, description: string) => new BodyFault(field, description, true);

/** In the validator's own words, which a caller gets for counts just above the limit. */
export const tooManyOf = (field: string, max: number, map: boolean) =>
  notAllowedByContract(
    field,
    map ? `must contain no more than ${max} pair(s)` : `must contain no more than ${max} item(s)`,
  );

export const tooLong = (field: string, bytesMax: number) =>
  notAllowedByContract(field, `must not be as long as ${bytesMax} bytes`);

export const tooManyFields = (max: number) =>
  notAllowedByContract("", `The message holds more than ${max} fields: no request of this kind needs as many`);
