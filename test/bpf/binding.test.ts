import { copyFileSync, existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { BindingError, binding } from "../../bpf/binding/index.js";
import { objectPath, u32 } from "./binding/appliance.js";
import { inNamespace, makePins, pins, removePins } from "./binding/namespace.js";

test.before(makePins);
test.after.always((t) => {
  removePins();
  t.false(existsSync(pins));
});

function fails(t: ExecutionContext, code: string, body: () => unknown): BindingError | undefined {
  const error = t.throws(body, { instanceOf: BindingError });
  t.is(error?.code, code, error?.message);
  return error;
}

function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function keys(count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, i) => u32(i)));
}

test("const volatile variables take numbers, bigints and bytes by name", (t) => {
  const object = binding.load(objectPath, {
    rodata: {
      knob_u8: 255,
      knob_u16: 0xfffe,
      knob_s32: -5,
      knob_u64: 0xfffffffffffffffdn,
      knob_bytes: Buffer.from("abcdef"),
    },
  });
  const program = object.program("read_knobs");
  t.is(program.type, "syscall");
  const run = program.testRun({ context: Buffer.alloc(24) });
  t.is(run.retval, 7);
  const out = run.contextOut ?? Buffer.alloc(0);
  t.is(out.readBigUInt64LE(0), 0xfffffffffffffffdn);
  t.is(out.readInt32LE(8), -5);
  t.is(out.readUInt16LE(12), 0xfffe);
  t.is(out.readUInt8(14), 255);
  t.is(out.toString("latin1", 15, 21), "abcdef");

  const defaults = binding
    .load(objectPath)
    .program("read_knobs")
    .testRun({ context: Buffer.alloc(24) }).contextOut;
  t.is(defaults?.readBigUInt64LE(0), 4n);
});

test("a value that does not fit its variable is refused", (t) => {
  const load = (rodata: Record<string, number | bigint | Buffer>) => () => binding.load(objectPath, { rodata });
  fails(t, "ENOENT", load({ knob_of_nobody: 1 }));
  fails(t, "ERANGE", load({ knob_u8: 256 }));
  fails(t, "ERANGE", load({ knob_s32: -(2n ** 31n) - 1n }));
  fails(t, "EINVAL", load({ knob_u16: Buffer.alloc(3) }));
  fails(t, "EINVAL", load({ knob_bytes: 1 }));
  t.throws(load({ knob_u64: 1.5 }), { instanceOf: TypeError });
  t.throws(load({ knob_u64: 2n ** 64n }), { instanceOf: TypeError });
});

test("what cannot be loaded says why", (t) => {
  t.is(fails(t, "ENOENT", () => binding.load("/nowhere.bpf.o"))?.syscall, "open");
  const folder = mkdtempSync(join(tmpdir(), "bt-binding-"));
  try {
    const broken = join(folder, "broken.bpf.o");
    writeFileSync(broken, "no object");
    t.regex(fails(t, "ELIBBPF", () => binding.load(broken))?.log ?? "", /libbpf/);
    copyFileSync(objectPath, broken);
    truncateSync(broken, 500);
    t.throws(() => binding.load(broken), { instanceOf: BindingError });
  } finally {
    rmSync(folder, { recursive: true });
  }
  fails(t, "ENOENT", () => binding.load(objectPath, { skip: ["nothing"] }));
  fails(t, "ENOENT", () => binding.load(objectPath, { maxEntries: { nothing: 1 } }));
  fails(t, "EINVAL", () => binding.load(objectPath, { pinMaps: ["table"] }));
});

test("the verifier's words are in the error", (t) => {
  // With this knob the program reads what it may not.
  const error = t.throws(() => binding.load(objectPath, { rodata: { knob_unsafe: 1 } }), { instanceOf: BindingError });
  t.is(error?.syscall, "bpf_object__load");
  t.regex(error?.log ?? "", /invalid mem access|R\d+/);
  t.regex(error?.log ?? "", /processed \d+ insns/);
});

test("objects list what they have, without what was skipped", (t) => {
  const object = binding.load(objectPath, { skip: ["hold", "on_state"], maxEntries: { table: 7 } });
  t.true(object.programs.includes("capture"));
  t.false(object.programs.includes("hold"));
  fails(t, "ENOENT", () => object.program("hold"));
  fails(t, "ENOENT", () => object.map("nothing"));
  const table = object.map("table");
  t.like(table, { name: "table", keySize: 4, valueSize: 8, maxEntries: 7 });
  object.close();
  table.update(u32(1), u64(1));
  t.deepEqual(table.lookup(u32(1)), u64(1));
  table.close();
  fails(t, "EBADF", () => table.lookup(u32(1)));
});

