import test from "ava";
import fc from "fast-check";
import { BatonError } from "../../proto/errors.js";
import {
  address16,
  addressBytes,
  addressText,
  connectionId,
  endpointText,
  type Flow,
  flowText,
  normaliseAddress,
  parseConnectionId,
  parseEndpoint,
} from "../../proto/flow.js";

const flow4: Flow = {
  client: { address: "10.77.0.10", port: 51234 },
  vip: { address: "10.77.0.100", port: 80 },
  transport: "tcp",
};
const flow6: Flow = {
  client: { address: "fd77::10", port: 1 },
  vip: { address: "fd77::100", port: 65535 },
  transport: "udp",
};

test("a connection's id, both ways", (t) => {
  t.is(connectionId(flow4, 2886723411), "10-77-0-10_51234_10-77-0-100_80_tcp.2886723411");
  t.is(connectionId(flow6, 0), "fd770000000000000000000000000010_1_fd770000000000000000000000000100_65535_udp.0");
  t.deepEqual(parseConnectionId(connectionId(flow4, 2886723411)), { flow: flow4, clientIsn: 2886723411 });
  t.deepEqual(parseConnectionId(connectionId(flow6, 4294967295)), { flow: flow6, clientIsn: 4294967295 });
  t.is(connectionId(flow4, -1), connectionId(flow4, 4294967295));
});

test("ids are fit for a NATS subject and read back, for every flow", (t) => {
  const port = fc.nat(65535);
  const address = fc.oneof(fc.ipV4(), fc.ipV6()).map(normaliseAddress);
  const flow = fc.record({
    client: fc.record({ address, port }),
    vip: fc.record({ address, port }),
    transport: fc.constantFrom("tcp" as const, "udp" as const),
  });
  fc.assert(
    fc.property(flow, fc.nat(2 ** 31), (value, isn) => {
      const id = connectionId(value, isn);
      t.regex(id, /^[0-9a-z_-]+\.\d+$/);
      t.deepEqual(parseConnectionId(id), { flow: value, clientIsn: isn });
    }),
  );
});

test("what is no id is refused", (t) => {
  const good = connectionId(flow4, 5);
  for (const bad of [
    "",
    good.replace("51234", "65536"),
    good.replace("51234", "051234"),
    good.replace(".5", ".4294967296"),
    good.replace(".5", ".05"),
    good.replace("tcp", "sctp"),
    good.replace("10-77-0-10_", "10-77-0-256_"),
    good.replace("10-77-0-10_", "00000000000000000000ffff0a4d000a_"),
    `${good} `,
  ]) {
    t.throws(() => parseConnectionId(bad), { instanceOf: BatonError, message: /not a connection id/ }, bad);
  }
});

test("addresses have one form", (t) => {
  t.is(normaliseAddress("FD77:0:0:0:0:0:0:0010"), "fd77::10");
  t.is(normaliseAddress("::ffff:10.0.0.1"), "10.0.0.1");
  t.is(normaliseAddress("10.0.0.1"), "10.0.0.1");
  for (const bad of ["", "10.1", "10.0.0.256", "0x0a.0.0.1", "010.0.0.1", "fe80::1%eth0", "fd77::1::2", "host"]) {
    t.throws(() => normaliseAddress(bad), { instanceOf: BatonError }, bad);
  }
});

test("addresses as bytes", (t) => {
  t.is(addressBytes("10.77.0.10").toString("hex"), "0a4d000a");
  t.is(address16("10.77.0.10").toString("hex"), "00000000000000000000ffff0a4d000a");
  t.is(address16("fd77::10").toString("hex"), "fd770000000000000000000000000010");
  for (const address of ["10.77.0.10", "fd77::10", "::", "255.255.255.255"]) {
    t.is(addressText(address16(address)), address);
    t.is(addressText(addressBytes(address)), address);
  }
  addressBytes("10.77.0.10").fill(0);
  t.is(addressBytes("10.77.0.10").toString("hex"), "0a4d000a", "callers get copies");
  t.throws(() => addressText(Buffer.alloc(5)), { instanceOf: BatonError });
});

test("endpoints and flows as text", (t) => {
  t.is(endpointText(flow4.client), "10.77.0.10:51234");
  t.is(endpointText(flow6.vip), "[fd77::100]:65535");
  t.deepEqual(parseEndpoint("[fd77::100]:65535"), flow6.vip);
  t.deepEqual(parseEndpoint("10.77.0.10:51234"), flow4.client);
  for (const bad of ["10.0.0.1", "10.0.0.1:", "fd77::1:80", "[10.0.0.1]:80:", "10.0.0.1:65536", "[::1]80"]) {
    t.throws(() => parseEndpoint(bad), { instanceOf: BatonError }, bad);
  }
  t.is(flowText(flow4), "10.77.0.10:51234 -> 10.77.0.100:80 tcp");
});
