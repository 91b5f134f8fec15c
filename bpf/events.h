/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Reports for the worker. One that finds no room is counted, never waited for. */
#ifndef BATON_EVENTS_H
#define BATON_EVENTS_H

#include "guard_maps.h"

static __always_inline struct baton_guard_event *event_begin(const struct baton_flow *flow, __u8 type, __u8 tcp_state)
{
	struct baton_guard_event *e = bpf_ringbuf_reserve(&guard_events, sizeof(*e), 0);

	if (!e) {
		guard_count(BATON_GUARD_EVENT_LOST);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	__builtin_memcpy(&e->flow, flow, sizeof(e->flow));
	e->time_ns = bpf_ktime_get_ns();
	e->type = type;
	e->tcp_state = tcp_state;
	return e;
}

/* A segment of the client: all that a comparison needs. The cursor stands at the options. */
static __always_inline void report_segment(const struct baton_cursor *c, const struct baton_headers *h,
					   const struct baton_flow *flow, __u8 type, __u8 tcp_state)
{
	struct baton_guard_event *e;
	__u32 tsval, tsecr;
	int timestamps = parse_tcp_timestamps(c, h, &tsval, &tsecr);

	e = event_begin(flow, type, tcp_state);
	if (!e)
		return;
	e->tcp_flags = tcp_flags(h->tcp);
	e->has_timestamps = timestamps;
	e->seq = bpf_ntohl(h->tcp->seq);
	e->ack = bpf_ntohl(h->tcp->ack_seq);
	e->payload = h->length;
	e->window = bpf_ntohs(h->tcp->window);
	e->tsval = tsval;
	e->tsecr = tsecr;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline void report_state(const struct baton_flow *flow, __u8 type, __u8 tcp_state)
{
	struct baton_guard_event *e = event_begin(flow, type, tcp_state);

	if (e)
		bpf_ringbuf_submit(e, 0);
}

#endif
