/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every map and every setting of steer.bpf.c, on one page. All maps are pinned and outlive the controller and the
 * program; what they hold is laid out in shared.h.
 *
 * map                written by        read by           when full
 * -----------------  ----------------  ----------------  -------------------------------------------------------------
 * servers            control           XDP               fixed: BATON_SERVERS_MAX slots
 * maglev             control           XDP               fixed
 * server_macs        control           XDP               fixed, as servers
 * services           control           XDP               the controller refuses the configuration
 * related            control           XDP               the controller relates nothing more (LIMIT_REACHED)
 * recent             XDP               XDP, control      another flow is forgotten: it costs a Maglev walk
 * exceptions         control           XDP               the controller moves nothing more (LIMIT_REACHED)
 * exceptions_filter  control           XDP               fixed; more bits set mean more lookups, never a wrong one
 * holds              XDP, control,     XDP, control,     DROP_HOLD_FULL, the client repeats
 *                    steer_release     hold queue
 * held_packets       XDP               hold queue        DROP_HOLD_FULL, the client repeats
 * verdicts           XDP, a CPU each   control           fixed
 */
#ifndef BATON_STEER_MAPS_H
#define BATON_STEER_MAPS_H

#include "shared.h"
#include "verdict.h"

/* ---- settings: set before the load; a change means to load again and to swap the program, maps kept -------------- */

const volatile __u8 own_mac[6] __attribute__((aligned(8)));
/* VIPs in network order; behind the count all zero. A VIP's seed is where the hash of its flows begins (flow_hash). */
const volatile __u32 vip4_count, vip6_count;
const volatile __u32 vip4[BATON_VIPS_MAX];
const volatile __u64 vip6[BATON_VIPS_MAX][2];
const volatile __u64 vip4_seed[BATON_VIPS_MAX];
const volatile __u64 vip6_seed[BATON_VIPS_MAX];
/* Bounds of a hold that XDP makes; a migration's comes with its own deadline. */
const volatile __u64 hold_ns = 10000000000;
const volatile __u32 hold_packets_max = 4096;
const volatile __u64 hold_bytes_max = 64 << 20;

/* ---- maps ---------------------------------------------------------------------------------------------------------- */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BATON_SERVERS_MAX);
	__type(key, __u32); /* slot */
	__type(value, struct baton_server);
} servers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BATON_SERVERS_MAX);
	__type(key, struct baton_mac); /* `set` is 0 */
	__type(value, __u32);          /* slot */
} server_macs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BATON_MAGLEV_ELEMENTS);
	__type(key, __u32); /* position / 2 */
	__type(value, struct baton_maglev);
} maglev SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct baton_service);
	__type(value, __u32); /* BATON_SERVICE_* */
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* as exceptions */
	__uint(max_entries, 1 << 16);
	__type(key, struct baton_flow);
	__type(value, struct baton_related);
} related SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << BATON_RECENT_BITS);
	__type(key, __u32); /* low bits of the flow's hash */
	__type(value, struct baton_recent_set);
} recent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* written by the control plane alone, which can wait for memory */
	__uint(max_entries, 1 << 20);
	__type(key, struct baton_flow);
	__type(value, struct baton_exception);
} exceptions SEC(".maps");

/* One bit for the flows of one hash value (its high bits): set while any of them is in `exceptions`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << (BATON_FILTER_BITS - 6));
	__type(key, __u32);
	__type(value, __u64);
} exceptions_filter SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 17);
	__type(key, struct baton_flow);
	__type(value, struct baton_hold);
} holds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 24);
} held_packets SEC(".maps");

/* One element with a counter for each enum baton_steer_verdict: one lookup, whatever the verdict. */
struct baton_steer_counters {
	__u64 count[32];
};
_Static_assert(BATON_STEER_VERDICTS <= 32, "a counter for every verdict");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct baton_steer_counters);
} verdicts SEC(".maps");

#endif
