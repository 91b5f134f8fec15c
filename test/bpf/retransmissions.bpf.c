/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Counts the segments that this machine's stacks send once more, by what made them do it; for tests alone. Linux' own counters
 * are those of a namespace, where a server's own connections to store and controller count as well.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

/* Connections that are served at this port. */
const volatile __u16 served_port = 80;

/* net/ipv4/tcp.h, include/net/inet_connection_sock.h */
enum { CA_RECOVERY = 3, CA_LOSS = 4 };
enum { TIME_LOSS_PROBE = 5 };

enum cause { PROBE, TIMEOUT, RECOVERY, OTHER, CAUSES };

struct sock_common {
	__u16 skc_num;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct inet_connection_sock {
	__u8 icsk_ca_state : 5;
	__u8 icsk_pending;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CAUSES);
	__type(key, __u32);
	__type(value, __u64);
} causes SEC(".maps");

static enum cause cause_of(const struct inet_connection_sock *icsk)
{
	__u8 state = BPF_CORE_READ_BITFIELD_PROBED(icsk, icsk_ca_state);

	if (state == CA_RECOVERY)
		return RECOVERY;
	if (state == CA_LOSS)
		return TIMEOUT;
	return BPF_CORE_READ(icsk, icsk_pending) == TIME_LOSS_PROBE ? PROBE : OTHER;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(count_retransmission, const struct sock *sk, const void *skb, int err)
{
	/* What guard keeps in (a frozen socket's timers go on) was not sent. */
	if (err || BPF_CORE_READ(sk, __sk_common.skc_num) != served_port)
		return 0;
	__u32 cause = cause_of((const struct inet_connection_sock *)sk);
	__u64 *count = bpf_map_lookup_elem(&causes, &cause);

	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}
