/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The cache of flows seen lately: one line a flow, in one of the four ways of its set. Every CPU writes without a lock; what
 * two CPUs tear is a miss by its check, and a miss is only slow. A SYN changes nothing but `new_syn`:
 *
 *            SYN                            ACK at its isn + 1
 *   empty ─────────► TENTATIVE, new_syn ─────────────────────────► syn = new_syn
 *                          │ any other segment: not this connection, a miss
 *   living, syn ───► living, syn, new_syn ───────────────────────► living, syn = new_syn
 */
#ifndef BATON_RECENT_H
#define BATON_RECENT_H

#include "steered.h"

static __always_inline __u16 recent_check(__u32 hash, __u32 slot, __u32 generation)
{
	return hash >> 16 ^ slot ^ generation;
}

/* Whether the line is this flow's. Ports and VIP are one compare of 5 bytes. */
static __always_inline int recent_is(const struct baton_recent *line, const struct steer_key *key)
{
	const __u64 *client = (const void *)line->client;
	__u64 rest = *(const __u64 *)&line->client_port;
	__u64 wanted = key->ports | (__u64)key->vip << 32;

	return client[0] == key->client0 && client[1] == key->client1 && (rest ^ wanted) << 24 == 0 &&
	       line->check == recent_check(key->hash, line->slot, line->generation);
}

static __always_inline struct baton_recent_set *recent_set(__u32 hash)
{
	__u32 index = hash & ((1 << BATON_RECENT_BITS) - 1);

	return bpf_map_lookup_elem(&recent, &index);
}

/* The ways in the order in which this flow prefers them: all lines are equally often somebody's first. */
static __always_inline struct baton_recent *recent_way(struct baton_recent_set *set, __u32 hash, __u32 i)
{
	return &set->way[((hash >> BATON_RECENT_BITS) ^ i) % BATON_RECENT_WAYS];
}

/* The flow's line, if it has one. */
static __always_inline struct baton_recent *recent_find(const struct steer_key *key)
{
	struct baton_recent_set *set = recent_set(key->hash);

	if (!set)
		return NULL;
#pragma unroll
	for (int i = 0; i < BATON_RECENT_WAYS; i++) {
		struct baton_recent *line = recent_way(set, key->hash, i);

		if (recent_is(line, key))
			return line;
	}
	return NULL;
}

/*
 * A line for a flow that has none: one that is nobody's or of a server that is gone, else one of a handshake that has not
 * ended, else the flow's first. So a flood of SYNs takes its own lines again and again.
 */
static __always_inline struct baton_recent *recent_victim(const struct steer_key *key)
{
	struct baton_recent_set *set = recent_set(key->hash);
	__u32 victim = BATON_RECENT_WAYS;

	if (!set)
		return NULL;
#pragma unroll
	for (int i = 0; i < BATON_RECENT_WAYS; i++) {
		const struct baton_recent *line = recent_way(set, key->hash, i);

		if (!line->slot || !server_of(line->slot, line->generation))
			return recent_way(set, key->hash, i);
		if (victim == BATON_RECENT_WAYS && (line->flags & BATON_RECENT_TENTATIVE))
			victim = i;
	}
	return recent_way(set, key->hash, victim % BATON_RECENT_WAYS);
}

/* Takes note of a segment that the owner gets. */
static __always_inline void recent_note(struct baton_recent *line, __u32 start, __u32 end, __u32 ack, __u32 tsval,
					__u32 tsecr, __u16 window)
{
	if ((line->new_syn.flags & BATON_SYN_SEEN) && start == line->new_syn.isn + 1) {
		line->syn = line->new_syn;
		line->new_syn = (struct baton_syn){};
	}
	line->ack = ack;
	line->seq = end;
	line->tsval = tsval;
	line->tsecr = tsecr;
	line->window = window;
}

/* Whether a tentative line has a say about this packet: its SYN again, or the ACK that ends the handshake. */
static __always_inline int tentative_fits(const struct baton_recent *line, const struct steered *s,
					  const struct baton_server *server)
{
	if (s->syn)
		return server->state == BATON_SERVER_UP;
	return is_own(s) && s->start == line->new_syn.isn + 1;
}

/* Finds the owner in the flow's line. Returns whether it did. */
static __always_inline int recent_owner(struct steered *s)
{
	const struct baton_recent *line = recent_find(&s->key);
	const struct baton_server *server;

	if (!line)
		return 0;
	server = server_of(line->slot, line->generation);
	if (!server || ((line->flags & BATON_RECENT_TENTATIVE) && !tentative_fits(line, s, server)))
		return 0;
	s->slot = line->slot;
	s->generation = line->generation;
	return 1;
}

static __always_inline void recent_point(struct baton_recent *line, const struct steered *s, __u8 flags)
{
	line->flags = flags;
	line->slot = s->slot;
	line->generation = s->generation;
	line->check = recent_check(s->key.hash, s->slot, s->generation);
}

/* Gives the line to the flow. Readers on other CPUs see either flow or none: the VIP is invalid meanwhile. */
static __always_inline void recent_take(struct baton_recent *line, const struct steered *s)
{
	__u64 *client = (void *)line->client;

	*(volatile __u8 *)&line->vip = 0xff;
	client[0] = s->key.client0;
	client[1] = s->key.client1;
	line->client_port = s->flow.client_port;
	line->vip_port = s->flow.vip_port;
	line->syn = line->new_syn = (struct baton_syn){};
	line->ack = line->seq = line->tsval = line->tsecr = 0;
	line->window = 0;
	recent_point(line, s, s->syn ? BATON_RECENT_TENTATIVE : 0);
	*(volatile __u8 *)&line->vip = s->key.vip;
}

/*
 * A packet found its verdict. Only where its owner was found does the line point there; a packet that is held, or went
 * to an heir that asked for it, tells a line that is there what the client said last.
 */
BATON_GLOBAL int recent_learn(const struct steered *s BATON_NONNULL, int verdict)
{
	int owner = verdict >= BATON_STEER_FORWARD_RECENT && verdict <= BATON_STEER_FORWARD_RELEASED;
	struct baton_recent *line = recent_find(&s->key);
	int known, living, tentative, confirmed;

	if (!is_own(s))
		return 0;
	tentative = line && (line->flags & BATON_RECENT_TENTATIVE);
	known = line && !tentative;
	living = known && server_of(line->slot, line->generation);
	confirmed = tentative && !s->syn && s->start == line->new_syn.isn + 1;
	if (!living && !confirmed && !owner)
		return 0;
	if (!line)
		line = recent_victim(&s->key);
	if (!line)
		return 0;
	if (s->syn) {
		if (!living)
			recent_take(line, s);
		line->new_syn = s->offered;
		return 0;
	}
	if (!known && !tentative) /* what its SYN said outlives the server that it went to */
		recent_take(line, s);
	else if (confirmed || owner)
		recent_point(line, s, 0);
	if (s->acks)
		recent_note(line, s->start, s->end, s->ack, s->tsval, s->tsecr, s->window);
	return 0;
}

#endif
