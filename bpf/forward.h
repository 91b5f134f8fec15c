/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Layer-2 forwarding: the server has the VIP on its loopback and answers the client directly. */
#ifndef BATON_FORWARD_H
#define BATON_FORWARD_H

#include "steered.h"

/* volatile, because own_mac is a setting: without it the compiler would take the zeros of the object file for granted. */
static __always_inline void set_mac(__u8 *to, const volatile __u8 *mac)
{
	*(__u32 *)to = *(const volatile __u32 *)mac;
	*(__u16 *)(to + 4) = *(const volatile __u16 *)(mac + 4);
}

/*
 * Back out of the interface that it came by. Not XDP_TX: on veth that counts up and delivers nothing unless the peer has
 * an XDP program of its own. Tags stay as they are.
 */
static __always_inline int forward(struct xdp_md *ctx, struct ethhdr *eth, const struct baton_server *server)
{
	set_mac(eth->h_dest, server->mac);
	set_mac(eth->h_source, own_mac);
	return bpf_redirect(ctx->ingress_ifindex, 0);
}

#endif
