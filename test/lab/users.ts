import { mkdirSync, writeFileSync } from "node:fs";
import { makeUserLine } from "../../agent/protocols/ftp/users.js";

// usage: users.js FILE DIRECTORY: the lab's one FTP user with a password, lab, who may write
const [file, directory] = process.argv.slice(2) as [string, string];
mkdirSync(directory, { recursive: true });
writeFileSync(file, `${await makeUserLine({ name: "lab", directory, writable: true }, "lab")}\n`);
