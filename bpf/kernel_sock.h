/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The few fields of kernel structures that guard reads, found by BTF at load time. Only names and types must match the
 * kernel's (include/net/sock.h, include/linux/tcp.h); places and neighbours need not.
 */
#ifndef BATON_KERNEL_SOCK_H
#define BATON_KERNEL_SOCK_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	unsigned short skc_family;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	int sk_err;
};

struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
};

struct tcp_options_received {
	__u16 tstamp_ok : 1, wscale_ok : 1, sack_ok : 3, snd_wscale : 4, rcv_wscale : 4;
	__u16 mss_clamp;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	struct tcp_options_received rx_opt;
	__u32 rcv_nxt;
	__u32 rcv_wup, rcv_wnd; /* the window that was said last begins at rcv_wup */
	__u32 snd_wl1; /* sequence number of the segment that last said the client's window */
};

#pragma clang attribute pop

#define BATON_AF_INET 2
#define BATON_AF_INET6 10

/* Socket states, include/net/tcp_states.h. */
enum baton_tcp_state {
	BATON_TCP_ESTABLISHED = 1,
	BATON_TCP_FIN_WAIT1 = 4,
	BATON_TCP_FIN_WAIT2 = 5,
	BATON_TCP_TIME_WAIT = 6,
	BATON_TCP_CLOSE = 7,
	BATON_TCP_CLOSE_WAIT = 8,
	BATON_TCP_LAST_ACK = 9,
	BATON_TCP_LISTEN = 10,
	BATON_TCP_CLOSING = 11,
};

#define BATON_ECONNRESET 104
#define BATON_EPIPE 32

/*
 * The flow of a socket whose local end is the VIP. An IPv6 socket may carry IPv4: its addresses are mapped then, too. The
 * port is inet_sport: tcp_set_state() has cleared skc_num already when it reports TCP_CLOSE.
 */
static __always_inline void flow_from_sock(struct baton_flow *f, const struct tcp_sock *tp)
{
	const struct inet_sock *inet = &tp->inet_conn.icsk_inet;
	const struct sock_common *sk = &inet->sk.__sk_common;

	__builtin_memset(f, 0, sizeof(*f));
	if (sk->skc_family == BATON_AF_INET) {
		address_from_ipv4(f->client, sk->skc_daddr);
		address_from_ipv4(f->vip, sk->skc_rcv_saddr);
	} else {
		__u32 *client = (void *)f->client, *vip = (void *)f->vip;

#pragma unroll
		for (int i = 0; i < 4; i++) {
			client[i] = sk->skc_v6_daddr.s6_addr32[i];
			vip[i] = sk->skc_v6_rcv_saddr.s6_addr32[i];
		}
	}
	f->client_port = sk->skc_dport;
	f->vip_port = inet->inet_sport;
	f->transport = BATON_PROTO_TCP;
}

static __always_inline __u32 netns_of(const struct tcp_sock *tp)
{
	return tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net->ns.inum;
}

#endif
