/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Cursor parsers over direct packet access. All three packet programs use them: XDP on the appliance, XDP and tc on a
 * server. A parser checks bounds, moves the cursor behind its header and returns what comes next, or a negative
 * enum baton_parse. Lengths come from the IP header, never from data_end: a GSO packet at tc is not linear.
 *
 * Include vmlinux.h or <linux/bpf.h> first, then <bpf/bpf_helpers.h> and <bpf/bpf_endian.h>.
 */
#ifndef BATON_PARSE_H
#define BATON_PARSE_H

#ifndef __VMLINUX_H__
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>
#endif
#include "shared.h"

#define BATON_ETH_IPV4 0x0800
#define BATON_ETH_IPV6 0x86DD
#define BATON_ETH_VLAN 0x8100
#define BATON_ETH_QINQ 0x88A8
#define BATON_PROTO_ICMP 1
#define BATON_PROTO_TCP 6
#define BATON_PROTO_UDP 17
#define BATON_PROTO_ICMPV6 58
#define BATON_IPV6_HEADERS_MAX 6 /* extension headers walked before a packet counts as malformed */
#define BATON_IPV6_BYTES_MAX 2048 /* of extension headers before the last one */
#define BATON_TCP_OPTIONS_MAX 40

/*
 * The verifier follows the exact value of a stack slot at a multiple of 8 bytes, and of an offset into a packet it would
 * then check every value one by one (seen: 275,000 instructions). Elsewhere it knows only "some number", which is all it
 * needs, as every use is checked against a bound.
 */
#define BATON_UNTRACKED(type, member) _Static_assert(__builtin_offsetof(type, member) % 8 == 4, #member " is untracked")

enum baton_parse {
	BATON_PARSE_MALFORMED = -1, /* cut short or contradictory */
	BATON_PARSE_FRAGMENT = -2,  /* part of a fragmented packet: the first one too, its siblings have no ports */
	BATON_PARSE_VLAN = -3,      /* tagged more than twice */
};

struct baton_cursor {
	__u8 *at;
	__u8 *end; /* data_end */
};

/*
 * Pointers are valid only where the return value of the parser that sets them says so. One pointer for both IP versions:
 * the compiler likes to merge their paths, and the verifier would then see a pointer that was never set.
 */
struct baton_headers {
	struct ethhdr *eth;
	union {
		struct iphdr *ip4;   /* version 4 */
		struct ipv6hdr *ip6; /* version 6 */
	};
	__u32 version;       /* 4 or 6 as soon as the fixed header is known to be there, whatever else is wrong; 0 before */
	union {
		struct tcphdr *tcp;
		struct udphdr *udp;
	};
	__u32 length;        /* bytes from the transport header on, by the IP header; behind parse_tcp: of payload */
	__u32 tcp_bytes;     /* TCP header with options, behind parse_tcp */
};

static __always_inline struct baton_cursor baton_cursor(__u64 data, __u64 data_end)
{
	return (struct baton_cursor){ (__u8 *)(long)data, (__u8 *)(long)data_end };
}

/* Returns the EtherType in host order, behind up to two tags. */
static __always_inline int parse_ethernet(struct baton_cursor *c, struct baton_headers *h)
{
	struct ethhdr *eth = (void *)c->at;
	__u16 type;

	if ((__u8 *)(eth + 1) > c->end)
		return BATON_PARSE_MALFORMED;
	h->eth = eth;
	type = eth->h_proto;
	c->at += sizeof(*eth);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (type != bpf_htons(BATON_ETH_VLAN) && type != bpf_htons(BATON_ETH_QINQ))
			return bpf_ntohs(type);
		if (c->at + 4 > c->end)
			return BATON_PARSE_MALFORMED;
		type = *(__u16 *)(c->at + 2);
		c->at += 4;
	}
	if (type == bpf_htons(BATON_ETH_VLAN) || type == bpf_htons(BATON_ETH_QINQ))
		return BATON_PARSE_VLAN;
	return bpf_ntohs(type);
}

