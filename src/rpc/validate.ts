// Checks every request message against the rules in the .proto files, before a handler sees it.
import {
  create,
  type DescField,
  type DescMessage,
  type DescService,
  type Message,
  type MessageShape,
} from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator, type Validator, type Violation } from "@bufbuild/protovalidate";
import { Failure, type FieldViolation } from "../failure.js";

/**
 * A hand-written check for a message that arrives too often for the general validator.
 * Returns the violations (`[]` if there are none), or undefined to leave this message to the validator.
 */
export type PlainCheck = (message: Message) => readonly FieldViolation[] | undefined;

export interface Validation {
  /** @throws Failure 4001 that names each violation, in the schema's words */
  check(schema: DescMessage, message: Message): void;
  /** Compiles the rules of all request types now. Otherwise the first message of a type would wait up to 100 ms. */
  warmUp(services: readonly DescService[]): void;
}

export interface ValidationOptions {
  /** By message type name. */
  readonly plain?: ReadonlyMap<string, PlainCheck>;
}

/** An entry of `plain`, with the message typed. */
export function plainCheck<Desc extends DescMessage>(
  schema: Desc,
  check: (message: MessageShape<Desc>) => readonly FieldViolation[] | undefined,
): [string, PlainCheck] {
  return [schema.typeName, (message) => check(message as MessageShape<Desc>)];
}

export function createValidation(options: ValidationOptions = {}): Validation {
  const validator = createValidator();
  return {
    check: (schema, message) => {
      const violations = options.plain?.get(schema.typeName)?.(message) ?? violationsOf(validator, schema, message);
      if (violations.length > 0) throw refusal(violations);
    },
    warmUp: (services) => {
      const inputs = services.flatMap((service) => service.methods.map(({ input }) => input));
      for (const schema of withinAll(inputs)) {
        const result = validator.validate(schema, create(schema));
        if (result.kind === "error") throw result.error;
      }
    },
  };
}

/** These message types and those that their fields may hold, which an empty message does not reach. */
function withinAll(schemas: Iterable<DescMessage>): Set<DescMessage> {
  const found = new Set(schemas);
  for (const { fields } of found) {
    for (const field of fields) {
      const inner = "message" in field ? field.message : undefined;
      if (inner !== undefined) found.add(inner);
    }
  }
  return found;
}

function violationsOf(validator: Validator, schema: DescMessage, message: Message): readonly FieldViolation[] {
  const result = validator.validate(schema, message);
  if (result.kind === "error") throw result.error;
  return result.kind === "valid" ? [] : result.violations.map((violation) => toFieldViolation(schema, violation));
}

function toFieldViolation(root: DescMessage, violation: Violation): FieldViolation {
  const path = pathToString(violation.field);
  // A rule on several fields names the field at fault at the start of its text: "scaling_policy: is required".
  const named = /^([a-z][a-z0-9_]*): (.+)$/s.exec(violation.message);
  const [, name = "", description = ""] = named ?? [];
  const field = messageAt(root, violation).fields.find((candidate) => candidate.name === name);
  if (!field) return { field: path, description: violation.message };
  return { field: path === "" ? name : `${path}.${name}`, description };
}

/** The message type at the end of the violation's path. */
function messageAt(root: DescMessage, violation: Violation): DescMessage {
  const last = violation.field.findLast((step): step is DescField => step.kind === "field");
  return last?.message ?? root;
}

function refusal(violations: readonly FieldViolation[]): Failure {
  const text = violations.map(({ field, description }) => (field === "" ? description : `${field}: ${description}`));
  return new Failure("LUCID_ERR_4001", text.join("; "), { violations });
}
