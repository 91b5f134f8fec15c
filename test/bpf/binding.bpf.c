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
const volatile __u8 knob_unsafe = 0;

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

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 24);
} held_packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct baton_flow);
	__type(value, struct baton_hold);
} holds SEC(".maps");

extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, __u64 flags, struct bpf_dynptr *ptr) __ksym;
extern int bpf_dynptr_copy(struct bpf_dynptr *to, __u32 to_offset, struct bpf_dynptr *from, __u32 from_offset,
			   __u32 size) __ksym;

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

static __always_inline void copy_frame(struct xdp_md *ctx, struct bpf_dynptr *record, __u32 offset, __u32 length)
{
	struct bpf_dynptr frame;

	if (!bpf_dynptr_from_xdp(ctx, 0, &frame))
		bpf_dynptr_copy(record, offset, &frame, 0, length);
}

/* Counts, and puts the whole frame into `events`. */
SEC("xdp")
int capture(struct xdp_md *ctx)
{
	__u32 length = bpf_xdp_get_buff_len(ctx);
	struct bpf_dynptr record;

	count(0);
	if (bpf_ringbuf_reserve_dynptr(&events, length, 0, &record)) {
		bpf_ringbuf_discard_dynptr(&record, 0);
		return XDP_ABORTED;
	}
	copy_frame(ctx, &record, 0, length);
	bpf_ringbuf_submit_dynptr(&record, 0);
	return XDP_DROP;
}

SEC("xdp")
int drop_all(struct xdp_md *ctx)
{
	count(0);
	/* With this knob the verifier has something to say. */
	if (knob_unsafe)
		return *(__u8 *)(long)(ctx->data_end + 100);
	return XDP_DROP;
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

/*
 * The appliance in miniature. A frame of ethertype 0x88b5 (also behind a VLAN tag) begins with
 * { u32 flow, u32 number, u8 bounced }. A held flow's frames go to `held_packets`, all others straight back out, marked in
 * the byte behind.
 */
struct test_payload {
	__u32 flow;
	__u32 number;
	__u8 bounced;
	__u8 direct; /* out: XDP forwarded it */
} __attribute__((packed));

static __always_inline int forward(struct xdp_md *ctx, struct test_payload *payload, __u32 offset)
{
	payload->direct = 1;
	bpf_xdp_store_bytes(ctx, offset, payload, sizeof(*payload));
	return bpf_redirect(ctx->ingress_ifindex, 0);
}

SEC("xdp")
int hold(struct xdp_md *ctx)
{
	__u32 length = bpf_xdp_get_buff_len(ctx), offset = ETH_HLEN;
	struct baton_held_packet header = {};
	struct test_payload payload;
	struct baton_hold *entry;
	struct bpf_dynptr record;
	__be16 type;
	__u8 state;

	if (bpf_xdp_load_bytes(ctx, 12, &type, 2))
		return XDP_PASS;
	if (type == bpf_htons(ETH_P_8021Q)) {
		offset += 4;
		if (bpf_xdp_load_bytes(ctx, 16, &type, 2))
			return XDP_PASS;
	}
	if (type != bpf_htons(0x88b5) || bpf_xdp_load_bytes(ctx, offset, &payload, sizeof(payload)))
		return XDP_PASS;
	__builtin_memcpy(header.flow.client, &payload.flow, 4);
	header.flow.transport = 6;
	header.time_ns = bpf_ktime_get_ns();
	header.length = length;
	header.reason = payload.bounced ? BATON_HELD_BOUNCED : BATON_HELD_FLOW;
	header.slot = payload.bounced;

	entry = bpf_map_lookup_elem(&holds, &header.flow);
	if (!entry && !payload.bounced)
		return forward(ctx, &payload, offset);
	if (bpf_ringbuf_reserve_dynptr(&held_packets, sizeof(header) + length, 0, &record)) {
		bpf_ringbuf_discard_dynptr(&record, 0);
		return XDP_ABORTED;
	}
	if (entry && !payload.bounced) {
		bpf_spin_lock(&entry->lock);
		state = entry->state;
		if (state == BATON_HOLD_HOLDING)
			header.ticket = entry->held++;
		bpf_spin_unlock(&entry->lock);
		if (state == BATON_HOLD_RELEASED) {
			bpf_ringbuf_discard_dynptr(&record, 0);
			return forward(ctx, &payload, offset);
		}
	}
	bpf_dynptr_write(&record, 0, &header, sizeof(header), 0);
	copy_frame(ctx, &record, sizeof(header), length);
	bpf_ringbuf_submit_dynptr(&record, 0);
	return XDP_DROP;
}

SEC("syscall")
int steer_release(struct baton_release_args *args)
{
	struct baton_flow flow = args->flow;
	struct baton_hold *entry = bpf_map_lookup_elem(&holds, &flow);
	__u32 sent = args->sent, done = 0;
	__u16 slot = args->slot;

	if (!entry) {
		args->done = 2;
		return 0;
	}
	bpf_spin_lock(&entry->lock);
	if (entry->held == sent) {
		entry->state = BATON_HOLD_RELEASED;
		entry->slot = slot;
		done = 1;
	}
	bpf_spin_unlock(&entry->lock);
	args->done = done;
	return 0;
}
