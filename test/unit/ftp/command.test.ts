import test from "ava";
import fc from "fast-check";
import { CommandReader, LINE_END_MAX, LINE_MAX, type Line } from "../../../agent/protocols/ftp/command.js";

const IAC = "\xff";
const IP = "\xf4";
const DM = "\xf2";
const WILL = "\xfb";
const DO = "\xfd";
const SB = "\xfa";
const SE = "\xf0";

/** @param stream one character a byte */
const bytes = (stream: string) => Buffer.from(stream, "latin1");
const utf8 = (stream: string) => Buffer.from(stream).toString("latin1");
const read = (stream: string, offset = 0) => new CommandReader(offset).read(bytes(stream));

/** "VERB argument", or why not. */
function told(lines: Line[]): string[] {
  return lines.map((line) =>
    line.kind === "command" ? (line.argument ? `${line.verb} ${line.argument}` : line.verb) : line.kind,
  );
}

test("commands, their verbs in upper case, with the offsets behind them", (t) => {
  t.deepEqual(read("user Anna\r\nPASV\r\nretr a b \nNoOp \r\n", 100), [
    { kind: "command", verb: "USER", argument: "Anna", endOffset: 111 },
    { kind: "command", verb: "PASV", argument: "", endOffset: 117 },
    { kind: "command", verb: "RETR", argument: "a b ", endOffset: 127 },
    { kind: "command", verb: "NOOP", argument: "", endOffset: 134 },
  ]);
});

test("an argument begins behind one space, whatever it begins with", (t) => {
  t.deepEqual(told(read("RETR   a\r\nRETR \ta\r\n")), ["RETR   a", "RETR \ta"]);
});

test("UTF-8 is taken, nothing else", (t) => {
  t.deepEqual(told(read(utf8("MKD ä€😀\r\n"))), ["MKD ä€😀"]);
  t.deepEqual(told(read(utf8("MKD \ufeffa\r\n"))), ["MKD \ufeffa"]);
  t.deepEqual(told(read("MKD \xe4\r\nNOOP\r\n")), ["malformed", "NOOP"]);
  t.deepEqual(told(read("MKD \xed\xa0\x80\r\n")), ["malformed"]);
});

test("what is no command is told, and the next one is read", (t) => {
  for (const bad of [
    "",
    " ",
    " NOOP",
    "12",
    "NO-OP",
    "\tNOOP",
    "NOOP\tx",
    "USER\0",
    "USER a\0b",
    "USER a\rb",
    "NOOP\r",
  ]) {
    t.deepEqual(told(read(`${bad}\r\nPWD\r\n`)), ["malformed", "PWD"], JSON.stringify(bad));
  }
});

test("Telnet's commands are left out wherever they stand", (t) => {
  t.deepEqual(told(read(`${IAC}${IP}${IAC}${DM}ABOR\r\n`)), ["ABOR"]);
  t.deepEqual(told(read(`${IAC}${WILL}\x01${IAC}${DO}\x0aNO${IAC}\xf1OP\r${IAC}\xf1\n`)), ["NOOP"]);
  t.deepEqual(told(read(`${IAC}${SB}\x18\r\n${IAC}${IAC}PWD\r\n${IAC}${SE}NOOP\r\n`)), ["NOOP"]);
  t.deepEqual(read(`${IAC}${IP}${IAC}${DM}ABOR\r\n`)[0]?.endOffset, 10);
});

test("a doubled 0xFF is one, which is no UTF-8, and no command begins with it", (t) => {
  t.deepEqual(told(read(`RETR a${IAC}${IAC}${IP}\r\nNOOP\r\n`)), ["malformed", "NOOP"]);
});

test("a 0xFF that should have been doubled makes no other name of a name, and takes no line's end", (t) => {
  t.deepEqual(told(read(`DELE ${IAC}a\r\nNOOP\r\n`)), ["malformed", "NOOP"]);
  t.deepEqual(told(read(`DELE a${IAC}\nNOOP\r\n`)), ["malformed", "NOOP"]);
  t.deepEqual(told(read(`DELE a${IAC}\r\nNOOP\r\n`)), ["malformed", "NOOP"]);
});

