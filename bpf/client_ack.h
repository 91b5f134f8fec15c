/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Two kinds of acks of a client's that its server's kernel would misunderstand, and what is done about them.
 *
 * The window is shut. A socket that was rebuilt in repair predicts its first headers with the window that it had while it
 * connected, which is 0 (tcp_connect_init and tcp_finish_connect, net/ipv4). So a client's first ack that shuts its window looks
 * as predicted, and the fast path of tcp_ack takes the window for unchanged: the socket goes on sending, and the client throws it
 * away. ECE keeps such an ack off the fast path. Without ECN, which the agent's sockets have off, nothing else looks at it
 * (RFC 3168 section 6.1).
 *
 * The sequence number is old. While acks are clamped the client believes that less has arrived than has, and while the clamp
 * shuts its window its own acks carry the place where it believes the window to end (tcp_acceptable_seq, net/ipv4):
 *
 *     client's bytes   ---------|================|.........|
 *                           consumed         kernel_ack
 *                      the client's acks are here
 *
 * For the kernel that is old, and it throws the segment away before it looks at the ack (tcp_sequence). Where it is not older than
 * what has arrived it may still lie before a segment that has overtaken a gap and said the window then: what it says of the window
 * is no news (tcp_may_update_window). Where the application waits for that very ack, or for room, nothing would ever move again.
 * So a segment that is an ack and nothing else is put where it is new to the kernel.
 */
#ifndef BATON_CLIENT_ACK_H
#define BATON_CLIENT_ACK_H

#include "clamp.h"
#include "here.h"
#include "kernel_sock.h"
#include "parse.h"

#define BATON_TCP_FLAGS_AT 12 /* header length and flags: a word of the checksum's */
#define BATON_TCP_ECE 0x0040

/* RFC 1624, equation 3, for one word. */
static __always_inline void mend_checksum(struct tcphdr *tcp, __be16 old, __be16 new)
{
	__u32 sum = (__u16)~tcp->check + (__u16)~old + new;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	tcp->check = (__u16)~sum;
}

static __always_inline void say_shut_window(struct tcphdr *tcp)
{
	__be16 *word = (__be16 *)((__u8 *)tcp + BATON_TCP_FLAGS_AT), marked = *word | bpf_htons(BATON_TCP_ECE);

	if (tcp->window || marked == *word)
		return;
	mend_checksum(tcp, *word, marked);
	*word = marked;
}

/*
 * Behind all that has arrived, and not before what has said the window last, unless our own window has come to end before that: what
 * lies behind it is thrown away whole.
 */
static __always_inline __u32 place_in(const struct tcp_sock *tp)
{
	__u32 next = tp->rcv_nxt, end = tp->rcv_wup + tp->rcv_wnd, said = tp->snd_wl1;

	return seq_after(said, next) && !seq_after(said, end) ? said : next;
}

/* Where an ack is new. Returns 0 where there is no such connection. */
static __always_inline int find_place(struct xdp_md *ctx, const struct baton_headers *h, __u32 *place)
{
	struct bpf_sock *sk = find_socket(ctx, h);
	const struct tcp_sock *tp;
	int found = 0;

	if (!sk)
		return 0;
	tp = sk->state == BATON_TCP_LISTEN ? NULL : bpf_skc_to_tcp_sock(sk);
	if (tp) {
		*place = place_in(tp);
		found = 1;
	}
	bpf_sk_release(sk);
	return found;
}

static __always_inline void place_ack(struct xdp_md *ctx, const struct baton_headers *h, const struct baton_guarded *g)
{
	struct tcphdr *tcp = h->tcp;
	__u32 seq = bpf_ntohl(tcp->seq), place;
	__be32 old = tcp->seq, new;

	if (!g->clamped_since_ns || h->length || tcp->fin || tcp->rst || tcp->urg)
		return; /* what is urgent is said from its sequence number on */
	if (seq_after(g->consumed, seq) || !find_place(ctx, h, &place) || !seq_after(place, seq))
		return;
	new = bpf_htonl(place);
	mend_checksum(tcp, old & 0xffff, new & 0xffff);
	mend_checksum(tcp, old >> 16, new >> 16);
	tcp->seq = new;
}

#endif
