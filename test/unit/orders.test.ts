import "../support/quiet.js";
import test from "ava";
import { Orders } from "../../agent/orders.js";

function scene() {
  const said: string[] = [];
  const orders = new Orders(() => void said.push("exit"));
  const obey = () =>
    orders.obey({
      abandon: (why) => void said.push(`abandon: ${why}`),
      leave: async () => void said.push("leave"),
      protectionChanged: () => void said.push(`unprotected: ${orders.unprotected}`),
      pass: () => void said.push("pass"),
      keep: (reason) => void said.push(`keep: ${reason}`),
      serve: () => void said.push("serve"),
    });
  return { said, orders, obey };
}

test("told to leave while it starts, a worker has nothing to move", async (t) => {
  const { said, orders } = scene();
  await orders.onLeave();
  t.deepEqual(said, []);
});

test("what was said while it started holds when it serves", (t) => {
  const { said, orders, obey } = scene();
  orders.onUnprotected(true);
  obey();
  t.deepEqual(said, []);
  t.true(orders.unprotected);
  orders.onUnprotected(false);
  t.deepEqual(said, ["unprotected: false"]);
});

test("fenced, it ends at any moment", async (t) => {
  const early = scene();
  early.orders.onFenced("the lease is lost");
  t.deepEqual(early.said, ["exit"]);
  const serving = scene();
  serving.obey();
  await serving.orders.onLeave();
  serving.orders.onFenced("the lease is lost");
  t.deepEqual(serving.said, ["leave", "abandon: the lease is lost", "exit"]);
});