/* Returns the transport protocol. Sets ip4 also when it answers FRAGMENT. */
static __always_inline int parse_ipv4(struct baton_cursor *c, struct baton_headers *h)
{
	struct iphdr *ip = (void *)c->at;
	__u32 header;

	if ((__u8 *)(ip + 1) > c->end)
		return BATON_PARSE_MALFORMED;
	h->ip4 = ip;
	h->version = 4;
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip) || bpf_ntohs(ip->tot_len) < header)
		return BATON_PARSE_MALFORMED;
	h->length = bpf_ntohs(ip->tot_len) - header;
	if (ip->frag_off & bpf_htons(0x3fff)) /* more fragments, or an offset */
		return BATON_PARSE_FRAGMENT;
	c->at += header;
	return ip->protocol;
}

static __always_inline int ipv6_is_extension(__u8 next)
{
	return next == 0 || next == 43 || next == 44 || next == 51 || next == 60 || next == 135;
}

struct baton_ipv6_walk {
	const __u8 *first, *end;
	__u32 length;
	__u32 offset; /* see BATON_UNTRACKED */
	int next;     /* header that stands at `offset`, or enum baton_parse */
};
BATON_UNTRACKED(struct baton_ipv6_walk, offset);

/* One extension header, as bpf_loop calls it; 1 ends the walk. An atomic fragment (RFC 6946) is a whole packet. */
static long parse_ipv6_extension(__u32 index, void *context)
{
	struct baton_ipv6_walk *w = context;
	__u32 offset = w->offset, bytes;
	__u8 kind = w->next;
	const __u8 *at;

	if (!ipv6_is_extension(kind))
		return 1;
	w->next = BATON_PARSE_MALFORMED;
	if (offset > BATON_IPV6_BYTES_MAX)
		return 1;
	at = w->first + offset;
	if (at + 8 > w->end)
		return 1;
	if (kind == 44) {
		if (*(__u16 *)(at + 2) & bpf_htons(0xfff9)) {
			w->next = BATON_PARSE_FRAGMENT;
			return 1;
		}
		bytes = 8;
	} else {
		bytes = kind == 51 ? (at[1] + 2) * 4 : (at[1] + 1) * 8;
	}
	if (offset + bytes > w->length)
		return 1;
	w->offset = offset + bytes;
	w->next = at[0];
	return 0;
}

/*
 * Walks the extension headers (RFC 8200 section 4) from the cursor on. Rare, so bpf_loop: the verifier looks at its body
 * once, where an ordinary loop explodes.
 */
static __always_inline int parse_ipv6_extensions(struct baton_cursor *c, __u32 *length, __u8 next)
{
	struct baton_ipv6_walk w = { .first = c->at, .end = c->end, .length = *length, .next = next };
	__u32 offset;

	bpf_loop(BATON_IPV6_HEADERS_MAX, parse_ipv6_extension, &w, 0);
	if (w.next < 0)
		return w.next;
	offset = w.offset;
	if (ipv6_is_extension(w.next) || offset > 2 * BATON_IPV6_BYTES_MAX)
		return BATON_PARSE_MALFORMED;
	c->at += offset;
	*length -= offset;
	return w.next;
}

/* Returns the transport protocol. Sets ip6 also when it answers FRAGMENT. */
static __always_inline int parse_ipv6(struct baton_cursor *c, struct baton_headers *h)
{
	struct ipv6hdr *ip = (void *)c->at;

	if ((__u8 *)(ip + 1) > c->end)
		return BATON_PARSE_MALFORMED;
	h->ip6 = ip;
	h->version = 6;
	if (ip->version != 6)
		return BATON_PARSE_MALFORMED;
	h->length = bpf_ntohs(ip->payload_len);
	c->at += sizeof(*ip);
	if (ip->nexthdr == BATON_PROTO_TCP)
		return BATON_PROTO_TCP;
	return parse_ipv6_extensions(c, &h->length, ip->nexthdr);
}

/* Returns 0. The cursor then stands behind the fixed header, at the options; h->length is the payload. */
static __always_inline int parse_tcp(struct baton_cursor *c, struct baton_headers *h)
{
	struct tcphdr *tcp = (void *)c->at;

	if ((__u8 *)(tcp + 1) > c->end)
		return BATON_PARSE_MALFORMED;
	h->tcp = tcp;
	h->tcp_bytes = tcp->doff * 4;
	if (h->tcp_bytes < sizeof(*tcp) || h->tcp_bytes > h->length)
		return BATON_PARSE_MALFORMED;
	h->length -= h->tcp_bytes;
	c->at += sizeof(*tcp);
	return 0;
}

