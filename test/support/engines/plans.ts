// What a query plan of the embedded store must not hold.

/** The fault in a statement's EXPLAIN QUERY PLAN: a sort of its own, or a scan where it could seek; else undefined. */
export function planFault(sql: string, plan: readonly string[]): string | undefined {
  const fault = plan.find((line) => line.includes("USE TEMP B-TREE") || isScan(line, sql));
  return fault && `${fault}: ${sql}`;
}

/** A walk through a whole index in its order is no fault when no equality narrows it. */
function isScan(line: string, sql: string): boolean {
  // The result of a subquery is no table: another line of the plan says how it is found.
  if (!line.startsWith("SCAN") || /^SCAN (CONSTANT|\(subquery)/.test(line)) return false;
  return !line.includes("USING INDEX") && !line.includes("USING COVERING INDEX") ? true : sql.includes(" IS ?");
}
