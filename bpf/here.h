/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Is the connection of this packet here? "Here" is an established, half-open or time-wait socket, or a listener for a SYN
 * or for an ACK that carries its SYN cookie. Nothing else may reach the stack, which would answer with a reset: the
 * connection may well live on another server. Such a frame goes back to the appliance, which knows or asks.
 */
#ifndef BATON_HERE_H
#define BATON_HERE_H

#include "guard_maps.h"
#include "room.h"

static __always_inline int cookie_checks(struct bpf_sock *listener, const struct baton_headers *h)
{
	struct tcphdr tcp = *h->tcp;

	if (h->version == 4) {
		struct iphdr ip = *h->ip4;

		return !bpf_tcp_check_syncookie(listener, &ip, sizeof(ip), &tcp, sizeof(tcp));
	} else {
		struct ipv6hdr ip = *h->ip6;

		return !bpf_tcp_check_syncookie(listener, &ip, sizeof(ip), &tcp, sizeof(tcp));
	}
}

static __always_inline struct bpf_sock *find_socket(struct xdp_md *ctx, const struct baton_headers *h)
{
	struct bpf_sock_tuple t = {};

	if (h->version == 4) {
		t.ipv4.saddr = h->ip4->saddr;
		t.ipv4.daddr = h->ip4->daddr;
		t.ipv4.sport = h->tcp->source;
		t.ipv4.dport = h->tcp->dest;
		return bpf_skc_lookup_tcp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(t.ipv6.saddr, &h->ip6->saddr, 16);
	__builtin_memcpy(t.ipv6.daddr, &h->ip6->daddr, 16);
	t.ipv6.sport = h->tcp->source;
	t.ipv6.dport = h->tcp->dest;
	return bpf_skc_lookup_tcp(ctx, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
}

enum baton_here {
	BATON_NOT_HERE = 0,
	BATON_HERE = 1,
	BATON_HERE_NO_ROOM = 2, /* it would begin a connection, and there is no room for one */
};

static __always_inline enum baton_here at_listener(struct bpf_sock *listener, const struct baton_headers *h,
						   const struct baton_flow *flow)
{
	int handshake = h->tcp->syn && !h->tcp->ack;
	__u32 one = 1;

	if (!handshake && !cookie_checks(listener, h))
		return BATON_NOT_HERE;
	if (!room_for_birth())
		return BATON_HERE_NO_ROOM;
	if (!handshake)
		bpf_map_update_elem(&cookie_births, flow, &one, BPF_ANY);
	return BATON_HERE;
}

static __always_inline enum baton_here find_here(struct xdp_md *ctx, const struct baton_headers *h,
						 const struct baton_flow *flow)
{
	struct bpf_sock *sk = find_socket(ctx, h);
	enum baton_here here = BATON_HERE;

	if (!sk)
		return BATON_NOT_HERE;
	if (sk->state == BATON_TCP_LISTEN)
		here = at_listener(sk, h, flow);
	bpf_sk_release(sk);
	return here;
}

/* Turns the frame round. Returns whether there is an appliance to send it to. */
static __always_inline int address_back(struct ethhdr *eth)
{
	struct baton_mac to = {};
	__u32 zero = 0;

	__builtin_memcpy(to.bytes, eth->h_source, 6);
	if (!bpf_map_lookup_elem(&appliances, &to)) {
		const struct baton_mac *back = bpf_map_lookup_elem(&way_back, &zero);

		if (!back || !back->set)
			return 0;
		__builtin_memcpy(to.bytes, back->bytes, 6);
	}
	__builtin_memcpy(eth->h_source, eth->h_dest, 6);
	__builtin_memcpy(eth->h_dest, to.bytes, 6);
	return 1;
}

#endif
