/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the benchmark and its BPF harness share. */
#ifndef BATON_BENCH_HARNESS_H
#define BATON_BENCH_HARNESS_H

#include <linux/types.h>

#define BENCH_FRAME 80      /* bytes: room for Ethernet, IPv6 and TCP; a multiple of 8 */
#define BENCH_WINDOW 0x100000 /* packets between two timestamps */
#define BENCH_TIMES 64

struct bench_shared {
	__u64 frame[BENCH_FRAME / 8];
	__u32 mask;   /* flows - 1; flows are a power of two */
	__u32 x;      /* state of the generator */
	__u32 client; /* the first client's address (IPv6: its last word), host order */
	__u32 ipv6;
	__u64 count;
	__u64 time_ns[BENCH_TIMES];
};

#endif
