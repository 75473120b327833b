// Loads the secrets of the directory given and prints one of them.
import { loadSecrets } from "../../src/access/secrets.js";

const [dataDir = ""] = process.argv.slice(2);
const unset = { jwtSecretKey: undefined, jwtPrivilegedSecretKey: undefined, encryptionKey: undefined };
console.log(`key ${loadSecrets({ dataDir, ...unset }).encryptionKey}`);
