// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The guard of a server: one sender a flow.
 *
 *            guard_ingress (XDP)                    guard_egress (tcx)
 *   client ──► in an entry? here? ──► stack ──► lease, incarnation, phase ──► FIN, RST ──► clamp ──► client
 *                   │ no                 │
 *                   ▼                    ├─ guard_birth   (sock_ops)  a connection begins: its entry
 *               appliance                └─ guard_silence (tp_btf)    it ends: silent, unless that was meant
 *
 * guard_change (syscall) is how the agent changes a living entry, guard_sweep clears away old ones, guard_used counts all. Everything
 * fails closed: what is not known does not leave, and every packet is counted under one verdict.
 */
#include <linux/bpf.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#include "shared.h"
#include "verdict.h"
#include "parse.h"
#include "kernel_sock.h"
#include "guard_maps.h"
#include "fence.h"
#include "events.h"
#include "room.h"
#include "here.h"
#include "clamp.h"
#include "ending.h"
#include "client_ack.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define BATON_TCX_NEXT -1
#define BATON_TCX_DROP 2
#define BATON_GO_ON (-1) /* no verdict yet */

#define BATON_NOT_IP (-16) /* beside enum baton_parse */

/* On the stack words must be aligned, and addresses are written by words (address_from_ipv6). */
#define BATON_BY_WORDS __attribute__((aligned(8)))

static __always_inline int parse_ip(struct baton_cursor *c, struct baton_headers *h)
{
	int type = parse_ethernet(c, h);

	if (type == BATON_ETH_IPV4)
		return parse_ipv4(c, h);
	if (type == BATON_ETH_IPV6)
		return parse_ipv6(c, h);
	return type < 0 ? type : BATON_NOT_IP;
}

/* Whether the parser knows the addresses. */
static __always_inline int has_addresses(int protocol)
{
	return protocol >= 0 || protocol == BATON_PARSE_FRAGMENT;
}

/* A fragment that may be of a guarded flow: only the first one has ports. IPv6 does not say before the last extension header: suppose so. */
static __always_inline int may_be_guarded_fragment(int protocol, const struct baton_headers *h)
{
	if (protocol != BATON_PARSE_FRAGMENT)
		return 0;
	return h->version == 6 || h->ip4->protocol == BATON_PROTO_TCP || h->ip4->protocol == BATON_PROTO_UDP;
}

/* ---- ingress --------------------------------------------------------------------------------------------------- */

/* Takes note of a client's segment for a living connection. Returns whether it acknowledges more than was sent from here. */
static __always_inline int in_live(struct xdp_md *ctx, const struct baton_headers *h, struct baton_guarded *g)
{
	__u32 ack = bpf_ntohl(h->tcp->ack_seq);

	if (!h->tcp->ack || h->tcp->syn)
		return 0;
	g->client_seq = tcp_segment_end(h);
	g->client_ack = ack;
	say_shut_window(h->tcp);
	place_ack(ctx, h, g);
	return (g->flags & BATON_GUARD_WATCH_LATE) && seq_after(ack, g->snd_nxt);
}

static __always_inline int send_back(const struct baton_headers *h, int verdict)
{
	return address_back(h->eth) ? verdict : BATON_GUARD_IN_NOT_HERE_DROPPED;
}

/* A client's segment for a connection that has an entry. */
static __always_inline int in_guarded(struct xdp_md *ctx, const struct baton_cursor *c, const struct baton_headers *h,
				      const struct baton_flow *flow, struct baton_guarded *g)
{
	__u8 event = BATON_EVENT_ANSWER;
	int verdict = BATON_GUARD_IN_ANSWER;

	if (!same_incarnation(current_lease(), g)) /* of an earlier life: what counts is whether its socket is there */
		return BATON_GO_ON;
	if (g->phase == BATON_GUARD_FROZEN) /* on its way since before the hold: the appliance holds it with the others */
		return send_back(h, BATON_GUARD_IN_FROZEN);
	if (g->phase == BATON_GUARD_LIVE) {
		if (!in_live(ctx, h, g))
			return BATON_GUARD_IN_HERE;
		event = BATON_EVENT_LATE_ACK;
		verdict = BATON_GUARD_IN_HERE;
	} else if (g->phase != BATON_GUARD_PROBE) {
		return BATON_GO_ON;
	}
	report_segment(c, h, flow, event, g->tcp_state);
	return verdict;
}