/* Returns 0; h->length is the payload. The UDP length of a datagram of the kernel's own may be beyond one packet (GSO): not looked at. */
static __always_inline int parse_udp(struct baton_cursor *c, struct baton_headers *h)
{
	struct udphdr *udp = (void *)c->at;

	if ((__u8 *)(udp + 1) > c->end || h->length < sizeof(*udp))
		return BATON_PARSE_MALFORMED;
	h->udp = udp;
	h->length -= sizeof(*udp);
	c->at += sizeof(*udp);
	return 0;
}

/* Sequence number behind the segment: payload, SYN and FIN occupy one each (RFC 9293 section 3.4). */
static __always_inline __u32 tcp_segment_end(const struct baton_headers *h)
{
	return bpf_ntohl(h->tcp->seq) + h->length + h->tcp->syn + h->tcp->fin;
}

/* BATON_TCP_* of a header. */
static __always_inline __u8 tcp_flags(const struct tcphdr *tcp)
{
	return ((const __u8 *)tcp)[13] & (BATON_TCP_FIN | BATON_TCP_SYN | BATON_TCP_RST | BATON_TCP_ACK);
}

struct baton_tcp_options {
	__u32 tsval, tsecr;
	__u16 mss;     /* 0: not there */
	__u8 wscale;   /* 0xff: not there */
	__u8 flags;    /* BATON_SYN_SACK (permitted), BATON_SYN_TIMESTAMPS */
};

struct baton_options_walk {
	const __u8 *options, *end;
	__u32 bytes;
	__u32 offset; /* see BATON_UNTRACKED */
	struct baton_tcp_options found;
};
BATON_UNTRACKED(struct baton_options_walk, offset);

/* One option, as bpf_loop calls it; 1 ends the walk: at the end of the list or where it makes no sense. */
static long parse_tcp_option(__u32 index, void *context)
{
	struct baton_options_walk *w = context;
	__u32 offset = w->offset;
	const __u8 *at;
	__u8 kind, length;

	if (offset >= w->bytes || offset >= BATON_TCP_OPTIONS_MAX)
		return 1;
	at = w->options + offset;
	if (at + 1 > w->end || at[0] == 0)
		return 1;
	kind = at[0];
	if (kind == 1) {
		w->offset = offset + 1;
		return 0;
	}
	if (at + 2 > w->end || at[1] < 2 || offset + at[1] > w->bytes)
		return 1;
	length = at[1];
	if (kind == 8 && length == 10 && at + 10 <= w->end) {
		w->found.tsval = bpf_ntohl(*(__u32 *)(at + 2));
		w->found.tsecr = bpf_ntohl(*(__u32 *)(at + 6));
		w->found.flags |= BATON_SYN_TIMESTAMPS;
	} else if (kind == 2 && length == 4 && at + 4 <= w->end) {
		w->found.mss = bpf_ntohs(*(__u16 *)(at + 2));
	} else if (kind == 3 && length == 3 && at + 3 <= w->end) {
		w->found.wscale = at[2] > 14 ? 14 : at[2]; /* RFC 7323 section 2.3 */
	} else if (kind == 4 && length == 2) {
		w->found.flags |= BATON_SYN_SACK;
	}
	w->offset = offset + length;
	return 0;
}

/*
 * Every option of a segment whose parse_tcp went well; `c` as it left the cursor. Stops quietly at nonsense, as Linux
 * does. bpf_loop, because the verifier looks at its body once: unrolled, the walk alone is a million instructions.
 */
static __always_inline struct baton_tcp_options parse_tcp_options(const struct baton_cursor *c,
								  const struct baton_headers *h)
{
	struct baton_options_walk w = {
		.options = c->at, .end = c->end, .bytes = h->tcp_bytes - sizeof(struct tcphdr), .found = { .wscale = 0xff },
	};

	bpf_loop(BATON_TCP_OPTIONS_MAX, parse_tcp_option, &w, 0);
	return w.found;
}

/*
 * Timestamps only. Nearly every segment begins its options with NOP NOP TS (RFC 7323 appendix A): one compare.
 * Returns whether there were any; tsval and tsecr are 0 without.
 */
