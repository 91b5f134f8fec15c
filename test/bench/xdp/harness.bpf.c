// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Makes a fresh frame before each repeat of BPF_PROG_TEST_RUN and tail-calls the program under test: the kernel itself does
 * not reset the packet, and repeat = 1 costs 40 to 50 ns of its own. The tail call is a direct jump in the JIT.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "harness.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct bench_shared shared; /* .bss, mapped by the benchmark */

/* Full-period LCG over 2^k flows, then a bijective mix: pseudo-random order, all distinct. */
static __always_inline __u32 next_flow(void)
{
	__u32 x = (shared.x * 1664525u + 1013904223u) & shared.mask;

	shared.x = x;
	return (x ^ (x >> 7)) & shared.mask;
}

SEC("xdp")
int harness(struct xdp_md *ctx)
{
	__u64 end = (long)ctx->data_end, begin = (long)ctx->data, *frame, *frame_end;
	__u32 flow = next_flow(), address = shared.client + (flow >> 3);
	__u16 port = 1024 + (flow & 7) * 7919, sum;
	int delta;

	/* The verifier takes only the 64 bit subtraction of packet pointers. */
	asm volatile("%0 -= %1" : "+r"(end) : "r"(begin));
	delta = (int)end - BENCH_FRAME;
	if (delta && bpf_xdp_adjust_head(ctx, delta))
		return XDP_ABORTED;
	frame = (void *)(long)ctx->data;
	frame_end = (void *)(long)ctx->data_end;
	if (frame + BENCH_FRAME / 8 > frame_end)
		return XDP_ABORTED;
#pragma unroll
	for (int i = 0; i < BENCH_FRAME / 8; i++)
		frame[i] = shared.frame[i];
	/* A timestamp every 2^20 packets: the kernel's own duration is an integer. */
	if ((shared.count & (BENCH_WINDOW - 1)) == 0)
		shared.time_ns[(shared.count / BENCH_WINDOW) % BENCH_TIMES] = bpf_ktime_get_ns();
	shared.count++;
	if (shared.ipv6) {
		*(__u32 *)((__u8 *)frame + 34) = __builtin_bswap32(address);
		*(__u16 *)((__u8 *)frame + 54) = __builtin_bswap16(port);
	} else {
		/* The IPv4 checksum stays right: the id absorbs the change of the address. */
		sum = 0xffff - (((address >> 16) + (address & 0xffff)) % 0xffff);
		*(__u16 *)((__u8 *)frame + 18) = __builtin_bswap16(sum);
		*(__u32 *)((__u8 *)frame + 26) = __builtin_bswap32(address);
		*(__u16 *)((__u8 *)frame + 34) = __builtin_bswap16(port);
	}
	bpf_tail_call_static(ctx, &target, 0);
	return XDP_ABORTED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
