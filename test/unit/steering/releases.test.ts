import "../../support/quiet.js";
import test from "ava";
import { Releases } from "../../../controller/steering/releases.js";

interface Outcome {
  packets: number;
  heldUs: number;
  error?: string;
}

/** A queue whose batches end when a test says so; a flow that is being released refuses another release, as the real one does. */
class FakeQueue {
  readonly batches: Array<{ flows: string[]; end(errors?: Record<string, string>): void }> = [];
  readonly dropped: string[] = [];
  private readonly releasing = new Set<string>();

  assignBatch(items: Array<{ flow: Buffer }>): Promise<Outcome[]> {
    const flows = items.map(({ flow }) => flow.toString());
    const busy = flows.filter((flow) => this.releasing.has(flow));
    for (const flow of flows) this.releasing.add(flow);
    return new Promise((resolve) => {
      const end = (errors: Record<string, string> = {}) => {
        for (const flow of flows) this.releasing.delete(flow);
        resolve(
          flows.map((flow, i) => {
            const error = busy.includes(flow) ? "EBUSY" : errors[flow];
            return { packets: i + 1, heldUs: 0, ...(error && { error }) };
          }),
        );
      };
      this.batches.push({ flows, end });
    });
  }

  drop(flow: Buffer): number {
    this.dropped.push(flow.toString());
    return 1;
  }
}

const items = (...flows: string[]) => flows.map((flow) => ({ flow: Buffer.from(flow), slot: 1, mac: Buffer.alloc(6) }));
const turn = () => new Promise((resolve) => setImmediate(resolve));

test("a flow that is being released is released again after that, and keeps nobody else waiting", async (t) => {
  const queue = new FakeQueue();
  const releases = new Releases(queue);
  const first = releases.assign(items("a", "b"));
  const second = releases.assign(items("b", "c"));
  await turn();
  t.deepEqual(
    queue.batches.map(({ flows }) => flows),
    [["a", "b"], ["c"]],
  );
  queue.batches[0]?.end();
  t.deepEqual(
    (await first).map(({ packets }) => packets),
    [1, 2],
  );
  await turn();
  t.deepEqual(queue.batches[2]?.flows, ["b"]);
  queue.batches[1]?.end();
  queue.batches[2]?.end();
  t.is((await second).length, 2);
  t.deepEqual(queue.dropped, []);
});

test("the same flow twice in a batch", async (t) => {
  const queue = new FakeQueue();
  const both = new Releases(queue).assign(items("a", "a"));
  await turn();
  queue.batches[0]?.end();
  await turn();
  queue.batches[1]?.end();
  t.is((await both).length, 2);
  t.deepEqual(queue.dropped, []);
});

test("what cannot be sent of one flow is thrown away; the others have their results", async (t) => {
  const queue = new FakeQueue();
  const released = new Releases(queue).assign(items("a", "b", "c"));
  await turn();
  queue.batches[0]?.end({ b: "ETIMEDOUT: assign eth0" });
  t.deepEqual(
    (await released).map(({ packets }) => packets),
    [1, 2, 3],
  );
  t.deepEqual(queue.dropped, ["b"]);
  await new Releases(queue).assign([]);
});
