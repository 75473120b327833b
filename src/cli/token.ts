// lucid-node token: prints a token, signed with the service's own key, and nothing else.
import { parseArgs } from "node:util";
import type { TokenType } from "../access/jwt.js";
import { nodeRoles, type Role, serviceRoles } from "../access/permission.js";
import { parseSettings, readEnvironment } from "../settings/settings.js";
import { type Command, UsageError, wholeNumber } from "./command.js";
import { answer } from "./output.js";
import { signLocally } from "./sign.js";

const roles: readonly Role[] = [...nodeRoles, ...serviceRoles];

export const token: Command = {
  summary: "print an access token, or with --enrollment an enrolment token for a node",
  usage: `lucid-node token --role ${roles.join("|")} [--node-id NODE] [--subject NAME] [--ttl SECONDS] [--enrollment]`,
  run: async (arguments_) => {
    const { values } = parseArgs({
      args: [...arguments_],
      options: {
        role: { type: "string" },
        "node-id": { type: "string" },
        subject: { type: "string" },
        ttl: { type: "string" },
        enrollment: { type: "boolean", default: false },
      },
    });
    const role = roles.find((known) => known === (values.role ?? (values.enrollment ? "worker" : undefined)));
    if (role === undefined) throw new UsageError(`--role is one of ${roles.join(", ")}`);
    const nodeId = values["node-id"];
    const forNode = (nodeRoles as readonly Role[]).includes(role);
    if (forNode !== (nodeId !== undefined)) throw new UsageError("--node-id goes with node roles, and only with them");
    const tokenType: TokenType = values.enrollment ? "node_enrollment" : forNode ? "node_access" : "service_access";
    const settings = parseSettings(readEnvironment());
    const ttlSecondsMax = settings.tokenTtlMaxMs / 1000;
    const usual = String(Math.min(values.enrollment ? 900 : 3600, ttlSecondsMax));
    const ttlSeconds = wholeNumber("ttl", values.ttl ?? usual, 1, ttlSecondsMax);
    const holder = { subject: values.subject ?? nodeId ?? `cli-${role}`, role, nodeId, tokenType };
    return answer(await signLocally(settings, holder, ttlSeconds));
  },
};
