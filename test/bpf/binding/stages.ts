/** Life stages of what the addon opens: run as `node stages.js STAGE`; whatever is open then, the process must exit with 0. */
import { setTimeout as sleep } from "node:timers/promises";
import { binding } from "../../../bpf/binding/index.js";
import { Appliance, flowOf, frame, objectPath, u32, until } from "./appliance.js";

function emit(object: ReturnType<typeof binding.load>, count: number): void {
  object.program("emit").testRun({ context: Buffer.concat([u32(0), u32(count)]) });
}

async function holding(): Promise<Appliance> {
  const appliance = new Appliance();
  appliance.hold(1);
  appliance.arrive(frame({ flow: 1, number: 0 }));
  await until(() => appliance.queue.stats().packets === 1, "one held");
  return appliance;
}

export const stages: Record<string, () => Promise<void>> = {
  async imported() {},
  async loaded() {
    binding.load(objectPath);
  },
  async closed() {
    const object = binding.load(objectPath);
    const map = object.map("table");
    map.close();
    object.close();
  },
  async ringOpen() {
    binding.ringBuffer(binding.load(objectPath).map("events"), () => {});
  },
  async ringFull() {
    const object = binding.load(objectPath);
    binding.ringBuffer(object.map("events"), () => {}, { budget: 1 });
    emit(object, 4000);
    await sleep(1);
  },
  async ringClosedInside() {
    const object = binding.load(objectPath);
    let records = 0;
    const ring = binding.ringBuffer(object.map("events"), () => {
      records++;
      ring.close();
      ring.close();
    });
    emit(object, 10);
    await sleep(20);
    if (records !== 1) throw new Error(`${records} records after close()`);
  },
  async exitInside() {
    const object = binding.load(objectPath);
    binding.ringBuffer(object.map("events"), () => process.exit(0));
    emit(object, 10);
    await sleep(1000);
    throw new Error("still here");
  },
  async queueOpen() {
    new Appliance();
  },
  async queueHolding() {
    await holding();
  },
  async queueAssigning() {
    const appliance = await holding();
    void appliance.queue.assign(flowOf(1), 1, Buffer.alloc(6, 2));
    process.exit(0);
  },
  async queueAssigned() {
    const appliance = await holding();
    await appliance.queue.assign(flowOf(1), 1, Buffer.alloc(6, 2));
  },
  async queueClosed() {
    const appliance = await holding();
    const assigned = appliance.queue.assign(flowOf(1), 1, Buffer.alloc(6, 2)).catch(() => {});
    appliance.queue.close();
    appliance.queue.close();
    await assigned;
  },
  async worker() {
    const { Worker } = await import("node:worker_threads");
    const worker = new Worker(new URL("./stages.js", import.meta.url), { argv: ["queueHolding"] });
    await new Promise((resolve, reject) => worker.on("exit", resolve).on("error", reject));
  },
};

const stage = stages[process.argv[2] ?? ""];
if (stage) await stage();
