// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The appliance: finds the owner of every flow to a VIP and sends its packets there, or holds them.
 *
 *   frame ──► for a VIP? ──► recent, no exception, owner well ──────────────────────────────► forward
 *                 │                     │ anything else
 *                 ▼ no                  ▼
 *           own stack        of a related flow? from here on it is its control connection's
 *                                       ▼
 *                            exceptions ► recent ► service? Maglev ──► owner held? ──► hold ──► ring buffer
 *                                                                          │ no            released ──► forward
 *                                                                          ▼
 *                                                               sent by that owner itself? ──► ring buffer
 *                                                                          │ no
 *                                                                          ▼
 *                                                                       forward
 *
 * Every packet ends in one verdict of verdict.h and is counted under it, in one place.
 */
#include <linux/bpf.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "shared.h"
#include "verdict.h"
#include "parse.h"
#include "steer_maps.h"
#include "steered.h"
#include "recent.h"
#include "hold.h"
#include "forward.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A VIP that a packet is for. */
struct vip {
	__u64 seed;
	__u8 index;
};

/* ---- headers ------------------------------------------------------------------------------------------------------- */

/* Settings are constants to the verifier: of these loops only the VIPs that there are remain. */
static __always_inline int find_vip4(__u32 address, struct vip *vip)
{
#pragma unroll
	for (int i = 0; i < BATON_VIPS_MAX; i++) {
		if (i < vip4_count && address == vip4[i]) {
			vip->seed = vip4_seed[i];
			vip->index = i;
			return 1;
		}
	}
	return 0;
}

static __always_inline int find_vip6(const void *address, struct vip *vip)
{
	const __u64 *word = address;

#pragma unroll
	for (int i = 0; i < BATON_VIPS_MAX; i++) {
		if (i < vip6_count && word[0] == vip6[i][0] && word[1] == vip6[i][1]) {
			vip->seed = vip6_seed[i];
			vip->index = 16 + i;
			return 1;
		}
	}
	return 0;
}

/* Returns the transport protocol of a packet for a VIP, or a verdict as ~verdict. */
static __always_inline int read_ip(struct baton_cursor *c, struct baton_headers *h, struct vip *vip)
{
	int protocol = parse_ethernet(c, h);

	if (protocol == BATON_ETH_IPV4)
		protocol = parse_ipv4(c, h);
	else if (protocol == BATON_ETH_IPV6)
		protocol = parse_ipv6(c, h);
	else if (protocol >= 0)
		return ~BATON_STEER_PASS_NOT_VIP;
	if (protocol == BATON_PARSE_VLAN)
		return ~BATON_STEER_PASS_VLAN;
	if (h->version && !(h->version == 4 ? find_vip4(h->ip4->daddr, vip) : find_vip6(&h->ip6->daddr, vip)))
		return ~BATON_STEER_PASS_NOT_VIP;
	if (protocol == BATON_PARSE_FRAGMENT && h->version == 4 && h->ip4->protocol != BATON_PROTO_TCP)
		return ~BATON_STEER_PASS_VIP_OTHER;
	if (protocol == BATON_PARSE_FRAGMENT)
		return ~BATON_STEER_DROP_FRAGMENT;
	return protocol < 0 ? ~BATON_STEER_DROP_MALFORMED : protocol;
}

static __always_inline void set_key(struct steer_key *key, const struct vip *vip, __u64 client0, __u64 client1,
				    __u32 ports)
{
	key->client0 = client0;
	key->client1 = client1;
	key->ports = ports;
	key->vip = vip->index;
	key->hash = flow_hash(vip->seed, client0, client1, ports);
}

static __always_inline void key_of_tcp(struct steer_key *key, const struct baton_headers *h, const struct vip *vip)
{
	__u32 ports = *(const __u32 *)&h->tcp->source;

	if (h->version == 4) {
		set_key(key, vip, 0, 0xffff0000 | (__u64)h->ip4->saddr << 32, ports);
	} else {
		const __u64 *client = (const void *)&h->ip6->saddr;

		set_key(key, vip, client[0], client[1], ports);
	}
}

