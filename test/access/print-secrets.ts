// Loads the secrets of the given directory and prints one of them.
import { loadSecrets } from "../../src/access/secrets.js";

const [dataDir = ""] = process.argv.slice(2);
const unset = { jwtSecretKey: undefined, jwtPrivilegedSecretKey: undefined, encryptionKey: undefined };
console.log(`key ${loadSecrets({ dataDir, ...unset }).encryptionKey}`);
