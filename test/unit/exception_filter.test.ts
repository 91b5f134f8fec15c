import test from "ava";
import fc from "fast-check";
import { ExceptionFilter } from "../../controller/steering/filter.js";

/** What the map would hold, after the changes so far. */
class Words {
  private readonly words = new Map<number, bigint>();

  take({ keys, values }: { keys: Buffer; values: Buffer }): void {
    for (let i = 0; i < keys.length / 4; i++) this.words.set(keys.readUInt32LE(i * 4), values.readBigUInt64LE(i * 8));
  }

  /** As steer.bpf.c looks: the hash's 22 high bits. */
  has(hash: number): boolean {
    const bit = hash >>> 10;
    return (((this.words.get(bit >>> 6) ?? 0n) >> BigInt(bit & 63)) & 1n) === 1n;
  }
}

test("a bit is set exactly while a flow of its hash is there", (t) => {
  // Few different hashes, so that flows share bits.
  const hashes = fc.array(fc.integer({ min: 0, max: 40 }).map((n) => (((n * 0x9e3779b1) >>> 8) << 8) >>> 0));
  fc.assert(
    fc.property(hashes, fc.nat(), (added, cut) => {
      const filter = new ExceptionFilter();
      const words = new Words();
      for (const hash of added) filter.add(hash);
      words.take(filter.takeChanges());
      const removed = added.slice(0, cut % (added.length + 1));
      for (const hash of removed) filter.remove(hash);
      words.take(filter.takeChanges());
      const left = added.slice(removed.length);
      return (
        left.every((hash) => words.has(hash)) &&
        removed.every((hash) => words.has(hash) === left.some((l) => l >>> 10 === hash >>> 10))
      );
    }),
  );
  t.pass();
});

test("a bit that very many flows share stays, and no change is told twice", (t) => {
  const filter = new ExceptionFilter();
  const words = new Words();
  for (let i = 0; i < 300; i++) filter.add(0xffffffff);
  words.take(filter.takeChanges());
  t.true(words.has(0xffffffff));
  t.is(filter.takeChanges().keys.length, 0);
  for (let i = 0; i < 300; i++) filter.remove(0xffffffff);
  words.take(filter.takeChanges());
  t.true(words.has(0xffffffff), "its count was lost: a lookup too many, never one too few");
  filter.add(5);
  filter.remove(5);
  words.take(filter.takeChanges());
  t.false(words.has(5));
});
