import test from "ava";
import fc from "fast-check";
import { codeOf, factsReply, featuresReply, pathReply, replies, reply } from "../../../agent/protocols/ftp/reply.js";

test("a reply of one line, and of several", (t) => {
  t.is(reply(226, "Done.").toString(), "226 Done.\r\n");
  t.is(
    reply(214, "First", "214 not the last", "x", "Last").toString(),
    "214-First\r\n 214 not the last\r\n x\r\n214 Last\r\n",
  );
  t.is(reply(200, "ä").toString("latin1"), "200 \xc3\xa4\r\n");
});

test("nothing in a text ends a line", (t) => {
  t.is(reply(200, "a\r\n230 in\0").toString(), "200 a??230 in?\r\n");
  fc.assert(
    fc.property(
      fc.integer({ min: 100, max: 599 }),
      fc.array(fc.string({ unit: "binary" }), { minLength: 1 }),
      (code, texts) => {
        const lines = reply(code, ...texts)
          .toString()
          .split("\r\n");
        t.is(lines.pop(), "");
        t.is(lines.length, texts.length);
        // What a client looks for, by RFC 959 section 4.2.
        t.is(
          lines.findIndex((line) => line.startsWith(`${code} `)),
          texts.length - 1,
        );
      },
    ),
  );
});

test("quotation marks in a path are doubled", (t) => {
  t.is(pathReply('/a "b"', "created.").toString(), '257 "/a ""b""" created.\r\n');
});

test("features and facts are set in", (t) => {
  t.is(featuresReply(["MDTM", "REST STREAM"]).toString(), "211-Features:\r\n MDTM\r\n REST STREAM\r\n211 End\r\n");
  t.is(factsReply("/a", "type=dir; /a").toString(), "250-Listing /a\r\n type=dir; /a\r\n250 End\r\n");
});

test("all replies have a code and one line", (t) => {
  for (const [name, bytes] of Object.entries(replies)) {
    t.regex(bytes.toString("latin1"), /^[1-5][0-5]\d [ -~]+\r\n$/, name);
    t.is(codeOf(bytes), Number(bytes.toString().slice(0, 3)));
  }
});
