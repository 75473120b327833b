// Drops undefined fields. Pure.

type Undefinable<T> = { [Field in keyof T]-?: undefined extends T[Field] ? Field : never }[keyof T];
type Present<T> = Omit<T, Undefinable<T>> & { [Field in Undefinable<T>]?: Exclude<T[Field], undefined> };

/** The fields except undefined ones: neither the store nor a generated message accepts an undefined field. */
export const present = <T extends object>(fields: T): Present<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Present<T>;
