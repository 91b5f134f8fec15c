/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every map and knob of guard.bpf.c on one page: who writes, who reads, how long it lives, what happens when it is full.
 * All are pinned by the supervisor; a restarted one adopts them with what is in them.
 */
#ifndef BATON_GUARD_MAPS_H
#define BATON_GUARD_MAPS_H

#include "shared.h"
#include "verdict.h"

/* Set before the load. */
const volatile __u32 netns_inode = 0;            /* tp_btf sees every namespace of the kernel: ours is this one */
const volatile __u64 clamp_shut_ns = 100000000;  /* a clamp that lasts longer advertises window 0 */
const volatile __u32 births_max = 0xffffffff;    /* with so many entries in `flows` no handshake is begun */

/* One a connection. Made by birth and by user space, changed by packets and guard_change, removed by user space. With births_max
 * entries handshakes are not begun (IN_NO_ROOM); full: a connection whose handshake was under way gets none and stays silent, counted as
 * TABLE_FULL. Preallocated and never LRU: nothing is evicted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct baton_flow);
	__type(value, struct baton_guarded);
} flows SEC(".maps");

/* The lease. Written by the supervisor, read by every packet that leaves. All zero after the load: fenced. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct baton_lease);
} lease SEC(".maps");

/* VIP addresses, 16 bytes, IPv4 mapped. Written by the supervisor at its start. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * BATON_VIPS_MAX);
	__type(key, __u8[16]);
	__type(value, __u32);
} vips SEC(".maps");

/* Ports that are guarded on each VIP, those of related flows among them. Written by the supervisor at its start. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct baton_service);
	__type(value, __u32); /* BATON_SERVICE_* */
} services SEC(".maps");

/* MACs of the appliances: a frame from one of them that does not belong here goes back to it. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct baton_mac);
	__type(value, __u32);
} appliances SEC(".maps");

/* The appliance for frames that came from elsewhere. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct baton_mac);
} way_back SEC(".maps");

/* Flows whose last handshake ACK carried a valid SYN cookie, between ingress and birth. LRU: at worst a birth is not
 * marked as cookie-born. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct baton_flow);
	__type(value, __u32);
} cookie_births SEC(".maps");

/* struct baton_guard_event for the worker. Full: the report is missing, counted as EVENT_LOST; the agent probes again. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} guard_events SEC(".maps");

/* Packets by enum baton_guard_verdict. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BATON_GUARD_VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} guard_verdicts SEC(".maps");

static __always_inline void guard_count(__u32 verdict)
{
	__u64 *n = bpf_map_lookup_elem(&guard_verdicts, &verdict);

	if (n)
		(*n)++; /* per CPU: no other writer */
}

static __always_inline int is_vip(const __u8 address[16])
{
	return bpf_map_lookup_elem(&vips, address) != NULL;
}

static __always_inline int is_service(__be16 port, __u8 transport)
{
	struct baton_service key = { .port = port, .transport = transport };

	return bpf_map_lookup_elem(&services, &key) != NULL;
}

/* Whether the agent opens connections from that port. */
static __always_inline int is_related_port(__be16 port)
{
	struct baton_service key = { .port = port, .transport = BATON_PROTO_TCP };
	const __u32 *kind = bpf_map_lookup_elem(&services, &key);

	return kind && *kind == BATON_SERVICE_RELATED;
}

#endif