static __always_inline void describe_tcp(struct steered *s, const struct baton_cursor *c, const struct baton_headers *h,
					 const struct vip *vip)
{
	const struct tcphdr *tcp = h->tcp;

	key_of_tcp(&s->key, h, vip);
	flow_from_client(&s->flow, h, BATON_PROTO_TCP);
	s->syn = tcp->syn && !tcp->ack;
	s->acks = tcp->ack && !tcp->syn;
	s->pure = tcp->rst || (tcp->ack && !tcp->syn && !tcp->fin && !h->length);
	s->start = bpf_ntohl(tcp->seq);
	s->end = tcp_segment_end(h);
	s->ack = bpf_ntohl(tcp->ack_seq);
	s->window = bpf_ntohs(tcp->window);
	if (s->syn) {
		struct baton_tcp_options o = parse_tcp_options(c, h);

		s->offered.isn = s->start;
		s->offered.mss = o.mss;
		s->offered.wscale = o.wscale;
		s->offered.flags = o.flags | BATON_SYN_SEEN;
	} else {
		parse_tcp_timestamps(c, h, &s->tsval, &s->tsecr);
	}
}

/*
 * A packet of a related flow becomes one of its control connection, so that a bundle has one owner and one hold by construction. Its
 * numbers are not that connection's; a SYN goes to the owner of the bundle like everything else. Returns BATON_GO_ON or a verdict.
 */
static __always_inline int relate(struct steered *s, const struct vip *vip)
{
	struct baton_service service = { .port = s->flow.vip_port, .transport = s->flow.transport };
	const __u32 *kind = bpf_map_lookup_elem(&services, &service);
	const struct baton_related *control;

	if (!kind || *kind != BATON_SERVICE_RELATED)
		return s->flow.transport == BATON_PROTO_TCP ? BATON_GO_ON : BATON_STEER_PASS_VIP_OTHER;
	control = bpf_map_lookup_elem(&related, &s->flow);
	if (!control) {
		s->flow.client_port = 0;
		control = bpf_map_lookup_elem(&related, &s->flow);
	}
	if (!control)
		return BATON_STEER_DROP_NOT_RELATED;
	s->flow.client_port = control->client_port;
	s->flow.vip_port = control->vip_port;
	s->flow.transport = BATON_PROTO_TCP;
	set_key(&s->key, vip, ((__u64 *)s->flow.client)[0], ((__u64 *)s->flow.client)[1],
		control->client_port | (__u32)control->vip_port << 16);
	s->related = 1;
	s->syn = 0;
	return BATON_GO_ON;
}

/*
 * An ICMP error for a VIP: fills in the flow that it quotes, whose client is the destination there. Returns BATON_GO_ON or
 * a verdict.
 */
static __always_inline int describe_icmp(struct steered *s, struct baton_cursor *c, const struct baton_headers *h,
					 struct vip *vip)
{
	struct baton_quote q = {};
	int answer = parse_icmp_quote(c, h->version == 6, &q);
	__u8 outer = vip->index;

	if (answer)
		return answer > 0 ? BATON_STEER_PASS_VIP_OTHER :
		       answer == BATON_PARSE_FRAGMENT ? BATON_STEER_DROP_FRAGMENT : BATON_STEER_DROP_MALFORMED;
	if (h->version == 4) {
		if (!find_vip4(q.ip4->saddr, vip) || vip->index != outer)
			return BATON_STEER_DROP_MALFORMED;
		address_from_ipv4(s->flow.client, q.ip4->daddr);
		address_from_ipv4(s->flow.vip, q.ip4->saddr);
	} else {
		if (!find_vip6(&q.ip6->saddr, vip) || vip->index != outer)
			return BATON_STEER_DROP_MALFORMED;
		address_from_ipv6(s->flow.client, &q.ip6->daddr);
		address_from_ipv6(s->flow.vip, &q.ip6->saddr);
	}
	s->icmp = 1;
	s->flow.client_port = q.dest;
	s->flow.vip_port = q.source;
	s->flow.transport = q.transport;
	set_key(&s->key, vip, ((__u64 *)s->flow.client)[0], ((__u64 *)s->flow.client)[1], q.dest | (__u32)q.source << 16);
	return relate(s, vip);
}

/*
 * Everything about a packet that the fast path did not know what to do with, read anew: handing over what it has read
 * would cost it registers. Returns BATON_GO_ON or a verdict.
 */
