import test from "ava";
import type { Movie } from "../../../agent/media/index.js";
import { describe, payloadTypeOf } from "../../../agent/protocols/rtsp/sdp.js";
import { audioOf, videoOf } from "../media/synthetic.js";

const movie: Movie = { tracks: [videoOf([[]]).track, audioOf([Buffer.alloc(1)]).track], durationUs: 12_345_678 };
const description = { id: 42, version: 7, title: "a film\r\nx=y", origin: "192.0.2.1" };

test("unicast", (t) => {
  t.deepEqual(describe(movie, description).toString().split("\r\n"), [
    "v=0",
    "o=- 42 7 IN IP4 192.0.2.1",
    "s=a film x=y",
    "c=IN IP4 0.0.0.0",
    "t=0 0",
    "a=control:*",
    "a=range:npt=0.000-12.345678",
    "m=video 0 RTP/AVP 96",
    "a=rtpmap:96 H264/90000",
    "a=fmtp:96 packetization-mode=1;profile-level-id=42001E;sprop-parameter-sets=Z0IAHgEC,aAkJ",
    "a=control:trackID=1",
    "m=audio 0 RTP/AVP 97",
    "a=rtpmap:97 mpeg4-generic/44100/2",
    "a=fmtp:97 streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1210",
    "a=control:trackID=2",
    "",
  ]);
});

test("multicast, IPv6, no parameter sets, no title", (t) => {
  const multicast = { address: "239.1.2.3", ttl: 16, ports: [5_000, 5_002] };
  const four = describe(movie, { ...description, multicast }).toString();
  t.regex(four, /\r\nc=IN IP4 239\.1\.2\.3\/16\r\n/);
  t.regex(four, /\r\nm=video 5000 .*\r\nm=audio 5002 /s);
  const six = { ...description, origin: "2001:db8::1", title: "" };
  t.regex(describe(movie, six).toString(), /o=- 42 7 IN IP6 2001:db8::1\r\ns= \r\nc=IN IP6 ::\r\n/);
  t.regex(
    describe(movie, { ...six, multicast: { ...multicast, address: "ff1e::5" } }).toString(),
    /\r\nc=IN IP6 ff1e::5\r\n/,
  );
  const [video] = movie.tracks;
  const bare = { ...movie, tracks: [{ ...video, sequenceSets: [], pictureSets: [] } as Movie["tracks"][number]] };
  t.regex(describe(bare, description).toString(), /a=fmtp:96 packetization-mode=1\r\n/);
  t.is(payloadTypeOf({ number: 2 }), 97);
});
