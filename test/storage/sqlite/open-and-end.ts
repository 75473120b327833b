// A process that opens a store and has nothing else to do. Argument: the directory.
import { systemClock } from "../../../src/clock.js";
import { openSqliteStore } from "../../../src/storage/sqlite/store.js";

await openSqliteStore({ dir: process.argv[2] ?? "", clock: systemClock });