BATON_GLOBAL int describe(struct xdp_md *ctx, struct steered *s BATON_NONNULL)
{
	struct baton_cursor c = baton_cursor(ctx->data, ctx->data_end);
	struct baton_headers h = {};
	struct vip vip = {};
	int protocol = read_ip(&c, &h, &vip);

	if (protocol < 0)
		return ~protocol;
	__builtin_memcpy(s->source.bytes, h.eth->h_source, 6);
	if (protocol == (h.version == 4 ? BATON_PROTO_ICMP : BATON_PROTO_ICMPV6))
		return describe_icmp(s, &c, &h, &vip);
	if (protocol == BATON_PROTO_UDP) {
		if (parse_udp(&c, &h))
			return BATON_STEER_DROP_MALFORMED;
		flow_from_client(&s->flow, &h, BATON_PROTO_UDP);
		return relate(s, &vip);
	}
	if (protocol != BATON_PROTO_TCP)
		return BATON_STEER_PASS_VIP_OTHER;
	if (parse_tcp(&c, &h))
		return BATON_STEER_DROP_MALFORMED;
	describe_tcp(s, &c, &h, &vip);
	return relate(s, &vip);
}

/* ---- owner --------------------------------------------------------------------------------------------------------- */

/* Whether the flow may be in `exceptions`. */
static __always_inline int filtered(__u32 hash)
{
	__u32 bit = hash >> (32 - BATON_FILTER_BITS), word = bit / 64;
	const __u64 *bits = bpf_map_lookup_elem(&exceptions_filter, &word);

	return bits && *bits >> (bit % 64) & 1;
}

static __always_inline int exception_owner(struct steered *s)
{
	const struct baton_exception *e;

	if (!filtered(s->key.hash))
		return 0;
	e = bpf_map_lookup_elem(&exceptions, &s->flow);
	if (!e || !server_of(e->slot, e->generation))
		return 0;
	s->slot = e->slot;
	s->generation = e->generation;
	s->exception = 1;
	s->look_for_hold = e->flags & BATON_EXCEPTION_HOLD;
	return 1;
}

/* A new tuple goes to a server that is UP. Where the one it hashes to is held, that is the heir. */
static __always_inline int maglev_new(struct steered *s, __u32 main, __u32 heir)
{
	const struct baton_server *server = server_at(main);

	if (is_held(server) && bpf_map_lookup_elem(&holds, &s->flow)) {
		s->slot = main; /* its packets are being held: no new tuple */
		s->generation = server->generation;
		return BATON_STEER_FORWARD_MAGLEV;
	}
	if (!server || server->state != BATON_SERVER_UP) {
		main = heir;
		server = server_at(main);
	}
	if (!server || server->state != BATON_SERVER_UP)
		return BATON_STEER_DROP_NO_SERVER;
	s->slot = main;
	s->generation = server->generation;
	return BATON_STEER_FORWARD_MAGLEV;
}

/* Sets the owner by Maglev, held or not. Returns FORWARD_MAGLEV or a drop. */
static __always_inline int maglev_owner(struct steered *s)
{
	struct baton_service service = { .port = s->flow.vip_port, .transport = s->flow.transport };
	const struct baton_maglev *element;
	const struct baton_server *server;
	__u32 side;

	if (!bpf_map_lookup_elem(&services, &service))
		return BATON_STEER_DROP_NO_SERVICE;
	element = maglev_at(s->key.hash, &side);
	if (!element)
		return BATON_STEER_DROP_NO_SERVER;
	if (s->syn)
		return maglev_new(s, element->main[side], element->heir[side]);
	server = server_at(element->main[side]);
	if (!server || server->state == BATON_SERVER_DOWN)
		return go_to(s, element->heir[side], BATON_STEER_FORWARD_MAGLEV) == BATON_GO_ON ? BATON_STEER_DROP_NO_SERVER :
											     BATON_STEER_FORWARD_MAGLEV;
	s->slot = element->main[side];
	s->generation = server->generation;
	return BATON_STEER_FORWARD_MAGLEV;
}

/*
 * A line of `recent` may be of before a move of which its flow, being idle, has heard nothing: a server that gets its next
 * packet sends it back. But it would take a SYN of a related flow for its own, so those are asked of exceptions and Maglev.
 */
static __always_inline int find_owner(struct steered *s)
{
	if (exception_owner(s))
		return BATON_STEER_FORWARD_EXCEPTION;
	if (!s->related && recent_owner(s))
		return BATON_STEER_FORWARD_RECENT;
	return maglev_owner(s);
}

/*
 * A frame that is to go to its own sender: that server has no such connection and knows it. User space may know who has.
 * One that another server has sent back goes on to the owner by exception or hold; it comes back at most once more.
 */
static __always_inline int bounced(struct xdp_md *ctx, const struct steered *s, int verdict)
{
	const struct baton_server *server = server_at(s->slot);

	if (server && same_mac(server->mac, s->source.bytes))
		return capture(ctx, s, NULL);
	if (verdict != BATON_STEER_FORWARD_EXCEPTION && verdict != BATON_STEER_FORWARD_RELEASED)
		return verdict;
	return bpf_map_lookup_elem(&server_macs, &s->source) ? BATON_STEER_FORWARD_BOUNCED : verdict;
}

