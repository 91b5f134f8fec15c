import { readFileSync } from "node:fs";
import { ClientProgram } from "./client_program.js";
import { eventually } from "./eventually.js";
import { VIP } from "./host.js";

/** Opens many connections, says the same on each, and writes down how they were answered; then it keeps them. */
const CROWD = `
import collections, json, os, resource, selectors, signal, socket, sys
host, port, count, says = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
waiting = selectors.DefaultSelector()
answers = collections.Counter()
kept = []
for _ in range(count):
    connection = socket.create_connection((host, port))
    kept.append(connection)
    try:
        connection.sendall(says)
        waiting.register(connection, selectors.EVENT_READ)
    except ConnectionError:
        answers["reset"] += 1
while waiting.get_map():
    for key, _ in waiting.select():
        waiting.unregister(key.fileobj)
        try:
            answers[key.fileobj.recv(100)[:12].decode()] += 1
        except ConnectionError:
            answers["reset"] += 1
with open("answers.new", "w") as file:
    json.dump(answers, file)
os.rename("answers.new", "answers")
signal.pause()
`;

/**
 * Many connections of one client, until the test's end. Resolves when each has its answer, with how often each came, by its first twelve
 * characters; "reset", "" where it was ended.
 */
export async function crowd(port: number, count: number, says: string): Promise<Record<string, number>> {
  const program = new ClientProgram(() => ["python3", "-c", CROWD, VIP, `${port}`, `${count}`, says]);
  const answers = () => readFileSync(`${program.folder}/answers`, "utf8");
  return JSON.parse(await eventually("each has its answer", answers, 60_000));
}

/** @returns of how many answers this is the beginning */
export function answeredBy(answers: Record<string, number>, beginning: string): number {
  const counts = Object.entries(answers).map(([answer, count]) => (answer.startsWith(beginning) ? count : 0));
  return counts.reduce((sum, count) => sum + count, 0);
}
