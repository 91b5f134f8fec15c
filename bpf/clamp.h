/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The ack clamp: what leaves never acknowledges past `consumed`, the end of what a committed record covers.
 *
 *     client's bytes   ---------|================|.........|
 *                           consumed         kernel_ack
 *                       the ack that leaves    the ack that the kernel wrote
 *
 * So the client keeps, and sends again, whatever a dead server had read and not recorded. A clamp that lasts would make
 * the client retransmit until it gives up (13 s were seen): after clamp_shut_ns the window says 0 as well, which is a
 * reason to wait.
 */
#ifndef BATON_CLAMP_H
#define BATON_CLAMP_H

#include "guard_maps.h"

#define BATON_TCP_ACK_AT offsetof(struct tcphdr, ack_seq)
#define BATON_TCP_WINDOW_AT offsetof(struct tcphdr, window)
#define BATON_TCP_CHECK_AT offsetof(struct tcphdr, check)

/* Whether b lies behind a, modulo 2^32. */
static __always_inline int seq_after(__u32 b, __u32 a)
{
	return (__s32)(b - a) > 0;
}

/*
 * Nothing of the connection is left to be protected once it has ended as committed, and no record covers an unprotected one.
 * In FIN_WAIT2 the client has all of ours and whatever it still says needs no answer: its FIN is acknowledged at once, for the
 * kernel does so only once, on its way to TIME_WAIT.
 */
static __always_inline int clamp_applies(const struct baton_guarded *g)
{
	return g->phase != BATON_GUARD_ENDED && g->tcp_state != BATON_TCP_FIN_WAIT2 && !(g->flags & BATON_GUARD_UNPROTECTED);
}

/*
 * Without BPF_F_PSEUDO_HDR on purpose: then the helper leaves the pseudo-header sum of a CHECKSUM_PARTIAL packet alone
 * and mends a complete one, also of a GSO packet.
 */
static __always_inline int replace_ack(struct __sk_buff *skb, __u32 tcp_at, __be32 old, __be32 new)
{
	return bpf_l4_csum_replace(skb, tcp_at + BATON_TCP_CHECK_AT, old, new, sizeof(new)) ||
	       bpf_skb_store_bytes(skb, tcp_at + BATON_TCP_ACK_AT, &new, sizeof(new), 0);
}

static __always_inline int replace_window(struct __sk_buff *skb, __u32 tcp_at, __be16 old, __be16 new)
{
	return bpf_l4_csum_replace(skb, tcp_at + BATON_TCP_CHECK_AT, old, new, sizeof(new)) ||
	       bpf_skb_store_bytes(skb, tcp_at + BATON_TCP_WINDOW_AT, &new, sizeof(new), 0);
}

/*
 * Returns OUT_PASSED, OUT_CLAMPED, OUT_CLAMPED_SHUT, or OUT_MALFORMED where the packet could not be changed. Packet pointers are void
 * afterwards. The clamp is over once an ack has left that covers the kernel's, be it in a segment of the kernel or a nudge.
 */
static __always_inline int clamp(struct __sk_buff *skb, const struct baton_headers *h, struct baton_guarded *g,
				 __u64 now, int from_kernel)
{
	__u32 tcp_at = (__u32)((long)h->tcp - (long)skb->data);
	__u32 ack = bpf_ntohl(h->tcp->ack_seq), consumed = g->consumed;
	__be16 window = h->tcp->window;

	if (!h->tcp->ack)
		return BATON_GUARD_OUT_PASSED;
	if (from_kernel) {
		g->kernel_ack = ack;
		g->window = bpf_ntohs(window);
	}
	if (!clamp_applies(g) || !seq_after(ack, consumed)) {
		if (!seq_after(g->kernel_ack, ack))
			g->clamped_since_ns = 0;
		if (seq_after(ack, g->sent_ack))
			g->sent_ack = ack;
		if (g->flags & BATON_GUARD_UNPROTECTED && seq_after(ack, consumed))
			g->consumed = ack;
		return BATON_GUARD_OUT_PASSED;
	}
	if (seq_after(consumed, g->sent_ack))
		g->sent_ack = consumed;
	if (!g->clamped_since_ns)
		g->clamped_since_ns = now;
	if (replace_ack(skb, tcp_at, bpf_htonl(ack), bpf_htonl(consumed)))
		return BATON_GUARD_OUT_MALFORMED;
	if (now - g->clamped_since_ns <= clamp_shut_ns)
		return BATON_GUARD_OUT_CLAMPED;
	return replace_window(skb, tcp_at, window, 0) ? BATON_GUARD_OUT_MALFORMED : BATON_GUARD_OUT_CLAMPED_SHUT;
}

#endif
