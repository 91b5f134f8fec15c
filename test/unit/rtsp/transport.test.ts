import test from "ava";
import fc from "fast-check";
import { chooseTransport, formatTransport, type Possible } from "../../../agent/protocols/rtsp/transport.js";

const group = { address: "239.1.2.3", rtpPort: 5_000, rtcpPort: 5_001, ttl: 16 };
const all: Possible = { client: "192.0.2.7", udp: true, interleaved: true, group, taken: new Set() };

test("offers", (t) => {
  const udp = (rtpPort: number, rtcpPort: number) => ({ kind: "udp", rtpPort, rtcpPort }) as const;
  const tcp = (rtpChannel: number, rtcpChannel: number) => ({ kind: "interleaved", rtpChannel, rtcpChannel }) as const;
  const multicast = { kind: "multicast", ...group } as const;
  const rows: Array<[string, ReturnType<typeof chooseTransport>, Partial<Possible>?]> = [
    ["RTP/AVP;unicast;client_port=4588-4589", udp(4588, 4589)],
    ["rtp/avp/udp; unicast ; client_port = 4588-4589 ;mode=play", udp(4588, 4589)],
    ["RTP/AVP;client_port=4588", udp(4588, 4589)],
    ['RTP/AVP;unicast;client_port=4588-4589;mode="PLAY"', udp(4588, 4589)],
    ["RTP/AVP;unicast;client_port=1-65535", udp(1, 65_535)],
    ["RTP/AVP/TCP;unicast;interleaved=0-1", tcp(0, 1)],
    ["RTP/AVP/TCP;interleaved=254-255", tcp(254, 255)],
    ["RTP/AVP/TCP", tcp(0, 1)],
    ["RTP/AVP/TCP;interleaved=0-1", tcp(2, 3), { taken: new Set([1]) }],
    ["RTP/AVP/TCP", undefined, { taken: new Set(Array.from({ length: 128 }, (_, i) => i * 2)) }],
    ["RTP/AVP;multicast", multicast],
    ["RTP/AVP", multicast],
    ["RTP/AVP;multicast;destination=239.1.2.3;port=5000-5001;ttl=127", multicast],
    ["RTP/AVP;multicast;client_port=1-2", multicast],
    ["RTP/AVP;unicast;destination=192.0.2.7;client_port=4588-4589", udp(4588, 4589)],
    ["RTP/AVP;unicast;destination;client_port=4588-4589", udp(4588, 4589)],
    ["RTP/AVP;unicast;destination=::ffff:192.0.2.7;client_port=4588-4589", udp(4588, 4589)],
    ["RTP/AVP;unicast;destination=[2001:DB8:0::7];client_port=2-3", udp(2, 3), { client: "2001:db8::7" }],
    // The first one that can be met.
    ["RAW/RAW/UDP,RTP/SAVP;unicast;client_port=2-3,RTP/AVP/TCP;interleaved=4-5,RTP/AVP;client_port=2-3", tcp(4, 5)],
    ["RTP/AVP;unicast;client_port=2-3,RTP/AVP/TCP;interleaved=4-5", tcp(4, 5), { udp: false }],
    ['RTP/AVP;unicast;client_port=2-3;mode="PLAY,RECORD",RTP/AVP/TCP', tcp(0, 1)],
    // None.
    ["RTP/AVP;unicast;client_port=2-3;mode=RECORD", undefined],
    ["RTP/AVP;unicast", undefined],
    ["RTP/AVP;unicast;client_port=0-1", undefined],
    ["RTP/AVP;unicast;client_port=65535", undefined],
    ["RTP/AVP;unicast;client_port=5-5", undefined],
    ["RTP/AVP;unicast;client_port=5-99999", undefined],
    ["RTP/AVP;unicast;client_port=a-b", undefined],
    ["RTP/AVP;unicast;client_port=2-3;client_port=4-5", undefined],
    ["RTP/AVP;unicast;multicast;client_port=2-3", undefined],
    ["RTP/AVP;unicast;destination=192.0.2.8;client_port=2-3", undefined],
    ["RTP/AVP;unicast;destination=victim.example;client_port=2-3", undefined],
    ["RTP/AVP/TCP;interleaved=255", undefined],
    ["RTP/AVP/TCP;interleaved=255-256", undefined],
    ["RTP/AVP/TCP;multicast", undefined],
    ["RTP/AVP/TCP;destination=192.0.2.8", undefined],
    ["RTP/AVP;multicast;destination=239.9.9.9", undefined],
    ["RTP/AVP;multicast;port=6000-6001", undefined],
    ["RTP/AVP;multicast", undefined, { group: undefined }],
    ["RTP/AVP/TCP", undefined, { interleaved: false }],
    ["RTP/AVP;=x;unicast;client_port=2-3", undefined],
    ["", undefined],
    [',;,"', undefined],
    [`${"x,".repeat(16)}RTP/AVP/TCP`, undefined],
  ];
  for (const [header, expected, more] of rows) {
    const { group: _, ...without } = all;
    const possible = more && "group" in more ? without : { ...all, ...more };
    t.deepEqual(chooseTransport(header, possible as Possible), expected, header);
  }
});

test("what is answered", (t) => {
  const ssrc = 0x00c0ffee;
  const serverPorts = { rtpPort: 6_970, rtcpPort: 6_971 };
  t.is(
    formatTransport({ kind: "udp", rtpPort: 2, rtcpPort: 3 }, { ssrc, serverPorts }),
    'RTP/AVP;unicast;client_port=2-3;server_port=6970-6971;ssrc=00C0FFEE;mode="PLAY"',
  );
  t.is(
    formatTransport({ kind: "interleaved", rtpChannel: 0, rtcpChannel: 1 }, { ssrc: -1 }),
    'RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=FFFFFFFF;mode="PLAY"',
  );
  t.is(
    formatTransport({ kind: "multicast", ...group }, { ssrc }),
    'RTP/AVP;multicast;destination=239.1.2.3;port=5000-5001;ttl=16;ssrc=00C0FFEE;mode="PLAY"',
  );
});

test("our own answers are offers that are met; nothing else throws or leads elsewhere", (t) => {
  const words = fc.constantFrom(
    "RTP/AVP",
    "/TCP",
    ";",
    ",",
    "unicast",
    "multicast",
    "client_port=",
    "interleaved=",
    "1-2",
    "destination=",
    "9.9.9.9",
    '"',
    " ",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(words, fc.string({ maxLength: 5 })), { maxLength: 30 }), (parts) => {
      const chosen = chooseTransport(parts.join(""), all);
      if (!chosen) return;
      if (chosen.kind === "multicast") t.is(chosen.address, group.address);
      t.deepEqual(chooseTransport(formatTransport(chosen, { ssrc: 1 }), all), chosen);
    }),
    { numRuns: 1_000 },
  );
  t.pass();
});