static __always_inline int parse_tcp_timestamps(const struct baton_cursor *c, const struct baton_headers *h,
						__u32 *tsval, __u32 *tsecr)
{
	struct baton_tcp_options found;
	const __u32 *word = (const void *)c->at;

	*tsval = *tsecr = 0;
	if (h->tcp_bytes == sizeof(struct tcphdr))
		return 0;
	if (h->tcp_bytes >= sizeof(struct tcphdr) + 12 && c->at + 12 <= c->end && word[0] == bpf_htonl(0x0101080a)) {
		*tsval = bpf_ntohl(word[1]);
		*tsecr = bpf_ntohl(word[2]);
		return 1;
	}
	found = parse_tcp_options(c, h);
	*tsval = found.tsval;
	*tsecr = found.tsecr;
	return !!(found.flags & BATON_SYN_TIMESTAMPS);
}

/* ICMP error: what the offending packet, quoted behind the ICMP header, says of itself. */
struct baton_quote {
	union {
		struct iphdr *ip4;
		struct ipv6hdr *ip6;
	};
	__be16 source, dest;
	__u8 transport;
};

/*
 * Cursor at the ICMP or ICMPv6 header. Returns 0 for "fragmentation needed" (3/4) and "packet too big" (2/0) that quote
 * a TCP or UDP packet, 1 for any other ICMP. The quote may end 8 bytes behind its IP header (RFC 792).
 */
static __always_inline int parse_icmp_quote(struct baton_cursor *c, int v6, struct baton_quote *q)
{
	struct baton_headers inner = {};
	int next;

	if (c->at + 8 > c->end)
		return BATON_PARSE_MALFORMED;
	if (v6 ? c->at[0] != 2 : (c->at[0] != 3 || c->at[1] != 4))
		return 1;
	c->at += 8;
	next = v6 ? parse_ipv6(c, &inner) : parse_ipv4(c, &inner);
	if (next < 0)
		return next;
	if (next != BATON_PROTO_TCP && next != BATON_PROTO_UDP)
		return 1;
	if (c->at + 4 > c->end)
		return BATON_PARSE_MALFORMED;
	if (v6)
		q->ip6 = inner.ip6;
	else
		q->ip4 = inner.ip4;
	q->source = *(__be16 *)c->at;
	q->dest = *(__be16 *)(c->at + 2);
	q->transport = next;
	return 0;
}

static __always_inline void address_from_ipv4(__u8 address[16], __be32 ipv4)
{
	__u32 *word = (void *)address;

	word[0] = word[1] = 0;
	word[2] = bpf_htonl(0xffff);
	word[3] = ipv4;
}

static __always_inline void address_from_ipv6(__u8 address[16], const void *ipv6)
{
	/* by words: the program targets machines with unaligned access, and a packet's IP header never is at 8 bytes */
	((__u64 *)address)[0] = ((const __u64 *)ipv6)[0];
	((__u64 *)address)[1] = ((const __u64 *)ipv6)[1];
}

/* Flow of a packet that a client sent: source is the client. TCP and UDP have their ports at the same place. */
static __always_inline void flow_from_client(struct baton_flow *f, const struct baton_headers *h, __u8 transport)
{
	if (h->version == 4) {
		address_from_ipv4(f->client, h->ip4->saddr);
		address_from_ipv4(f->vip, h->ip4->daddr);
	} else {
		address_from_ipv6(f->client, &h->ip6->saddr);
		address_from_ipv6(f->vip, &h->ip6->daddr);
	}
	f->client_port = h->tcp->source;
	f->vip_port = h->tcp->dest;
	f->transport = transport;
	f->pad[0] = f->pad[1] = f->pad[2] = 0;
}

/* Flow of a packet that a server sent: source is the VIP. */
static __always_inline void flow_from_server(struct baton_flow *f, const struct baton_headers *h, __u8 transport)
{
	if (h->version == 4) {
		address_from_ipv4(f->client, h->ip4->daddr);
		address_from_ipv4(f->vip, h->ip4->saddr);
	} else {
		address_from_ipv6(f->client, &h->ip6->daddr);
		address_from_ipv6(f->vip, &h->ip6->saddr);
	}
	f->client_port = h->tcp->dest;
	f->vip_port = h->tcp->source;
	f->transport = transport;
	f->pad[0] = f->pad[1] = f->pad[2] = 0;
}

#endif
