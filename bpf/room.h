/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Room in the table of flows. Connections that begin leave the last part of it to those that are taken over, which can go nowhere
 * else: a handshake that is not answered is begun again, by then at another server.
 */
#ifndef BATON_ROOM_H
#define BATON_ROOM_H

#include "guard_maps.h"

struct bpf_map {
	__u32 max_entries;
} __attribute__((preserve_access_index));

/* Sums the per-CPU counters: no walk. Linux 6.6, as tcx. */
extern __s64 bpf_map_sum_elem_count(const struct bpf_map *map) __ksym;

static __always_inline __s64 flows_used(void)
{
	return bpf_map_sum_elem_count((const struct bpf_map *)&flows);
}

static __always_inline int room_for_birth(void)
{
	return flows_used() < births_max;
}

#endif