/* A datagram for a port of related flows. Nobody connects there: what is here is what has an entry. */
static __always_inline int in_datagram(struct baton_cursor *c, struct baton_headers *h)
{
	const struct baton_guarded *g;
	BATON_BY_WORDS struct baton_flow flow;

	if (parse_udp(c, h) < 0)
		return BATON_GUARD_IN_MALFORMED;
	flow_from_client(&flow, h, BATON_PROTO_UDP);
	if (!is_service(flow.vip_port, BATON_PROTO_UDP))
		return BATON_GUARD_IN_NOT_VIP;
	g = bpf_map_lookup_elem(&flows, &flow);
	if (g && same_incarnation(current_lease(), g)) {
		if (g->phase == BATON_GUARD_LIVE)
			return BATON_GUARD_IN_HERE;
		if (g->phase == BATON_GUARD_FROZEN)
			return send_back(h, BATON_GUARD_IN_FROZEN);
	}
	return send_back(h, BATON_GUARD_IN_NOT_HERE);
}

static __always_inline int ingress(struct xdp_md *ctx)
{
	struct baton_cursor c = baton_cursor(ctx->data, ctx->data_end);
	struct baton_headers h = {};
	struct baton_guarded *g;
	BATON_BY_WORDS struct baton_flow flow;
	BATON_BY_WORDS __u8 vip[16];
	int protocol = parse_ip(&c, &h), verdict;

	if (!has_addresses(protocol))
		return protocol == BATON_PARSE_MALFORMED ? BATON_GUARD_IN_MALFORMED : BATON_GUARD_IN_NOT_VIP;
	if (h.version == 4)
		address_from_ipv4(vip, h.ip4->daddr);
	else
		address_from_ipv6(vip, &h.ip6->daddr);
	if (!is_vip(vip))
		return BATON_GUARD_IN_NOT_VIP;
	if (protocol == BATON_PROTO_UDP)
		return in_datagram(&c, &h);
	if (protocol != BATON_PROTO_TCP)
		return may_be_guarded_fragment(protocol, &h) ? BATON_GUARD_IN_MALFORMED : BATON_GUARD_IN_NOT_VIP;
	if (parse_tcp(&c, &h) < 0)
		return BATON_GUARD_IN_MALFORMED;
	flow_from_client(&flow, &h, BATON_PROTO_TCP);
	if (!is_service(flow.vip_port, BATON_PROTO_TCP))
		return BATON_GUARD_IN_NOT_VIP;
	g = bpf_map_lookup_elem(&flows, &flow);
	if (g) {
		verdict = in_guarded(ctx, &c, &h, &flow, g);
		if (verdict != BATON_GO_ON)
			return verdict;
	}
	switch (find_here(ctx, &h, &flow)) {
	case BATON_HERE:
		return BATON_GUARD_IN_HERE;
	case BATON_HERE_NO_ROOM:
		return BATON_GUARD_IN_NO_ROOM;
	default:
		break;
	}
	return send_back(&h, BATON_GUARD_IN_NOT_HERE);
}

/* frags: headers are all that is read, so jumbo frames and a neighbour's unsegmented ones may come as they are. */
SEC("xdp.frags")
int guard_ingress(struct xdp_md *ctx)
{
	int verdict = ingress(ctx);

	guard_count(verdict);
	switch (verdict) {
	case BATON_GUARD_IN_NOT_VIP:
	case BATON_GUARD_IN_HERE:
		return XDP_PASS;
	case BATON_GUARD_IN_NOT_HERE:
	case BATON_GUARD_IN_FROZEN:
		return bpf_redirect(ctx->ingress_ifindex, 0);
	default:
		return XDP_DROP;
	}
}

/* ---- egress ---------------------------------------------------------------------------------------------------- */

/* What else a VIP says: errors about packets that found nobody here would end a connection that lives elsewhere. */
static __always_inline int out_other(int protocol, const struct baton_cursor *c, const struct baton_headers *h)
{
	if (protocol == BATON_PROTO_ICMP || protocol == BATON_PROTO_ICMPV6) {
		__u8 type;

		if (c->at + 1 > c->end)
			return BATON_GUARD_OUT_MALFORMED;
		type = c->at[0];
		if (protocol == BATON_PROTO_ICMP ? type == 3 || type == 11 || type == 12 : type >= 1 && type <= 4)
			return BATON_GUARD_OUT_ICMP;
	}
	return may_be_guarded_fragment(protocol, h) ? BATON_GUARD_OUT_FRAGMENT : BATON_GUARD_OUT_NOT_VIP;
}

