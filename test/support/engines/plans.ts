// What a query plan of the embedded store must not hold.

/** The fault of a statement by its EXPLAIN QUERY PLAN, or undefined: a sort of its own, or a scan where it could seek. */
export function planFault(sql: string, plan: readonly string[]): string | undefined {
  const fault = plan.find((line) => line.includes("USE TEMP B-TREE") || isScan(line, sql));
  return fault && `${fault}: ${sql}`;
}

/** A walk through a whole index in its order is no fault when no equality narrows it. */
function isScan(line: string, sql: string): boolean {
  // What a query in the query answers is no table: its own line says how it is found.
  if (!line.startsWith("SCAN") || /^SCAN (CONSTANT|\(subquery)/.test(line)) return false;
  return !line.includes("USING INDEX") && !line.includes("USING COVERING INDEX") ? true : sql.includes(" IS ?");
}