test("single entries: flags, absence, wrong sizes", (t) => {
  const table = binding.load(objectPath, { maxEntries: { table: 2 } }).map("table");
  t.is(table.lookup(u32(1)), undefined);
  table.update(u32(1), u64(10), 1);
  fails(t, "EEXIST", () => table.update(u32(1), u64(11), 1));
  fails(t, "ENOENT", () => table.update(u32(2), u64(11), 2));
  table.update(u32(1), u64(11), 2);
  t.deepEqual(table.lookup(u32(1)), u64(11));
  table.update(u32(2), u64(2));
  t.is(fails(t, "E2BIG", () => table.update(u32(3), u64(3)))?.subject, "table");
  t.true(table.delete(u32(1)));
  t.false(table.delete(u32(1)));
  fails(t, "EINVAL", () => table.lookup(Buffer.alloc(3)));
  fails(t, "EINVAL", () => table.update(u32(1), Buffer.alloc(9)));
  t.throws(() => table.lookup("1234" as unknown as Buffer), { instanceOf: TypeError });
});

test("batches write, list and delete every entry", (t) => {
  const count = 20_000;
  const table = binding.load(objectPath, { maxEntries: { table: count } }).map("table");
  t.is(table.updateBatch(keys(count), Buffer.concat(Array.from({ length: count }, (_, i) => u64(i * 3)))), count);
  const entries = table.entries();
  t.is(entries.length, count);
  t.is(new Set(entries.map(([key]) => key.readUInt32LE())).size, count);
  t.true(entries.every(([key, value]) => value.readBigUInt64LE() === BigInt(key.readUInt32LE() * 3)));

  // The kernel's batch knows no BPF_NOEXIST: one by one, up to the first that exists.
  fails(t, "EEXIST", () => table.updateBatch(keys(3), Buffer.alloc(24), 1));
  fails(t, "EINVAL", () => table.updateBatch(keys(3), Buffer.alloc(23)));
  t.is(fails(t, "E2BIG", () => table.updateBatch(u32(count), u64(0)))?.syscall, "BPF_MAP_UPDATE_BATCH");

  // Missing keys, also twice the same, are passed over.
  t.is(table.deleteBatch(Buffer.concat([u32(5), u32(count + 5), u32(6), u32(6), u32(7)])), 3);
  t.is(table.entries().length, count - 3);
  t.is(table.deleteBatch(keys(count)), count - 3);
  t.deepEqual(table.entries(), []);
});

test("a per-CPU value is every CPU's value, unpadded", (t) => {
  const cpus = binding.possibleCpus();
  t.true(cpus >= 1);
  const map = binding.load(objectPath).map("per_cpu");
  const values = Buffer.concat(Array.from({ length: cpus }, (_, cpu) => u32(100 + cpu)));
  map.update(u32(1), values);
  t.deepEqual(map.lookup(u32(1)), values);
  map.update(u32(2), u32(9));
  t.deepEqual(map.lookup(u32(2)), Buffer.concat(Array.from({ length: cpus }, () => u32(9))));
  t.is(map.updateBatch(u32(3), values), 1);
  t.deepEqual(map.entries().map(([, value]) => value)[3], values);
});

test("pinned maps are adopted with what is in them, if they fit", (t) => {
  const pinDir = `${pins}/adopt/deeper`;
  const first = binding.load(objectPath, { pinDir, pinMaps: ["table", "calls"] });
  first.map("table").update(u32(4), u64(44));
  first.close();
  const second = binding.load(objectPath, { pinDir, pinMaps: ["table", "calls"] });
  t.deepEqual(second.map("table").lookup(u32(4)), u64(44));
  second.map("table").update(u32(5), u64(55));
  const opened = binding.openPinnedMap(`${pinDir}/table`);
  t.like(opened, { name: "table", keySize: 4, valueSize: 8, maxEntries: 1024 });
  t.deepEqual(opened.lookup(u32(5)), u64(55));

  const misfit = fails(t, "EEXIST", () =>
    binding.load(objectPath, { pinDir, pinMaps: ["table"], maxEntries: { table: 5 } }),
  );
  t.regex(misfit?.message ?? "", /max_entries is 1024, not 5/);
  // All or none: what was pinned before the one that cannot be is taken away again.
  opened.pin(`${pins}/other`);
  fails(t, "EEXIST", () => opened.pin(`${pins}/other`));
  fails(t, "ENOENT", () => binding.openPinnedMap(`${pins}/nothing`));
});