/* A packet that the fast path does not know: finds its owner and its verdict. The owner is in s->slot then. */
BATON_GLOBAL int steer_flow(struct xdp_md *ctx, struct steered *s BATON_NONNULL)
{
	int verdict = find_owner(s);
	const struct baton_server *server;

	if (!is_forward(verdict))
		return verdict;
	server = server_at(s->slot);
	if (!server)
		return BATON_STEER_DROP_NO_SERVER;
	if (s->look_for_hold || is_held(server))
		verdict = hold_flow(ctx, s, server->state, verdict);
	if (is_forward(verdict))
		verdict = bounced(ctx, s, verdict);
	recent_learn(s, verdict);
	return s->icmp && is_forward(verdict) ? BATON_STEER_FORWARD_ICMP : verdict;
}

/* ---- the program ----------------------------------------------------------------------------------------------------- */

/* The fast path: a segment of an established flow in `recent`, owner well. Returns its server, or NULL for steer_flow. */
static __always_inline const struct baton_server *steer_recent(const struct baton_cursor *c,
								const struct baton_headers *h,
								const struct vip *vip)
{
	const struct baton_server *server;
	struct baton_recent *line;
	struct steer_key key;
	__u32 tsval, tsecr;

	key_of_tcp(&key, h, vip);
	if ((tcp_flags(h->tcp) & (BATON_TCP_SYN | BATON_TCP_ACK)) != BATON_TCP_ACK || filtered(key.hash))
		return NULL;
	line = recent_find(&key);
	if (!line || (line->flags & BATON_RECENT_TENTATIVE))
		return NULL;
	server = server_at(line->slot);
	if (!takes_flows(server) || server->generation != line->generation || same_mac(h->eth->h_source, server->mac))
		return NULL;
	parse_tcp_timestamps(c, h, &tsval, &tsecr);
	recent_note(line, bpf_ntohl(h->tcp->seq), tcp_segment_end(h), bpf_ntohl(h->tcp->ack_seq), tsval, tsecr,
		    bpf_ntohs(h->tcp->window));
	return server;
}

static __always_inline int finish(struct xdp_md *ctx, struct baton_headers *h, int verdict,
				  const struct baton_server *server)
{
	__u32 zero = 0;
	struct baton_steer_counters *counters = bpf_map_lookup_elem(&verdicts, &zero);

	if (counters)
		counters->count[verdict & 31]++;
	if (is_forward(verdict) && server)
		return forward(ctx, h->eth, server);
	if (verdict == BATON_STEER_PASS_NOT_VIP || verdict == BATON_STEER_PASS_VIP_OTHER || verdict == BATON_STEER_PASS_VLAN)
		return XDP_PASS;
	return XDP_DROP;
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	struct baton_cursor c = baton_cursor(ctx->data, ctx->data_end);
	const struct baton_server *server;
	struct baton_headers h = {};
	struct vip vip = {};
	int protocol = read_ip(&c, &h, &vip), verdict;
	struct steered s;

	if (protocol < 0)
		return finish(ctx, &h, ~protocol, NULL);
	if (protocol == BATON_PROTO_TCP && !parse_tcp(&c, &h)) {
		server = steer_recent(&c, &h, &vip);
		if (server)
			return finish(ctx, &h, BATON_STEER_FORWARD_RECENT, server);
	}
	__builtin_memset(&s, 0, sizeof(s));
	verdict = describe(ctx, &s);
	if (verdict == BATON_GO_ON)
		verdict = steer_flow(ctx, &s);
	return finish(ctx, &h, verdict, server_at(s.slot));
}

/* User space has sent what was held: from HOLDING to RELEASED, if no ticket was taken meanwhile. */
SEC("syscall")
int steer_release(struct baton_release_args *args)
{
	struct baton_flow flow = args->flow;
	struct baton_hold *hold = bpf_map_lookup_elem(&holds, &flow);
	__u32 done = 0, sent = args->sent;
	__u16 slot = args->slot;

	if (!hold) {
		args->done = 2;
		return 0;
	}
	bpf_spin_lock(&hold->lock);
	if (hold->state == BATON_HOLD_RELEASED || hold->held == sent) {
		hold->state = BATON_HOLD_RELEASED;
		hold->slot = slot;
		done = 1;
	}
	bpf_spin_unlock(&hold->lock);
	args->done = done;
	return 0;
}
