// The requirements of each RPC for its caller, stated beside the RPCs and checked for completeness at start.
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type { Policy } from "../access/permission.js";

/** By procedure, such as "/lucid.node.v1.NodeService/GetNode". */
export type Policies = ReadonlyMap<string, Policy>;

/** The request path of an RPC. */
export function procedureOf(method: DescMethod): string {
  let procedure = procedures.get(method);
  if (procedure === undefined) {
    procedure = `/${method.parent.typeName}/${method.name}`;
    procedures.set(method, procedure);
  }
  return procedure;
}
const procedures = new WeakMap<DescMethod, string>();

/** The policies of one service, one per RPC. A missing one does not compile. */
export function policiesOf<Service extends DescService>(
  service: Service,
  byMethod: { readonly [Name in keyof Service["method"]]: Policy },
): Policies {
  const table: Readonly<Record<string, Policy>> = byMethod;
  return new Map(
    service.methods.flatMap((method): [string, Policy][] => {
      const policy = table[method.localName];
      return policy ? [[procedureOf(method), policy]] : [];
    }),
  );
}

/** Throws, listing every fault, unless each RPC of the services has a policy that can be enforced. */
export function assertPolicies(services: readonly DescService[], policies: Policies): void {
  const faults = services.flatMap((service) =>
    service.methods.flatMap((method) => {
      const fault = faultOf(method, policies.get(procedureOf(method)));
      return fault === undefined ? [] : [`${procedureOf(method)}: ${fault}`];
    }),
  );
  if (faults.length > 0) throw new Error(`RPC policies are incomplete:\n${faults.join("\n")}`);
}

function faultOf(method: DescMethod, policy: Policy | undefined): string | undefined {
  if (!policy) return "no policy is stated";
  if (policy.nodeToken !== "self") return undefined;
  if (method.methodKind !== "unary") return "`self` is checked on unary requests only; let the handler judge";
  const names = method.input.fields.some((field) => field.name === "node_id" && field.fieldKind === "scalar");
  return names ? undefined : "`self` needs a request field node_id";
}
