/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A packet to a VIP, as the parts of steer.bpf.c hand it on. */
#ifndef BATON_STEERED_H
#define BATON_STEERED_H

#include "flow_hash.h"
#include "parse.h"
#include "steer_maps.h"

#define BATON_GO_ON (-1) /* no verdict yet */

/*
 * A function that the verifier looks at once, by itself, whatever the ways that lead to it: without these the program would
 * have too many to look at. Its pointers are never null.
 */
#define BATON_GLOBAL __attribute__((noinline))
#define BATON_NONNULL __attribute__((btf_decl_tag("arg:nonnull")))

/* Which flow a packet is of: what the fast path keeps in registers. */
struct steer_key {
	__u64 client0, client1; /* 16 byte form */
	__u32 ports;            /* client port, VIP port, as on the wire */
	__u32 hash;
	__u8 vip;               /* as in struct baton_recent */
};

/* Everything about a packet that needs more than the fast path. */
struct steered {
	struct steer_key key;
	struct baton_flow flow;
	__u8 icmp;          /* an ICMP error about this flow: steered as it, nothing is learnt from it */
	__u8 related;       /* of a flow that goes where this one does: likewise */
	__u8 syn;           /* SYN without ACK */
	__u8 pure;          /* ACK without payload, SYN and FIN, or an RST: all that answers a probe */
	__u8 acks;          /* `ack` means something */
	__u8 exception;     /* the owner is from `exceptions` */
	__u8 look_for_hold; /* ... which says that there is a hold */
	__u16 slot;         /* the owner, once it is found */
	__u32 generation;
	__u32 start, end;   /* sequence numbers of the segment */
	__u32 ack, tsval, tsecr;
	__u16 window;
	struct baton_syn offered; /* by a SYN */
	struct baton_mac source;  /* who sent the frame */
};

/* Whether the packet is a segment of the flow itself: only then do its numbers say anything of it. */
static __always_inline int is_own(const struct steered *s)
{
	return !s->icmp && !s->related;
}

static __always_inline int is_forward(int verdict)
{
	return verdict >= BATON_STEER_FORWARD_RECENT && verdict <= BATON_STEER_FORWARD_BOUNCED;
}

/* Flows go there: its own always, new ones if it is UP. */
static __always_inline int takes_flows(const struct baton_server *server)
{
	return server && (server->state == BATON_SERVER_UP || server->state == BATON_SERVER_DRAINING);
}

static __always_inline int is_held(const struct baton_server *server)
{
	return server && (server->state == BATON_SERVER_HELD || server->state == BATON_SERVER_TAKEOVER);
}

static __always_inline struct baton_server *server_at(__u32 slot)
{
	return bpf_map_lookup_elem(&servers, &slot);
}

/* The server that an entry names, if it is still the same one and not DOWN. */
static __always_inline struct baton_server *server_of(__u32 slot, __u32 generation)
{
	struct baton_server *server = server_at(slot);

	return server && server->state != BATON_SERVER_DOWN && server->generation == generation ? server : NULL;
}

static __always_inline int same_mac(const __u8 *a, const __u8 *b)
{
	return *(const __u32 *)a == *(const __u32 *)b && *(const __u16 *)(a + 4) == *(const __u16 *)(b + 4);
}

#endif