/* Whether the server may speak for the flow at this instant; BATON_GO_ON if so. */
static __always_inline int out_fenced(const struct baton_guarded *g, const struct baton_lease *l, __u64 now)
{
	if (!lease_lives(l, now))
		return BATON_GUARD_OUT_FENCED_LEASE;
	return same_incarnation(l, g) ? BATON_GO_ON : BATON_GUARD_OUT_FENCED_INCARNATION;
}

/* A datagram from a port of related flows: of a flow that lives here, while its server may speak. */
static __always_inline int out_datagram(struct baton_cursor *c, struct baton_headers *h, const struct baton_lease *l, __u64 now)
{
	struct baton_guarded *g;
	BATON_BY_WORDS struct baton_flow flow;
	int verdict;

	if (parse_udp(c, h) < 0)
		return BATON_GUARD_OUT_MALFORMED;
	flow_from_server(&flow, h, BATON_PROTO_UDP);
	if (!is_service(flow.vip_port, BATON_PROTO_UDP))
		return BATON_GUARD_OUT_NOT_VIP;
	g = bpf_map_lookup_elem(&flows, &flow);
	if (!g)
		return BATON_GUARD_OUT_UNKNOWN;
	verdict = out_fenced(g, l, now);
	if (verdict != BATON_GO_ON)
		return verdict;
	if (g->phase != BATON_GUARD_LIVE)
		return BATON_GUARD_OUT_SILENT;
	g->last_egress_ns = now;
	return BATON_GUARD_OUT_PASSED;
}

/* Whether this segment may leave at all; BATON_GO_ON if so. */
static __always_inline int out_denied(const struct baton_headers *h, const struct baton_guarded *g,
				      const struct baton_lease *l, __u64 now, int from_kernel)
{
	int fenced = out_fenced(g, l, now);

	if (fenced != BATON_GO_ON)
		return fenced;
	if (g->phase != BATON_GUARD_LIVE && g->phase != BATON_GUARD_ENDED &&
	    !(g->phase == BATON_GUARD_PROBE && !from_kernel))
		return BATON_GUARD_OUT_SILENT;
	if (h->tcp->rst && !(g->flags & BATON_GUARD_RST_ASKED))
		return BATON_GUARD_OUT_RST;
	if (h->tcp->fin && !fin_may_leave(g, bpf_ntohl(h->tcp->seq) + h->length))
		return BATON_GUARD_OUT_FIN;
	return BATON_GO_ON;
}

/* What a nudge will need. The agent's own segments are made from this and must not feed back into it. */
static __always_inline void remember_segment(struct baton_guarded *g, const struct baton_cursor *c,
					     const struct baton_headers *h)
{
	__u32 end = tcp_segment_end(h), tsval, tsecr;

	if (!h->tcp->rst && seq_after(end, g->snd_nxt))
		g->snd_nxt = end;
	if (parse_tcp_timestamps(c, h, &tsval, &tsecr)) {
		g->tsval = tsval;
		g->tsecr = tsecr;
	}
}

static __always_inline int egress(struct __sk_buff *skb)
{
	struct baton_cursor c = baton_cursor(skb->data, skb->data_end);
	const struct baton_lease *l = current_lease();
	int from_kernel = skb->mark != BATON_MARK;
	__u64 now = bpf_ktime_get_ns();
	struct baton_headers h = {};
	struct baton_guarded *g;
	BATON_BY_WORDS struct baton_flow flow;
	BATON_BY_WORDS __u8 vip[16];
	int protocol = parse_ip(&c, &h), verdict;

	if (!has_addresses(protocol))
		return protocol == BATON_PARSE_MALFORMED ? BATON_GUARD_OUT_MALFORMED : BATON_GUARD_OUT_NOT_VIP;
	if (h.version == 4)
		address_from_ipv4(vip, h.ip4->saddr);
	else
		address_from_ipv6(vip, &h.ip6->saddr);
	if (!is_vip(vip))
		return BATON_GUARD_OUT_NOT_VIP;
	if (protocol == BATON_PROTO_UDP)
		return out_datagram(&c, &h, l, now);
	if (protocol != BATON_PROTO_TCP)
		return out_other(protocol, &c, &h);
	if (parse_tcp(&c, &h) < 0)
		return BATON_GUARD_OUT_MALFORMED;
	flow_from_server(&flow, &h, BATON_PROTO_TCP);
	if (!is_service(flow.vip_port, BATON_PROTO_TCP))
		return BATON_GUARD_OUT_NOT_VIP;
	if (h.tcp->syn && h.tcp->ack)
		return lease_lives(l, now) ? BATON_GUARD_OUT_HANDSHAKE : BATON_GUARD_OUT_FENCED_LEASE;
	g = bpf_map_lookup_elem(&flows, &flow);
	if (!g && h.tcp->syn && is_related_port(flow.vip_port)) /* its entry is made when it is ESTABLISHED */
		return lease_lives(l, now) ? BATON_GUARD_OUT_HANDSHAKE : BATON_GUARD_OUT_FENCED_LEASE;
	if (!g)
		return BATON_GUARD_OUT_UNKNOWN;
	verdict = out_denied(&h, g, l, now, from_kernel);
	if (verdict != BATON_GO_ON)
		return verdict;
	g->last_egress_ns = now;
	if (from_kernel)
		remember_segment(g, &c, &h);
	return clamp(skb, &h, g, now, from_kernel);
}

