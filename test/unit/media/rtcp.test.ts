import test from "ava";
import fc from "fast-check";
import { parseFeedback, reportPacket } from "../../../agent/media/index.js";

const REPORT = {
  ssrc: 0xdeadbeef,
  wallUs: 1_700_000_000_500_000,
  timestamp: 0xfffffffe,
  packets: 2 ** 32 + 3,
  octets: 77,
};

test("a sender report with its name, byte by byte", (t) => {
  const expected = [
    "80c80006deadbeef", // SR, 7 words
    "e8fe6f8080000000", // 1700000000 + 2208988800, half a second
    "fffffffe000000030000004d",
  ].join("");
  const packet = reportPacket(REPORT, "a@b").toString("hex");
  t.is(packet.slice(0, 56), expected);
  t.is(packet.slice(56), "81ca0003deadbeef0103614062000000");
  t.is(reportPacket(REPORT, "a@b", true).toString("hex"), `${packet}81cb0001deadbeef`);
});

test("names of any length end in a zero and fill their words", (t) => {
  fc.assert(
    fc.property(fc.string({ minLength: 0, maxLength: 300 }), (cname) => {
      const packet = reportPacket(REPORT, cname, true);
      if (packet.length % 4 !== 0) throw new Error("not whole words");
      const said = parseFeedback(packet);
      const expected = Buffer.from(cname).subarray(0, 255).toString();
      t.deepEqual(said, [
        { kind: "report", ssrc: REPORT.ssrc, receptions: [] },
        { kind: "name", ssrc: REPORT.ssrc, cname: expected },
        { kind: "goodbye", ssrcs: [REPORT.ssrc] },
      ]);
    }),
  );
});

test("what receivers say", (t) => {
  const reception = "deadbeef 40 fffffe 0001abcd 00000010 11223344 00010000".replaceAll(" ", "");
  const receiver = `81c90007 00000001 ${reception}`;
  const expected = {
    ssrc: 0xdeadbeef,
    fractionLost: 64,
    lost: -2,
    highestSequence: 0x1abcd,
    jitter: 16,
    lastReport: 0x11223344,
    delay: 65_536,
  };
  const parse = (hex: string) => parseFeedback(Buffer.from(hex.replaceAll(" ", ""), "hex"));
  t.deepEqual(parse(receiver), [{ kind: "report", ssrc: 1, receptions: [expected] }]);
  t.deepEqual(parse(`${receiver} 81ca0003 00000001 01026162 00000000 82cb0002 00000001 00000002`).slice(1), [
    { kind: "name", ssrc: 1, cname: "ab" },
    { kind: "goodbye", ssrcs: [1, 2] },
  ]);
  t.deepEqual(
    parse("80cd0001 00000000 80c90001 00000005"),
    [{ kind: "report", ssrc: 5, receptions: [] }],
    "others are passed over",
  );
  t.deepEqual(parse("9fc90001 00000005"), [{ kind: "report", ssrc: 5, receptions: [] }], "fewer blocks than said");
  t.deepEqual(parse("80c9ffff 00000005"), [], "longer than it is");
  t.deepEqual(parse("40c90001 00000005"), [], "another version");
  t.deepEqual(
    parse(`a1c90008 00000001 ${reception} 00000004`),
    [{ kind: "report", ssrc: 1, receptions: [expected] }],
    "filled up",
  );
});

test("nothing that comes is too much", (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (bytes, plausible) => {
      const packet = Buffer.from(bytes);
      for (let at = 0; plausible && at + 4 <= packet.length; at += 16) {
        packet[at] = 0x80 | ((packet[at] as number) & 0x3f);
        packet[at + 1] = 200 + ((packet[at + 1] as number) % 4);
        packet.writeUInt16BE(3, at + 2);
      }
      parseFeedback(packet);
    }),
    { numRuns: 1_000 },
  );
  t.is(parseFeedback(Buffer.from(`${"80cb0000".repeat(100)}81cb000100000001`, "hex")).length, 0, "the first 64");
});
