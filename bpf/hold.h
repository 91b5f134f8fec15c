/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Holding packets of flows whose owner is suspected, being replaced or handing over.
 *
 * A packet that is held is copied whole into the ring buffer. Its ticket is taken under the lock of the flow's hold and
 * only together with the certainty that a record will follow: the record is reserved first. Whoever drains the ring
 * buffer sends by ticket, so that two CPUs may write their records in either order.
 */
#ifndef BATON_HOLD_H
#define BATON_HOLD_H

#include "steered.h"

extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, __u64 flags, struct bpf_dynptr *ptr) __ksym;
extern int bpf_dynptr_copy(struct bpf_dynptr *to, __u32 to_offset, struct bpf_dynptr *from, __u32 from_offset,
			   __u32 size) __ksym;

/* Takes a ticket, or says why there is none: BATON_GO_ON = released meanwhile. */
static __always_inline int take_ticket(struct baton_hold *hold, __u32 length, __u32 *ticket)
{
	int verdict = BATON_STEER_HELD;

	bpf_spin_lock(&hold->lock);
	if (hold->state != BATON_HOLD_HOLDING)
		verdict = BATON_GO_ON;
	else if (hold->held >= hold_packets_max || hold->bytes + length > hold_bytes_max)
		verdict = BATON_STEER_DROP_HOLD_FULL;
	if (verdict == BATON_STEER_HELD) {
		*ticket = hold->held++;
		hold->bytes += length;
	}
	bpf_spin_unlock(&hold->lock);
	return verdict;
}

static __always_inline void held_header(struct baton_held_packet *header, const struct steered *s, __u32 length)
{
	header->flow = s->flow;
	header->time_ns = bpf_ktime_get_ns();
	header->ticket = 0;
	header->length = length;
	header->pad[0] = header->pad[1] = header->pad[2] = 0;
	header->slot = s->slot;
	header->pad2 = 0;
}

/*
 * Copies the packet into the ring buffer: with a ticket of `hold`, or without one as BOUNCED.
 * Returns HELD, HELD_BOUNCED, a drop, or BATON_GO_ON where the hold was released meanwhile.
 */
static __noinline int capture(struct xdp_md *ctx, const struct steered *s, struct baton_hold *hold)
{
	__u32 length = bpf_xdp_get_buff_len(ctx);
	int verdict = BATON_STEER_DROP_HOLD_FULL;
	struct baton_held_packet header;
	struct bpf_dynptr record, frame;

	if (length > BATON_FRAME_MAX)
		return BATON_STEER_DROP_TOO_LARGE;
	held_header(&header, s, length);
	if (bpf_ringbuf_reserve_dynptr(&held_packets, sizeof(header) + length, 0, &record) ||
	    bpf_dynptr_from_xdp(ctx, 0, &frame))
		goto discard;
	header.reason = hold ? BATON_HELD_FLOW : BATON_HELD_BOUNCED;
	verdict = hold ? take_ticket(hold, length, &header.ticket) : BATON_STEER_HELD_BOUNCED;
	if (verdict != BATON_STEER_HELD && verdict != BATON_STEER_HELD_BOUNCED)
		goto discard;
	bpf_dynptr_write(&record, 0, &header, sizeof(header), 0);
	bpf_dynptr_copy(&record, sizeof(header), &frame, 0, length);
	bpf_ringbuf_submit_dynptr(&record, 0);
	return verdict;
discard:
	bpf_ringbuf_discard_dynptr(&record, 0);
	return verdict;
}

/* The flow's hold, made where there is none. */
static __always_inline struct baton_hold *hold_of(const struct steered *s)
{
	struct baton_hold *hold = bpf_map_lookup_elem(&holds, &s->flow);
	struct baton_hold fresh = {};

	if (hold)
		return hold;
	fresh.state = BATON_HOLD_HOLDING;
	fresh.slot = s->slot;
	fresh.deadline_ns = bpf_ktime_get_ns() + hold_ns;
	bpf_map_update_elem(&holds, &s->flow, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&holds, &s->flow);
}

static __always_inline struct baton_maglev *maglev_at(__u32 hash, __u32 *side)
{
	__u32 position = hash % BATON_MAGLEV_SIZE, element = position / 2;

	*side = position & 1;
	return bpf_map_lookup_elem(&maglev, &element);
}

/* Makes `slot` the owner of this packet. Returns `verdict` if that server takes flows, else BATON_GO_ON. */
static __always_inline int go_to(struct steered *s, __u32 slot, int verdict)
{
	const struct baton_server *server = server_at(slot);

	if (!takes_flows(server))
		return BATON_GO_ON;
	s->slot = slot;
	s->generation = server->generation;
	return verdict;
}

static __always_inline int go_to_heir(struct steered *s, int verdict)
{
	__u32 side;
	const struct baton_maglev *element = maglev_at(s->key.hash, &side);

	return element ? go_to(s, element->heir[side], verdict) : BATON_GO_ON;
}

/* Nobody has released the flow in time: to the committed owner, else to the heir that is taking over, else nowhere. */
static __always_inline int hold_expired(struct steered *s, const struct baton_hold *hold, __u8 state)
{
	int verdict = go_to(s, hold->slot, BATON_STEER_FORWARD_HOLD_EXPIRED);

	if (verdict == BATON_GO_ON)
		verdict = go_to(s, s->slot, BATON_STEER_FORWARD_HOLD_EXPIRED);
	if (verdict == BATON_GO_ON && state == BATON_SERVER_TAKEOVER)
		verdict = go_to_heir(s, BATON_STEER_FORWARD_HOLD_EXPIRED);
	return verdict == BATON_GO_ON ? BATON_STEER_DROP_HOLD_EXPIRED : verdict;
}

/* Released: to the new owner. If that one is in trouble as well the client repeats, until its table entry is written. */
static __always_inline int hold_released(struct steered *s, const struct baton_hold *hold)
{
	int verdict = go_to(s, hold->slot, BATON_STEER_FORWARD_RELEASED);

	return verdict == BATON_GO_ON ? BATON_STEER_DROP_HOLD_EXPIRED : verdict;
}

/*
 * A packet whose owner (`s->slot`, in `state`) is held, or whose exception says that the flow is. `found` is the verdict
 * if it turns out not to be.
 */
BATON_GLOBAL int hold_flow(struct xdp_md *ctx, struct steered *s BATON_NONNULL, __u8 state, int found)
{
	int held = state == BATON_SERVER_HELD || state == BATON_SERVER_TAKEOVER, verdict;
	struct baton_hold *hold = bpf_map_lookup_elem(&holds, &s->flow);

	if (hold && hold->state == BATON_HOLD_RELEASED)
		return hold_released(s, hold);
	if (!hold && !held)
		return found;
	if (state == BATON_SERVER_TAKEOVER && s->pure) {
		verdict = go_to_heir(s, BATON_STEER_FORWARD_HEIR_ACK);
		if (verdict != BATON_GO_ON)
			return verdict;
	}
	hold = hold_of(s);
	if (!hold)
		return BATON_STEER_DROP_HOLD_FULL;
	if (bpf_ktime_get_ns() > hold->deadline_ns)
		return hold_expired(s, hold, state);
	verdict = capture(ctx, s, hold);
	return verdict == BATON_GO_ON ? hold_released(s, hold) : verdict;
}

#endif
