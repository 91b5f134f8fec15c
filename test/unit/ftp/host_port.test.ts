import test from "ava";
import fc from "fast-check";
import {
  extendedPassiveReply,
  isOwn,
  parseExtendedPassive,
  parseExtendedPort,
  parsePort,
  passiveReply,
  protocolOf,
  protocolReply,
} from "../../../agent/protocols/ftp/host_port.js";
import { normaliseAddress } from "../../../proto/flow.js";

test("PORT", (t) => {
  t.deepEqual(parsePort("10,77,0,10,200,1"), { address: "10.77.0.10", port: 51201 });
  t.deepEqual(parsePort("010,077,000,010,000,021"), { address: "10.77.0.10", port: 21 });
  for (const bad of [
    "",
    "1,2,3,4,5",
    "1,2,3,4,5,6,7",
    "256,2,3,4,5,6",
    "1,2,3,4,5,256",
    "1,2,3,4,5,-6",
    "1,2,3,4,5,6 ",
    " 1,2,3,4,5,6",
    "1,2,3,4,5,",
    "1,2,3,4,0x5,6",
    "1.2.3.4,5,6",
    "1,2,3,4,5,0006",
    "1,2,3,4,5,6\n",
  ]) {
    t.is(parsePort(bad), undefined, bad);
  }
});

test("EPRT", (t) => {
  t.deepEqual(parseExtendedPort("|1|132.235.1.2|6275|"), { address: "132.235.1.2", port: 6275 });
  t.deepEqual(parseExtendedPort("|2|1080::8:800:200C:417A|5282|"), { address: "1080::8:800:200c:417a", port: 5282 });
  t.deepEqual(parseExtendedPort("!1!10.0.0.1!2000!"), { address: "10.0.0.1", port: 2000 });
  t.deepEqual(parseExtendedPort("|2|::ffff:10.0.0.1|2000|"), { address: "10.0.0.1", port: 2000 });
  t.is(parseExtendedPort("|3|10.0.0.1|2000|"), "protocol");
  t.is(parseExtendedPort("|0|10.0.0.1|2000|"), "protocol");
  for (const bad of [
    "",
    "|",
    "||||",
    "|1|10.0.0.1|2000",
    "|1|10.0.0.1!2000|",
    "|1|10.0.0.1|65536|",
    "|1|10.0.0.1||",
    "|1|10.1|2000|",
    "|1|010.0.0.1.1|2000|",
    "|1|::1|2000|",
    "|2|10.0.0.1|2000|",
    "|2|fe80::1%eth0|2000|",
    "|2|:::|2000|",
    "|1|10.0.0.1|2000|x",
    "110.0.0.1|2000|",
    " 1 10.0.0.1 2000 ",
    "1111.2.3.41200012",
  ]) {
    t.is(parseExtendedPort(bad), undefined, bad);
  }
});

test("EPSV", (t) => {
  t.is(parseExtendedPassive(""), "any");
  t.is(parseExtendedPassive("1"), 1);
  t.is(parseExtendedPassive("2"), 2);
  t.is(parseExtendedPassive("3"), "protocol");
  t.is(parseExtendedPassive("ALL"), "all");
  t.is(parseExtendedPassive("all"), "all");
  for (const bad of [" ", "1 ", "-1", "ALLE", "x", "123456"]) t.is(parseExtendedPassive(bad), undefined, bad);
});

test("replies", (t) => {
  t.is(
    passiveReply({ address: "10.77.0.100", port: 51201 }).toString(),
    "227 Entering Passive Mode (10,77,0,100,200,1).\r\n",
  );
  t.is(
    passiveReply({ address: "::ffff:10.77.0.100", port: 255 }).toString(),
    "227 Entering Passive Mode (10,77,0,100,0,255).\r\n",
  );
  t.is(extendedPassiveReply(51201).toString(), "229 Entering Extended Passive Mode (|||51201|)\r\n");
  t.is(protocolReply(protocolOf("fd77::1")).toString(), "522 Network protocol not supported, use (2)\r\n");
  t.is(protocolReply(protocolOf("::ffff:10.0.0.1")).toString(), "522 Network protocol not supported, use (1)\r\n");
});

test("data goes to the client itself only", (t) => {
  t.true(isOwn({ address: "10.0.0.1", port: 1024 }, "10.0.0.1"));
  t.true(isOwn({ address: "10.0.0.1", port: 65535 }, "::ffff:10.0.0.1"));
  t.true(isOwn({ address: "::ffff:a00:1", port: 2000 }, "10.0.0.1"));
  t.true(isOwn({ address: "FD77:0::1", port: 2000 }, "fd77::1"));
  t.false(isOwn({ address: "10.0.0.1", port: 1023 }, "10.0.0.1"));
  t.false(isOwn({ address: "10.0.0.1", port: 0 }, "10.0.0.1"));
  t.false(isOwn({ address: "10.0.0.1", port: 65536 }, "10.0.0.1"));
  t.false(isOwn({ address: "10.0.0.1", port: Number.NaN }, "10.0.0.1"));
  t.false(isOwn({ address: "10.0.0.2", port: 2000 }, "10.0.0.1"));
  t.false(isOwn({ address: "127.0.0.1", port: 2000 }, "10.0.0.1"));
  t.false(isOwn({ address: "::1", port: 2000 }, "10.0.0.1"));
});

test("what is written is read", (t) => {
  fc.assert(
    fc.property(fc.ipV4(), fc.ipV6(), fc.nat(65_535), fc.constantFrom("|", "!", "#", "~"), (four, six, port, d) => {
      const inBrackets = /\((.*)\)/.exec(passiveReply({ address: four, port }).toString())?.[1] ?? "";
      t.deepEqual(parsePort(inBrackets), { address: four, port });
      t.deepEqual(parseExtendedPort(`${d}1${d}${four}${d}${port}${d}`), { address: four, port });
      t.deepEqual(parseExtendedPort(`${d}2${d}${six}${d}${port}${d}`), { address: normaliseAddress(six), port });
    }),
  );
});

test("nothing makes the parsers throw, and what they take is an endpoint", (t) => {
  const text = fc.string({
    unit: fc.constantFrom("0", "1", "2", "9", ",", "|", ".", ":", "a", "f", " "),
    maxLength: 30,
  });
  fc.assert(
    fc.property(text, (argument) => {
      const endpoints = [parsePort(argument), parseExtendedPort(argument)].filter((one) => typeof one === "object");
      t.true(
        endpoints.every(({ address, port }) => normaliseAddress(address) === address && port >= 0 && port <= 65_535),
      );
      t.notThrows(() => parseExtendedPassive(argument));
    }),
    { numRuns: 500 },
  );
});