test("a line may have LINE_MAX bytes with its end, and not one more", (t) => {
  const longest = `STOR ${"x".repeat(LINE_MAX - 7)}`;
  t.deepEqual(told(read(`${longest}\r\nNOOP\r\n`)), [longest, "NOOP"]);
  t.deepEqual(told(read(`${longest}x\r\nNOOP\r\n`)), ["too long", "NOOP"]);
  t.deepEqual(told(read(`${longest}xx\nNOOP\r\n`)), ["too long", "NOOP"]);
  t.deepEqual(told(read(`${"\0".repeat(LINE_MAX)}\r\nNOOP\r\n`)), ["too long", "NOOP"]);
  t.deepEqual(told(read(`${`${IAC}${DM}`.repeat(LINE_MAX / 2)}PWD\r\nNOOP\r\n`)), ["too long", "NOOP"]);
});

test("a line that does not end is told once, and nothing behind it", (t) => {
  t.deepEqual(told(read(`${"x".repeat(LINE_END_MAX - 1)}\nNOOP\n`)), ["too long", "NOOP"]);
  const reader = new CommandReader(7);
  t.deepEqual(reader.read(Buffer.alloc(LINE_END_MAX, "x")), []);
  t.deepEqual(reader.read(bytes("xxx\r\nNOOP\r\n")), [{ kind: "endless", endOffset: 7 + LINE_END_MAX + 1 }]);
  t.deepEqual(reader.read(bytes("NOOP\r\n")), []);
  const lost = `${IAC}${SB}${"PWD\r\n".repeat(LINE_END_MAX)}`;
  t.deepEqual(told(read(lost)), ["endless"]);
});

test("a line may be cut anywhere, also within TELNET's commands", (t) => {
  const reader = new CommandReader(0);
  t.is(reader.read(bytes(`NOOP\r\nPW${IAC}`)).length, 1);
  t.like(reader.read(bytes(`${DM}D\n`)), [{ kind: "command", verb: "PWD" }]);
});

const piece = fc.oneof(
  fc.constantFrom("\r\n", "\n", "\r", "\0", " ", IAC, IAC + IP, IAC + DM, IAC + SB, IAC + SE, IAC + WILL, "RETR a\r\n"),
  fc.constant("x".repeat(LINE_MAX)),
  fc.string({ unit: "binary", maxLength: 8 }).map(utf8),
);
const stream = fc.array(piece, { maxLength: 16 }).map((pieces) => pieces.join(""));

test("however a stream is cut, it is read as the same", (t) => {
  fc.assert(
    fc.property(stream, fc.array(fc.nat(200), { maxLength: 20 }), (text, cuts) => {
      const reader = new CommandReader(0);
      const lines: Line[] = [];
      let at = 0;
      for (const length of [...cuts, text.length]) {
        lines.push(...reader.read(bytes(text.slice(at, at + length))));
        at += length;
      }
      t.is(JSON.stringify(lines), JSON.stringify(read(text)));
    }),
  );
});

test("another reader goes on behind any line as the first one would have", (t) => {
  fc.assert(
    fc.property(stream, (text) => {
      const lines = read(text);
      for (const [index, { kind, endOffset }] of lines.entries()) {
        if (kind === "endless") continue;
        t.is(JSON.stringify(read(text.slice(endOffset), endOffset)), JSON.stringify(lines.slice(index + 1)));
      }
    }),
  );
});

test("offsets grow, and no argument has what would end a line", (t) => {
  const any = fc.nat(255).map((byte) => String.fromCharCode(byte));
  const byte = fc.oneof(any, fc.constantFrom("a", "B", " ", "\r", "\n", "\0", IAC));
  fc.assert(
    fc.property(fc.string({ unit: byte, maxLength: 500 }), (text) => {
      let last = 0;
      for (const line of read(`${text}\n`)) {
        t.true(line.endOffset > last && line.endOffset <= text.length + 1);
        last = line.endOffset;
        if (line.kind === "command") t.regex(`${line.verb} ${line.argument}`, /^[A-Z]+ [^\0\r\n]*$/);
      }
    }),
  );
});
