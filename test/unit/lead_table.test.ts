import test from "ava";
import { LeadTable } from "../../agent/connection/lead_table.js";
import { encodeRecord, type LayerSection } from "../../proto/record.js";
import { ConflictError } from "../../proto/store/index.js";
import { exampleRecord } from "../support/record.js";

/** A store of which each server sees what `deliver` brings it. */
class Store {
  revision = 0;
  lead = { id: "", revision: 0 };

  /** Records by id. */
  readonly records = new Map<string, Uint8Array>();

  read = async (id: string) => {
    const bytes = this.records.get(id);
    return { revision: bytes ? 1 : 0, bytes: bytes ?? new Uint8Array(), removed: false, messageId: "" };
  };
  commitLead = async (_name: string, id: string, expected: number) => {
    const { lead } = this;
    if (lead.revision !== expected) {
      const present = { revision: lead.revision, bytes: Buffer.from(lead.id), removed: false, messageId: "" };
      throw new ConflictError("connections/l.group", expected, present);
    }
    this.lead = { id, revision: ++this.revision };
    return this.revision;
  };
}

/** What a record with sections says. */
const leads = (sections: LayerSection[]) => sections.length > 0;

test("a holder that is seen to lead no longer, but does, keeps it", async (t) => {
  const store = new Store();
  const record = exampleRecord();
  const table = new LeadTable(store, () => undefined);
  t.true(await table.take("group", record.id, 0, leads));
  store.records.set(record.id, encodeRecord(record));
  let isTold = false;
  const taking = table.take("group", "b", 1, leads).then((isOurs) => {
    t.true(isTold, "not before the watch brings something");
    return isOurs;
  });
  await new Promise((resolve) => setTimeout(resolve, 20));
  isTold = true;
  table.recordChanged(record.id);
  t.false(await taking);
  store.records.clear();
  t.true(await table.take("group", "b", 1, leads));
});

test("one of those who saw it free gets it; the other has seen whose it is when it is told no", async (t) => {
  const store = new Store();
  const [one, other] = [new LeadTable(store, () => undefined), new LeadTable(store, () => undefined)];
  t.is(one.holder("group"), undefined);
  t.true(await one.take("group", "a", 0, leads));
  t.is(one.holder("group")?.id, "a");
  let isTold = false;
  const taking = other.take("group", "b", 0, leads).then((isOurs) => {
    t.true(isTold, "not before the watch has come so far");
    return isOurs;
  });
  await new Promise((resolve) => setImmediate(resolve));
  isTold = true;
  other.seen("group", 1, "a");
  t.false(await taking);
  t.deepEqual([other.holder("group")?.id, other.holder("group")?.revision], ["a", 1]);
  t.true(await other.take("group", "b", 1, leads));
});

test("what is older than what is known is not news", (t) => {
  const table = new LeadTable(new Store(), () => undefined);
  table.seen("group", 5, "b");
  table.seen("group", 4, "a");
  t.is(table.holder("group")?.id, "b");
});

test("who watches hears of another holder, and of the holder's record; and of nobody else's", (t) => {
  const record = exampleRecord();
  const records = new Map([[record.id, encodeRecord(record)]]);
  const table = new LeadTable(new Store(), (id) => records.get(id));
  let told = 0;
  const watching = table.watch("group", () => told++);
  table.recordChanged(record.id);
  t.is(told, 0);
  table.seen("group", 1, record.id);
  t.is(told, 1);
  table.recordChanged(record.id);
  table.recordChanged("another");
  t.is(told, 2);
  t.deepEqual(table.holder("group")?.sections(), record.layers);
  records.clear();
  t.deepEqual(table.holder("group")?.sections(), [], "it is over");
  watching.close();
  table.recordChanged(record.id);
  t.is(told, 2);
});

test("a store that does not answer is no answer", async (t) => {
  const away = () => Promise.reject(new Error("away"));
  const table = new LeadTable({ commitLead: away, read: away }, () => undefined);
  await t.throwsAsync(table.take("group", "a", 0, leads), { message: "away" });
  t.is(table.holder("group"), undefined);
});
