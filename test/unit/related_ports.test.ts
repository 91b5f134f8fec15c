import test from "ava";
import { isRelatedPort, relatedPortsOf, relatedTransports } from "../../proto/config/index.js";
import { reloadProblem } from "../../proto/config/reload.js";
import { parseServices } from "../support/services.js";

/** A file whose protocol app has related flows, as none of today's has. */

test.before(() => {
  relatedTransports.app = ["tcp", "udp"];
});

const app = (name: string, port: number, ports: string) =>
  `name: ${name}, port: ${port}, protocol: app, relatedPorts: "${ports}"`;

test("each port of the range takes part with each transport", (t) => {
  const { services } = parseServices(app("a", 7, "30000-30001"), "name: b, port: 8, protocol: app");
  t.deepEqual(relatedPortsOf(services[0]!), [
    { port: 30_000, transport: "tcp" },
    { port: 30_001, transport: "tcp" },
    { port: 30_000, transport: "udp" },
    { port: 30_001, transport: "udp" },
  ]);
  t.deepEqual(relatedPortsOf(services[1]!), []);
  t.true(isRelatedPort(services, 30_001, "udp"));
  t.false(isRelatedPort(services, 30_002, "udp"));
  t.false(isRelatedPort(services, 7, "tcp"));
});

for (const [what, services, message] of [
  [
    "no range",
    [app("a", 7, "30000")],
    '/etc/baton.yaml:5:54: services[0].relatedPorts must be FROM-TO, two ports of 1 to 65535, the lower one first, not "30000".',
  ],
  [
    "a range the wrong way round",
    [app("a", 7, "30001-30000")],
    '/etc/baton.yaml:5:54: services[0].relatedPorts must be FROM-TO, two ports of 1 to 65535, the lower one first, not "30001-30000".',
  ],
  [
    "too many ports",
    [app("a", 7, "30000-31024")],
    '/etc/baton.yaml:5:54: services[0].relatedPorts must have at most 1024 ports, not "30000-31024".',
  ],
  [
    "a service's port",
    [app("a", 7, "30000-30099"), "name: b, port: 30050, protocol: app"],
    "/etc/baton.yaml:5:54: services[0].relatedPorts 30000-30099 has the port of services[1].",
  ],
  [
    "another service's range",
    [app("a", 7, "30000-30099"), app("b", 8, "30099-30100")],
    "/etc/baton.yaml:6:54: services[1].relatedPorts 30099-30100 overlaps services[0].relatedPorts.",
  ],
  [
    "a protocol whose connections stand alone",
    ['name: a, port: 80, protocol: http, directory: /srv, relatedPorts: "30000-30099"'],
    "/etc/baton.yaml:5:59: services[0].relatedPorts must be left out: connections of protocol http stand alone.",
  ],
  [
    "more than fits",
    [app("a", 7, "30000-31023"), app("b", 8, "32000-33023")],
    "/etc/baton.yaml:6:54: services[1].relatedPorts 32000-33023 is too much: all services together may have at most 4096 ports, each transport counted.",
  ],
] as [string, string[], string][]) {
  test(`refused: ${what}`, (t) => {
    t.is(t.throws(() => parseServices(...services))?.message, message);
  });
}

test("the range does not change under way", (t) => {
  const before = parseServices(app("a", 7, "30000-30099"));
  t.is(reloadProblem(before, parseServices(app("a", 7, "30000-30099"))), "");
  t.is(
    reloadProblem(before, parseServices(app("a", 7, "30000-30098"))),
    "relatedPorts of service a has changed, which takes effect with a restart only",
  );
});
