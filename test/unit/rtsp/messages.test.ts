import test from "ava";
import fc from "fast-check";
import { formatNptRange, parseNptRange } from "../../../agent/protocols/rtsp/range.js";
import { REASONS, responseBytes, type Status, sessionId } from "../../../agent/protocols/rtsp/response.js";
import { formatRtpInfo } from "../../../agent/protocols/rtsp/rtp_info.js";
import { parseUrl, trackUrl } from "../../../agent/protocols/rtsp/url.js";
import { BatonError } from "../../../proto/errors.js";

const NOW = 1_790_000_000;

test("responses", (t) => {
  t.is(
    responseBytes({ status: 454, cseq: 3 }, NOW).toString(),
    "RTSP/1.0 454 Session Not Found\r\nCSeq: 3\r\nDate: Mon, 21 Sep 2026 14:13:20 GMT\r\n\r\n",
  );
  const session = { id: "12345678", timeoutSeconds: 60 };
  const headers = [["Content-Type", "application/sdp"]] as const;
  t.is(
    responseBytes({ status: 200, cseq: 4, session, headers, body: Buffer.from("v=0\r\n") }, NOW).toString(),
    "RTSP/1.0 200 OK\r\nCSeq: 4\r\nDate: Mon, 21 Sep 2026 14:13:20 GMT\r\nSession: 12345678;timeout=60\r\n" +
      "Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n",
  );
  t.notRegex(responseBytes({ status: 400, cseq: undefined }, NOW).toString(), /CSeq/);
  for (const status of Object.keys(REASONS)) {
    t.regex(
      responseBytes({ status: Number(status) as Status, cseq: 1 }, NOW).toString(),
      /^RTSP\/1\.0 \d{3} [A-Z][\w -]+\r\n/,
    );
  }
  const evil = () => responseBytes({ status: 200, cseq: 1, headers: [["X", "a\r\nY: b"]] }, NOW);
  t.throws(evil, { instanceOf: BatonError, code: "INTERNAL" });
});

test("session ids", (t) => {
  t.is(sessionId("12345678"), "12345678");
  t.is(sessionId("a$-_.+9;timeout=60"), "a$-_.+9");
  for (const header of ["", ";timeout=1", "a b", "a,b", "x".repeat(129)]) t.is(sessionId(header), undefined, header);
});

test("npt ranges", (t) => {
  const rows: Array<[string, ReturnType<typeof parseNptRange>]> = [
    ["npt=0-", { start: 0, end: undefined }],
    ["npt=0.000-", { start: 0, end: undefined }],
    ["NPT = 1.5 - 20 ", { start: 1_500_000, end: 20_000_000 }],
    ["npt=now-", { start: "now", end: undefined }],
    ["npt=-20.25", { start: undefined, end: 20_250_000 }],
    ["npt=0:10:20.5-1:00:00", { start: 620_500_000, end: 3_600_000_000 }],
    ["npt=123.0000019-", { start: 123_000_001, end: undefined }],
    ["npt=5.-;time=19970123T143720Z", { start: 5_000_000, end: undefined }],
    ["npt=-", undefined],
    ["npt=", undefined],
    ["npt=5-5", undefined],
    ["npt=6-5", undefined],
    ["npt=0-now", undefined],
    ["npt=1-2,npt=3-4", undefined],
    ["npt=0:60:00-", undefined],
    ["npt=-1-", undefined],
    ["npt=1e3-", undefined],
    ["npt=1234567890-", undefined],
    ["smpte=0:10:20-", undefined],
    ["clock=19961108T142300Z-", undefined],
    ["", undefined],
  ];
  for (const [header, expected] of rows) t.deepEqual(parseNptRange(header), expected, header);
  t.is(formatNptRange(0, undefined), "npt=0.000-");
  t.is(formatNptRange(1_500_000, 20_000_001), "npt=1.500-20.000001");
  fc.assert(
    fc.property(fc.nat(1e15 - 2), fc.option(fc.nat(1e9), { nil: undefined }), (start, length) => {
      const end = length === undefined ? undefined : Math.min(start + 1 + length, 1e15 - 1);
      t.deepEqual(parseNptRange(formatNptRange(start, end)), { start, end });
    }),
  );
  fc.assert(fc.property(fc.string({ maxLength: 40 }), (text) => void parseNptRange(`npt=${text}`)));
});

test("RTP-Info", (t) => {
  const base = "rtsp://h/a.mp4";
  const tracks = [
    { url: trackUrl(base, 1), sequence: 65_535, timestamp: 0 },
    { url: trackUrl(base, 2), sequence: 1, timestamp: 4_294_967_295 },
  ];
  t.is(
    formatRtpInfo(tracks),
    "url=rtsp://h/a.mp4/trackID=1;seq=65535;rtptime=0,url=rtsp://h/a.mp4/trackID=2;seq=1;rtptime=4294967295",
  );
});

test("URLs", (t) => {
  const media = (segments: string[], base: string, track?: number) =>
    ({ kind: "media", segments, track, base }) as const;
  const rows: Array<[string, ReturnType<typeof parseUrl>]> = [
    ["*", { kind: "server" }],
    ["rtsp://h", media([], "rtsp://h")],
    ["rtsp://h/a.mp4", media(["a.mp4"], "rtsp://h/a.mp4")],
    ["RTSP://h:554/a.mp4/", media(["a.mp4"], "rtsp://h:554/a.mp4")],
    ["rtsp://[2001:db8::1]:8554/d/a%20b.mp4?x=/../y", media(["d", "a b.mp4"], "rtsp://[2001:db8::1]:8554/d/a%20b.mp4")],
    ["rtsp://h/a.mp4/trackID=2", media(["a.mp4"], "rtsp://h/a.mp4", 2)],
    ["rtsp://h/a.mp4//trackID=12", media(["a.mp4"], "rtsp://h/a.mp4", 12)],
    ["rtsp://h/a.mp4/trackID=0", media(["a.mp4", "trackID=0"], "rtsp://h/a.mp4/trackID%3D0")],
    ["rtsp://h/x/../a.mp4", media(["a.mp4"], "rtsp://h/a.mp4")],
    ["rtsp://h/../a.mp4", undefined],
    ["rtsp://h/%2e%2e/a.mp4", undefined],
    ["rtsp://h/x/%2e%2e/%2E%2E/a.mp4", undefined],
    ["rtsp://h/a%2fb", undefined],
    ["rtsp://h/a%00", undefined],
    ["rtsp://h/a%", undefined],
    ["rtsp://u:p@h/a.mp4", undefined],
    ["rtsp://h;x/a.mp4", undefined],
    ["rtsp:///a.mp4", undefined],
    ["http://h/a.mp4", undefined],
    ["/a.mp4", undefined],
    ["", undefined],
  ];
  for (const [url, expected] of rows) t.deepEqual(parseUrl(url), expected, url);
  fc.assert(
    fc.property(fc.stringMatching(/^[!-~]{0,40}$/), (rest) => {
      const subject = parseUrl(`rtsp://h/${rest}`);
      if (subject?.kind !== "media") return;
      t.true(
        subject.segments.every(
          (segment) => segment !== "" && segment !== "." && segment !== ".." && !/[/\0]/.test(segment),
        ),
      );
      t.regex(subject.base, /^rtsp:\/\/h[!-~]*$/);
      const again = parseUrl(trackUrl(subject.base, 7));
      t.deepEqual(again, { ...subject, track: 7 });
    }),
  );
});
