import test from "ava";
import { parseServices } from "../support/services.js";

const rtsp = (groups: string, more = "") =>
  `name: rtsp, port: 554, protocol: rtsp, directory: /srv, multicast: [${groups}]${more}`;
const FOUR = "{ file: /a.mp4, group: 239.1.2.3 }";

test("a file may have a group of each family", (t) => {
  const { services } = parseServices(rtsp(`${FOUR}, { file: /a.mp4, group: "FF15::0A", port: 6000, ttl: 1 }`));
  t.deepEqual(services[0]!.multicast, [
    { file: "/a.mp4", group: "239.1.2.3", port: 5_004, ttl: 16 },
    { file: "/a.mp4", group: "ff15::a", port: 6_000, ttl: 1 },
  ]);
});

for (const [what, service, message] of [
  [
    "no address of a group",
    rtsp("{ file: /a, group: 10.1.2.3 }"),
    "services[0].multicast[0].group 10.1.2.3 is not a multicast address.",
  ],
  [
    "a group of the link's own",
    rtsp("{ file: /a, group: 224.0.0.5 }"),
    "services[0].multicast[0].group 224.0.0.5 is kept for protocols of the link or the host itself.",
  ],
  [
    "a group of the host's own",
    rtsp('{ file: /a, group: "ff11::1" }'),
    "services[0].multicast[0].group ff11::1 is kept for protocols of the link or the host itself.",
  ],
  [
    "a group twice",
    rtsp(`${FOUR}, { file: /b, group: 239.1.2.3 }`),
    "Group 239.1.2.3 is used already by services[0].multicast[0].group.",
  ],
  [
    "a file twice",
    rtsp(`${FOUR}, { file: /a.mp4, group: 239.1.2.4 }`),
    "A group for /a.mp4 (IPv4) is used already by services[0].multicast[0].file.",
  ],
  [
    "another protocol",
    `name: a, port: 7, protocol: app, multicast: [${FOUR}]`,
    "services[0].multicast must be left out: protocol app has no groups.",
  ],
  [
    "a service that is not protected",
    rtsp(FOUR, ", protect: false"),
    "services[0].multicast must be left out: who leads a group is in records.",
  ],
  [
    "an odd port",
    rtsp("{ file: /a, group: 239.1.2.3, port: 5005 }"),
    "services[0].multicast[0].port must be even: RTCP has the port above it, not 5005.",
  ],
  [
    "no path",
    rtsp("{ file: a, group: 239.1.2.3 }"),
    'services[0].multicast[0].file must be the path of a file as clients name it, with a slash in front, not "a".',
  ],
] as const) {
  test(what, (t) => {
    const { message: said } = t.throws(() => parseServices(service))!;
    t.is(said.replace(/^\S+ /, ""), message);
  });
}
