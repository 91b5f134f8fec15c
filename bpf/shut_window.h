/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A socket that was rebuilt in repair predicts its first headers with the window that it had while it connected, which is 0
 * (tcp_connect_init and tcp_finish_connect, net/ipv4). So a client's first ack that shuts its window looks as predicted,
 * and the fast path of tcp_ack takes the window for unchanged: the socket goes on sending, and the client throws it away.
 * ECE keeps such an ack off the fast path. Without ECN, which the agent's sockets have off, nothing else looks at it
 * (RFC 3168 section 6.1).
 */
#ifndef BATON_SHUT_WINDOW_H
#define BATON_SHUT_WINDOW_H

#include "parse.h"

#define BATON_TCP_FLAGS_AT 12 /* header length and flags: a word of the checksum's */
#define BATON_TCP_ECE 0x0040

static __always_inline void say_shut_window(struct tcphdr *tcp)
{
	__be16 *word = (__be16 *)((__u8 *)tcp + BATON_TCP_FLAGS_AT), marked = *word | bpf_htons(BATON_TCP_ECE);
	__u32 sum;

	if (!tcp->ack || tcp->window || marked == *word)
		return;
	/* RFC 1624, equation 3. */
	sum = (__u16)~tcp->check + (__u16)~*word + marked;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	tcp->check = (__u16)~sum;
	*word = marked;
}

#endif
