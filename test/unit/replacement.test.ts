import test from "ava";
import { decodePassed, encodePassed } from "../../agent/replace/passage.js";
import { missingOf, type Offer } from "../../agent/supervisor/replacement.js";
import { exampleRecord } from "../support/record.js";

const offer: Offer = {
  recordVersion: 1,
  vips: ["10.77.0.100", "fd77::100"],
  services: [{ name: "http", protocol: "http", port: 80, protect: true }],
};

test("a new agent must offer whatever the connections of the old one need", (t) => {
  t.is(missingOf(offer, offer), "");
  const more = { ...offer, vips: [...offer.vips, "10.77.0.99"], services: [...offer.services, ...offer.services] };
  t.is(missingOf(offer, more), "");
  t.regex(missingOf(more, offer), /VIP 10\.77\.0\.99/);
  t.regex(missingOf(offer, { ...offer, recordVersion: 2 }), /version 1, this agent of version 2/);
  const http = offer.services[0]!;
  for (const change of [{ port: 81 }, { name: "www" }, { protocol: "app" as const }, { protect: false }]) {
    t.regex(missingOf(offer, { ...offer, services: [{ ...http, ...change }] }), /the service http \(http, port 80\)/);
  }
});

test("what a connection takes along survives the way", (t) => {
  const record = exampleRecord();
  const passed = {
    ...{ record, revision: 17, recorded: true, behind: true, limit: 300, writtenTo: 5_000_000_000 },
  };
  const message = JSON.parse(JSON.stringify(encodePassed(passed, [300], 2)));
  t.deepEqual(decodePassed(message), { passed, files: [300], sources: 2 });
  delete message.sources;
  t.is(decodePassed(message).sources, 0, "of a former version");
});
