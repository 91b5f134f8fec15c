/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The fence: who may send at this instant. A lease counts to the nanosecond of the packet, and an entry passes only under
 * the incarnation in which it was made: sockets of an earlier life stay silent for ever, even if they wake after an hour.
 */
#ifndef BATON_FENCE_H
#define BATON_FENCE_H

#include "guard_maps.h"

static __always_inline const struct baton_lease *current_lease(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&lease, &zero);
}

static __always_inline int lease_lives(const struct baton_lease *l, __u64 now)
{
	return l && (l->unfenced || now < l->until_ns);
}

static __always_inline int same_incarnation(const struct baton_lease *l, const struct baton_guarded *g)
{
	return l && l->incarnation == g->incarnation;
}

#endif
