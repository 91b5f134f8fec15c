/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The hash that says where a flow goes and who takes it over. bpf/maglev.ts computes the same; a test compares them.
 *
 *     seed(vip)          = mix(mix(BATON_HASH_SEED, vip[0..7]), vip[8..15])         once, by the control plane
 *     IPv4 client        : mix(seed, client[12..15] | ports << 32)                  one step a packet
 *     IPv6 client        : mix(mix(mix(seed, client[0..7]), client[8..15]), ports)
 *     hash               = high half of that * BATON_HASH_LAST
 *
 * Bytes lie as on the wire and are read as little-endian words; ports is client port, then VIP port. Addresses are the 16
 * byte form, so "IPv4" means ::ffff:0:0/96 whatever the packet was.
 */
#ifndef BATON_FLOW_HASH_H
#define BATON_FLOW_HASH_H

#include "shared.h"

#define BATON_HASH_SEED 0x9e3779b97f4a7c15ULL
#define BATON_HASH_MIX 0xd6e8feb86659fd93ULL
#define BATON_HASH_LAST 0xff51afd7ed558ccdULL

static __always_inline __u64 hash_mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * BATON_HASH_MIX;
	return hash ^ hash >> 32;
}

/* @param client the 16 byte form as two words */
static __always_inline __u32 flow_hash(__u64 seed, __u64 client0, __u64 client1, __u32 ports)
{
	__u64 hash = seed;

	if (!client0 && (__u32)client1 == 0xffff0000) {
		hash = hash_mix(hash, client1 >> 32 | (__u64)ports << 32);
	} else {
		hash = hash_mix(hash, client0);
		hash = hash_mix(hash, client1);
		hash = hash_mix(hash, ports);
	}
	return hash * BATON_HASH_LAST >> 32;
}

#endif