SEC("tc")
int guard_egress(struct __sk_buff *skb)
{
	int verdict = egress(skb);

	guard_count(verdict);
	switch (verdict) {
	case BATON_GUARD_OUT_NOT_VIP:
	case BATON_GUARD_OUT_PASSED:
	case BATON_GUARD_OUT_CLAMPED:
	case BATON_GUARD_OUT_CLAMPED_SHUT:
	case BATON_GUARD_OUT_HANDSHAKE:
		return BATON_TCX_NEXT;
	default:
		return BATON_TCX_DROP;
	}
}

/* ---- birth ----------------------------------------------------------------------------------------------------- */

/* An entry that a new connection must not touch: its own incarnation's, and not over. */
static __always_inline int entry_stands(const struct baton_flow *flow, const struct baton_lease *l)
{
	const struct baton_guarded *g = bpf_map_lookup_elem(&flows, flow);

	return g && l->incarnation == g->incarnation && g->phase != BATON_GUARD_SILENT && g->phase != BATON_GUARD_ENDED;
}

/*
 * PASSIVE_ESTABLISHED comes before the state changes and before the first data is taken in: rcv_nxt and snd_nxt are one
 * past the initial sequence numbers (tcp_rcv_state_process). So does ACTIVE_ESTABLISHED (tcp_finish_connect), of a
 * connection that the agent opens. A socket rebuilt by TCP_REPAIR comes as such a one: its entry, which the agent has
 * made, stands.
 */
SEC("sockops")
int guard_birth(struct bpf_sock_ops *ops)
{
	const struct baton_lease *l = current_lease();
	struct baton_guarded g = {};
	struct baton_flow flow;
	struct tcp_sock *tp;

	if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && ops->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		return 1;
	if (!ops->sk || !l)
		return 1;
	tp = bpf_skc_to_tcp_sock(ops->sk);
	if (!tp || netns_of(tp) != netns_inode)
		return 1;
	flow_from_sock(&flow, tp);
	if (!is_vip(flow.vip) || !is_service(flow.vip_port, BATON_PROTO_TCP) || entry_stands(&flow, l))
		return 1;
	g.phase = BATON_GUARD_LIVE;
	g.tcp_state = BATON_TCP_ESTABLISHED;
	if (BPF_CORE_READ_BITFIELD(tp, rx_opt.wscale_ok)) {
		g.snd_wscale = BPF_CORE_READ_BITFIELD(tp, rx_opt.snd_wscale);
		g.rcv_wscale = BPF_CORE_READ_BITFIELD(tp, rx_opt.rcv_wscale);
	} else {
		g.snd_wscale = g.rcv_wscale = 0xff; /* not negotiated: not the same as a scale of 0 */
	}
	if (BPF_CORE_READ_BITFIELD(tp, rx_opt.sack_ok))
		g.options |= BATON_SYN_SACK;
	if (BPF_CORE_READ_BITFIELD(tp, rx_opt.tstamp_ok))
		g.options |= BATON_SYN_TIMESTAMPS;
	if (!bpf_map_delete_elem(&cookie_births, &flow))
		g.options |= BATON_SYN_SEEN;
	g.mss = tp->rx_opt.mss_clamp;
	g.incarnation = l->incarnation;
	g.consumed = g.sent_ack = g.kernel_ack = ops->rcv_nxt;
	g.client_isn = ops->rcv_nxt - 1;
	g.snd_nxt = ops->snd_nxt;
	g.server_isn = ops->snd_nxt - 1;
	g.client_seq = ops->rcv_nxt;
	g.client_ack = ops->snd_nxt;
	g.last_egress_ns = bpf_ktime_get_ns(); /* the SYN-ACK */
	if (bpf_map_update_elem(&flows, &flow, &g, BPF_ANY))
		guard_count(BATON_GUARD_TABLE_FULL);
	return 1;
}

/* ---- silence --------------------------------------------------------------------------------------------------- */