test("pinned programs are found again, and are not mistaken for maps", (t) => {
  const pin = `${pins}/steer_release`;
  binding.load(objectPath).program("steer_release").pin(pin);
  const opened = binding.openPinnedProgram(pin);
  t.is(opened.name, "steer_release");
  const args = Buffer.alloc(52);
  t.is(opened.testRun({ context: args }).contextOut?.readUInt32LE(48), 2);
  fails(t, "EINVAL", () => binding.openPinnedMap(pin));
});

test("packets can be run through a program", (t) => {
  const object = binding.load(objectPath);
  const data = Buffer.alloc(60, 1);
  const run = object.program("drop_all").testRun({ data, repeat: 3 });
  t.is(run.retval, 1);
  t.deepEqual(run.dataOut, data);
  t.is(object.map("calls").lookup(u32(0))?.readBigUInt64LE(), 3n);
  t.is(object.program("pass_tc").testRun({ data, ingressIfindex: binding.ifindex("lo") }).retval, 0xffffffff);
  fails(t, "EINVAL", () => object.program("drop_all").testRun({}));
  fails(t, "EINVAL", () => object.program("drop_all").testRun({ data: Buffer.alloc(3) }));
});

test("records come in order, at most a budget in one turn", async (t) => {
  const object = binding.load(objectPath);
  const records: number[] = [];
  const turns = new Map<number, number>();
  let turn = 0;
  const ticking = setInterval(() => {}, 1000);
  const count = () => {
    turn++;
    if (records.length < 4500) setImmediate(count);
  };
  const ring = binding.ringBuffer(
    object.map("events"),
    (record) => {
      records.push(record.readUInt32LE());
      turns.set(turn, (turns.get(turn) ?? 0) + 1);
    },
    { budget: 50 },
  );
  setImmediate(count);
  const emit = (first: number, total: number) =>
    object.program("emit").testRun({ context: Buffer.concat([u32(first), u32(total)]) });
  emit(0, 4000);
  await sleep(30);
  emit(4000, 500);
  const end = Date.now() + 2000;
  while (records.length < 4500 && Date.now() < end) await sleep(2);
  clearInterval(ticking);
  t.deepEqual(
    records,
    Array.from({ length: 4500 }, (_, i) => i),
  );
  t.true(Math.max(...turns.values()) <= 50, `${Math.max(...turns.values())} in one turn`);
  ring.close();
  emit(0, 10);
  await sleep(20);
  t.is(records.length, 4500, "nothing after close()");
  fails(t, "EINVAL", () => binding.ringBuffer(object.map("table"), () => {}));
});

test("an idle ring buffer costs nothing", async (t) => {
  const object = binding.load(objectPath);
  const ring = binding.ringBuffer(object.map("events"), () => {});
  object.program("emit").testRun({ context: Buffer.concat([u32(0), u32(10)]) });
  await sleep(50);
  const before = process.cpuUsage();
  await sleep(300);
  const used = process.cpuUsage(before);
  t.true(used.user + used.system < 100_000, `${used.user + used.system} us of CPU in 300 ms`);
  ring.close();
});

test("namespace, interfaces and clock", (t) => {
  t.true(binding.netnsInode() > 4_000_000_000);
  t.is(binding.ifindex("lo"), 1);
  t.is(fails(t, "ENODEV", () => binding.ifindex("bt-nowhere"))?.subject, "bt-nowhere");
  const here = process.hrtime.bigint();
  const there = binding.monotonicNs();
  t.true(there >= here && there - here < 1_000_000_000n);
});

for (const scenario of [
  "xdp",
  "tc",
  "cgroup",
  "release",
  "stream",
  "batch",
  "bounds",
  "lost",
  "stragglers",
  "drop",
  "frames",
  "interfaceDown",
]) {
  test.serial(`in a namespace: ${scenario}`, async (t) => {
    const { code, signal, output } = await inNamespace("scenarios", scenario);
    if (output) t.log(output.trim());
    t.is(code, 0, `exit ${code} ${signal ?? ""}\n${output}`);
  });
}

for (const stage of [
  "imported",
  "loaded",
  "closed",
  "ringOpen",
  "ringFull",
  "ringClosedInside",
  "exitInside",
  "queueOpen",
  "queueHolding",
  "queueAssigning",
  "queueAssigned",
  "queueClosed",
  "worker",
]) {
  test.serial(`a process exits cleanly: ${stage}`, async (t) => {
    const { code, signal, output } = await inNamespace("stages", stage);
    t.is(code, 0, `exit ${code} ${signal ?? ""}\n${output}`);
    t.is(output, "");
  });
}
