// Fields that are there. Pure.

type Undefinable<T> = { [Field in keyof T]-?: undefined extends T[Field] ? Field : never }[keyof T];
type Present<T> = Omit<T, Undefinable<T>> & { [Field in Undefinable<T>]?: Exclude<T[Field], undefined> };

/** The fields without those whose value is undefined: neither the store nor a generated message takes an undefined one. */
export const present = <T extends object>(fields: T): Present<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Present<T>;