/*
 * Runs inside the call that ends the connection, before the kernel has built a FIN or a reset, and before it goes on
 * sending the queue of a killed process (1.1 MB were seen to leave without it).
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(guard_silence, const struct sock *sk, const int from, const int to)
{
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	struct baton_guarded *g;
	struct baton_flow flow;

	if (!tp || netns_of(tp) != netns_inode)
		return 0;
	flow_from_sock(&flow, tp);
	if (!is_service(flow.vip_port, BATON_PROTO_TCP))
		return 0;
	g = bpf_map_lookup_elem(&flows, &flow);
	if (!g)
		return 0;
	g->tcp_state = to;
	if (g->phase == BATON_GUARD_LIVE) { /* in the other phases nothing leaves, or all has left */
		g->phase = phase_after(g, from, to, tp->inet_conn.icsk_inet.sk.sk_err);
		if (g->phase == BATON_GUARD_SILENT)
			report_state(&flow, BATON_EVENT_SILENCED, to);
	}
	if (to == BATON_TCP_CLOSE_WAIT || to == BATON_TCP_FIN_WAIT2 || to == BATON_TCP_TIME_WAIT || to == BATON_TCP_CLOSE)
		report_state(&flow, BATON_EVENT_STATE, to);
	return 0;
}

/* ---- change ---------------------------------------------------------------------------------------------------- */

static __always_inline void change_consumed(struct baton_guarded *g, __u32 consumed)
{
	if (!seq_after(consumed, g->consumed))
		return;
	g->consumed = consumed;
	if (g->clamped_since_ns) /* progress: the window opens again. Not clamped is only what has left */
		g->clamped_since_ns = bpf_ktime_get_ns();
}

SEC("syscall")
int guard_change(struct baton_guard_change *change)
{
	struct baton_flow flow = change->flow;
	struct baton_guarded *g = bpf_map_lookup_elem(&flows, &flow);

	change->found = 0;
	if (!g)
		return 0;
	change->found = 1;
	if (change->what & BATON_CHANGE_CONSUMED)
		change_consumed(g, change->consumed);
	if (change->what & BATON_CHANGE_FIN) {
		g->fin_seq = change->fin_seq;
		g->flags |= BATON_GUARD_FIN_COMMITTED; /* behind fin_seq: egress looks at the flag first */
	}
	if (change->what & BATON_CHANGE_FLAGS)
		g->flags = (g->flags & ~change->flags_clear) | change->flags_set;
	if ((change->what & BATON_CHANGE_SND_NXT) && seq_after(change->snd_nxt, g->snd_nxt))
		g->snd_nxt = change->snd_nxt;
	if (change->what & BATON_CHANGE_SAID) {
		g->window = change->entry.window;
		g->tsval = change->entry.tsval;
		g->tsecr = change->entry.tsecr;
	}
	if (change->what & BATON_CHANGE_INCARNATION)
		g->incarnation = change->incarnation;
	if ((change->what & BATON_CHANGE_PHASE) &&
	    !(g->phase == BATON_GUARD_SILENT && change->phase == BATON_GUARD_LIVE))
		g->phase = change->phase;
	change->entry = *g;
	return 0;
}

/* ---- sweep ----------------------------------------------------------------------------------------------------- */

struct sweep {
	struct baton_guard_sweep result;
	__u64 incarnation;
};

static long sweep_entry(void *map, const void *key, void *value, void *context)
{
	const struct baton_guarded *g = value;
	struct sweep *s = context;
	__u32 phase = s->incarnation == g->incarnation ? g->phase : 0;
	int over = phase == 0 || phase == BATON_GUARD_SILENT || phase == BATON_GUARD_ENDED;

	if (over && g->last_egress_ns < s->result.before_ns) {
		struct baton_flow flow = *(const struct baton_flow *)key;

		if (!bpf_map_delete_elem(&flows, &flow))
			s->result.removed++;
	} else if (phase < BATON_GUARD_PHASES) {
		s->result.count[phase]++;
	}
	return 0;
}

SEC("syscall")
int guard_sweep(struct baton_guard_sweep *sweep)
{
	const struct baton_lease *l = current_lease();
	struct sweep s = { .result.before_ns = sweep->before_ns };

	if (!l)
		return 0;
	s.incarnation = l->incarnation;
	bpf_for_each_map_elem(&flows, sweep_entry, &s, 0);
	*sweep = s.result;
	return 0;
}

/* ---- used ------------------------------------------------------------------------------------------------------ */

/* Entries in the table of flows. */
SEC("syscall")
int guard_used(void *nothing)
{
	return flows_used();
}
