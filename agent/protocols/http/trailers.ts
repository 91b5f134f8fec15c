import { CONDITIONS, ofOneHop, WRITTEN_ANEW } from "./forwarding.js";
import { LINE_REST, TRAILERS_MAX } from "./request.js";

type Line = [string, string];

/**
 * What says where a message ends, whom it is for, who asks, or how it is to be understood, has to be known before its body (RFC 9110
 * section 6.5.1). Behind it, one of two servers in a row could believe it.
 */
const NOT_BEHIND = new Set([
  ...CONDITIONS,
  ...WRITTEN_ANEW,
  // routing and control of a request
  "host",
  "cache-control",
  "expect",
  "idempotency-key",
  "max-forwards",
  "pragma",
  // who somebody is
  "authorization",
  "cookie",
  "set-cookie",
  "www-authenticate",
  // control of a response
  "age",
  "date",
  "expires",
  "location",
  "retry-after",
  "vary",
  "warning",
]);
/** What a body is; but its digest is known when it ends (RFC 9530 section 2). */
const OF_CONTENT = /^content-(?!digest$)/;
const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/**
 * The field lines behind a body that go on to the next hop. They may be dropped anywhere (RFC 9110 section 6.5.1), so where there are more
 * than TRAILERS_MAX bytes of them none go on.
 * @param head the message's header lines, whose Connection may name more that stay here
 */
export function passedTrailers(trailers: readonly Line[], head: readonly Line[]): Line[] {
  if (trailers.length === 0 || bytesOf(trailers) > TRAILERS_MAX) return []; // as a rule there are none
  const mayPass = passing(head);
  return trailers.filter(([name, value]) => mayPass(name) && VALUE.test(value));
}

/** What says ahead which fields will follow, of those that go on (RFC 9110 section 6.6.2). For messages whose trailers do. */
export function announcement(head: readonly Line[]): Line[] {
  const names = head
    .filter(([name]) => name.toLowerCase() === "trailer")
    .flatMap(([, value]) => value.split(","))
    .map((name) => name.trim())
    .filter(passing(head));
  return names.length > 0 ? [["Trailer", names.join(", ")]] : [];
}

function passing(head: readonly Line[]): (name: string) => boolean {
  const hop = ofOneHop(head);
  return (name) => {
    const key = name.toLowerCase();
    return NAME.test(name) && !hop.has(key) && !NOT_BEHIND.has(key) && !OF_CONTENT.test(key);
  };
}

function bytesOf(lines: readonly Line[]): number {
  return lines.reduce((sum, [name, value]) => sum + name.length + value.length + LINE_REST, 0);
}
