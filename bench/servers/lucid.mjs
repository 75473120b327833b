// The service itself, whole, on its embedded store.
import { startServer } from "../../dist/src/server.js";
import { parseSettings } from "../../dist/src/settings/environment.js";
import { present } from "./server.mjs";

const { port, metricsPort } = await startServer(parseSettings(process.env));
present(port, metricsPort);
