/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Small programs of every kind that the binding can load, attach and run; for binding.test.ts alone. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "shared.h"

char _license[] SEC("license") = "GPL";

const volatile __u8 knob_u8 = 1;
const volatile __u16 knob_u16 = 2;
const volatile __s32 knob_s32 = 3;
const volatile __u64 knob_u64 = 4;
const volatile __u8 knob_bytes[6] = {};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} per_cpu SEC(".maps");

/* Calls by program: 0 xdp, 1 tc, 2 sock_ops, 3 tracing. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

static __always_inline void count(__u32 program)
{
	__u64 *calls_so_far = bpf_map_lookup_elem(&calls, &program);

	if (calls_so_far)
		__sync_fetch_and_add(calls_so_far, 1);
}

struct knobs {
	__u64 u64;
	__s32 s32;
	__u16 u16;
	__u8 u8;
	__u8 bytes[6];
	__u8 pad[3];
};

SEC("syscall")
int read_knobs(struct knobs *out)
{
	out->u64 = knob_u64;
	out->s32 = knob_s32;
	out->u16 = knob_u16;
	out->u8 = knob_u8;
	for (int i = 0; i < 6; i++)
		out->bytes[i] = knob_bytes[i];
	return 7;
}

struct emit_args {
	__u32 first;
	__u32 count;
};

/* Writes `count` records of four bytes, `first` and its successors. */
SEC("syscall")
int emit(struct emit_args *args)
{
	__u32 first = args->first, number;

	for (__u32 i = 0; i < 4096 && i < args->count; i++) {
		number = first + i;
		bpf_ringbuf_output(&events, &number, sizeof(number), 0);
	}
	return 0;
}

/* Counts, and puts the whole frame into `events`. */
SEC("xdp")
int capture(struct xdp_md *ctx)
{
	__u32 length = bpf_xdp_get_buff_len(ctx);
	struct bpf_dynptr packet, record;

	count(0);
	bpf_ringbuf_reserve_dynptr(&events, length, 0, &record);
	__u8 *byte = bpf_dynptr_data(&record, 0, 1);

	(void)packet;
	if (!byte) {
		bpf_ringbuf_discard_dynptr(&record, 0);
		return XDP_PASS;
	}
	for (__u32 at = 0; at < 2048 && at < length; at++) {
		__u8 value;

		if (bpf_xdp_load_bytes(ctx, at, &value, 1) || bpf_dynptr_write(&record, at, &value, 1, 0))
			break;
	}
	bpf_ringbuf_submit_dynptr(&record, 0);
	return XDP_DROP;
}

SEC("xdp")
int drop_all(struct xdp_md *ctx)
{
	count(0);
	return ctx->ingress_ifindex == 1 ? XDP_ABORTED : XDP_DROP;
}

SEC("tc")
int pass_tc(struct __sk_buff *skb)
{
	count(1);
	return -1; /* TCX_NEXT */
}

SEC("sockops")
int on_sock_ops(struct bpf_sock_ops *ops)
{
	count(2);
	return 1;
}

SEC("tp_btf/inet_sock_set_state")
int on_state(__u64 *ctx)
{
	count(3);
	return 0;
}
