/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The contract between the BPF programs, the C++ bindings and TypeScript.
 *
 * Everything that lies in a map or a ring buffer is laid out here and nowhere else. C and C++ include this file;
 * bpf/layout.ts mirrors it, and test/bpf/layout.test compares both field by field through BTF.
 *
 * Conventions: addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d, network order. Ports are network order.
 * Sequence numbers, windows and timestamps are host order. Times are CLOCK_MONOTONIC nanoseconds.
 */
#ifndef BATON_SHARED_H
#define BATON_SHARED_H

#ifdef __bpf__
#define BATON_ASSERT(cond, text) _Static_assert(cond, text)
#elif defined(__cplusplus)
#include <linux/types.h>
#define BATON_ASSERT(cond, text) static_assert(cond, text)
#else
#include <linux/types.h>
#define BATON_ASSERT(cond, text) _Static_assert(cond, text)
#endif

#define BATON_SERVERS_MAX 1024      /* slots; slot 0 is never a server */
#define BATON_VIPS_MAX 8            /* VIP addresses a family */
#define BATON_MAGLEV_SIZE 65537     /* prime; as katran and Maglev's paper (section 3.4) */
#define BATON_RECENT_BITS 18        /* 2^18 sets of ... */
#define BATON_RECENT_WAYS 4         /* ... four cache lines of 64 bytes */
#define BATON_FILTER_BITS 22        /* bits in the filter that spares the exceptions lookup */
#define BATON_FRAME_MAX 9216        /* the largest frame that can be held */

/* ---- the appliance: steer.bpf.c ------------------------------------------------------------------------------ */

/* A flow's identity everywhere outside the fast path: exceptions, holds, guard entries, records. */
struct baton_flow {
	__u8 client[16];
	__u8 vip[16];
	__be16 client_port;
	__be16 vip_port;
	__u8 transport; /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 pad[3];
};
BATON_ASSERT(sizeof(struct baton_flow) == 40, "baton_flow is 40 bytes");

enum baton_server_state {
	BATON_SERVER_DOWN = 0,     /* fenced, nothing goes there; recent entries that name it are misses */
	BATON_SERVER_UP = 1,
	BATON_SERVER_DRAINING = 2, /* its flows go there, new ones do not */
	BATON_SERVER_HELD = 3,     /* suspected: every packet of its flows is held */
	BATON_SERVER_TAKEOVER = 4, /* as HELD, but a pure ACK or RST goes to the heir (Maglev table 1): answers to its probes */
};

struct baton_server {
	__u8 mac[6];
	__u8 state; /* enum baton_server_state */
	__u8 pad;
	__u32 generation; /* grows when the server rejoins; recent entries of an older one are misses */
};
BATON_ASSERT(sizeof(struct baton_server) == 12, "baton_server is 12 bytes");

/* What a SYN told: enough to rebuild a connection that has no record yet. */
struct baton_syn {
	__u32 isn;
	__u16 mss;
	__u8 wscale; /* 0xff: not offered */
	__u8 flags;  /* BATON_SYN_* */
};
#define BATON_SYN_SACK 1
#define BATON_SYN_TIMESTAMPS 2
#define BATON_SYN_SEEN 4

/*
 * recent: a cache, one line a flow in one of the ways of its set, written by XDP alone. A miss costs nothing but a walk
 * through exceptions and Maglev, which are both authoritative.
 */
struct baton_recent {
	__u8 client[16];
	__be16 client_port;
	__be16 vip_port;
	__u8 vip;      /* index into the VIP table, +16 for IPv6; 0xff: being written */
	__u8 flags;    /* BATON_RECENT_* */
	__u16 slot;    /* 0: empty */
	__u32 generation;
	struct baton_syn syn;     /* of the connection that lives */
	struct baton_syn new_syn; /* of a SYN on a live entry; becomes `syn` with the first ACK at its isn + 1 */
	__u32 ack, seq;           /* the client's last ones; seq is the end of its segment */
	__u32 tsval, tsecr;       /* 0, 0 without timestamps */
	__u16 window;             /* as on the wire, unscaled */
	__u16 check;              /* over hash, slot and generation: a line torn between two CPUs is a miss */
};
#define BATON_RECENT_TENTATIVE 1 /* made by a SYN: good for that SYN and for the ACK that ends its handshake only */
BATON_ASSERT(sizeof(struct baton_recent) == 64, "baton_recent is one cache line");

/* An element of `recent`, found by the low bits of the flow's hash. */
struct baton_recent_set {
	struct baton_recent way[BATON_RECENT_WAYS];
};

/* exceptions: flows that are not where Maglev says. The control plane writes, nothing evicts. */
struct baton_exception {
	__u16 slot;
	__u16 flags; /* BATON_EXCEPTION_* */
	__u32 generation;
};

#define BATON_EXCEPTION_HOLD 1 /* a migration: look into `holds` first; without an entry there `slot` holds */

/*
 * related: flows that go where their control connection goes, FTP's data connections for instance. Its key is the flow itself, with
 * client port 0 where any will do; the control connection has the same addresses. The control plane writes.
 */
struct baton_related {
	__be16 client_port; /* of the control connection, as is all here */
	__be16 vip_port;
	__u32 client_isn;   /* tells it from a later one of the same 5-tuple; the packet path does not look at it */
};
BATON_ASSERT(sizeof(struct baton_related) == 8, "baton_related is 8 bytes");

/*
 * Both Maglev tables, two positions an element (an array's elements are 8 bytes at least): position p is in element
 * p / 2 at [p % 2]. 0: nobody.
 */
struct baton_maglev {
	__u16 main[2]; /* who gets flows */
	__u16 heir[2]; /* who takes over, and gets new flows of a held server */
};
BATON_ASSERT(sizeof(struct baton_maglev) == 8, "baton_maglev is 8 bytes");
#define BATON_MAGLEV_ELEMENTS ((BATON_MAGLEV_SIZE + 1) / 2)

enum baton_hold_state {
	BATON_HOLD_HOLDING = 1,
	BATON_HOLD_RELEASED = 2, /* forward to `slot`; kept until the control plane has written the exception */
};

/*
 * holds: one entry a held flow. XDP makes it for a flow of a HELD server, the control plane makes it for a migration.
 * Under the lock HOLD takes a ticket (held++) and then writes the record; `steer_release` goes from HOLDING to RELEASED
 * only if every ticket taken was sent. So nothing overtakes.
 */
struct baton_hold {
	struct bpf_spin_lock lock;
	__u32 held;        /* tickets taken */
	__u64 bytes;       /* of all packets held so far */
	__u64 deadline_ns; /* past it the flow is forwarded to `slot`, if that is a living server, else dropped */
	__u16 slot;        /* owner as committed; 0: none */
	__u8 state;        /* enum baton_hold_state */
	__u8 pad[5];
};

/* A record in the ring buffer `held_packets`. */
struct baton_held_packet {
	struct baton_flow flow;
	__u64 time_ns;
	__u32 ticket;
	__u32 length;
	__u8 reason; /* enum baton_held_reason */
	__u8 pad[3];
	__u16 slot;  /* for BATON_HELD_BOUNCED: the server that sent it back */
	__u16 pad2;
	__u8 frame[]; /* `length` bytes, from the Ethernet header on */
};
enum baton_held_reason {
	BATON_HELD_FLOW = 1,    /* of a held flow: to be released in order */
	BATON_HELD_BOUNCED = 2, /* a server that has no such connection sent it back: user space knows, or answers with an RST */
};

/* Argument of the SEC("syscall") programs of steer. */
struct baton_release_args {
	struct baton_flow flow;
	__u32 sent; /* tickets that user space has sent */
	__u16 slot; /* the owner from now on */
	__u16 pad;
	__u32 done; /* out: 1 = released, 0 = packets came meanwhile, drain again; 2 = no such hold */
};
BATON_ASSERT(sizeof(struct baton_release_args) == 52, "baton_release_args is 52 bytes");

/* ---- a server: guard.bpf.c ----------------------------------------------------------------------------------- */

/*
 * SO_MARK of the agent's raw sockets: probes, nudges and exact resets carry it, and may leave in BATON_GUARD_PROBE. Every
 * other rule (lease, incarnation, clamp, FIN, RST) holds for them as well.
 */
#define BATON_MARK 0xba70

/* Key of `services`, on the appliance and on a server: what takes part on every VIP. */
struct baton_service {
	__be16 port;
	__u8 transport; /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 pad;
};

/* Value of `services`. */
#define BATON_SERVICE_OWN 1     /* each of its flows has an owner of its own */
#define BATON_SERVICE_RELATED 2 /* only flows in `related` have this port */

/* Key of `appliances`, and the element of `way_back`, where `set` says whether there is one. */
struct baton_mac {
	__u8 bytes[6];
	__u8 set;
	__u8 pad;
};

/* The lease: one element. Written by the supervisor alone. */
struct baton_lease {
	__u64 until_ns;    /* egress passes before this instant only; 0 = fenced */
	__u64 incarnation; /* egress passes entries of this incarnation only */
	__u64 unfenced;    /* 1: policy serve-unprotected and the store is gone; time is not looked at */
};

enum baton_guard_phase {
	BATON_GUARD_LIVE = 1,
	BATON_GUARD_PROBE = 2,  /* unready: segments of the client are reported and go no further */
	BATON_GUARD_SILENT = 3, /* left ESTABLISHED without permission: nothing leaves any more */
	BATON_GUARD_FROZEN = 4, /* migration: nothing leaves, what comes goes back to the appliance */
	BATON_GUARD_ENDED = 5,  /* closed as committed; kept for TIME_WAIT */
};
#define BATON_GUARD_FIN_COMMITTED 1 /* a FIN may leave if it ends exactly at fin_seq */
#define BATON_GUARD_RST_ASKED 2     /* the agent asked for a reset */
#define BATON_GUARD_WATCH_LATE 4    /* just rebuilt: report acks above snd_nxt */
#define BATON_GUARD_UNPROTECTED 8   /* no record: no clamp, `consumed` follows the kernel's acks; FIN with FIN_ASKED */
#define BATON_GUARD_FIN_ASKED 16    /* UNPROTECTED: the agent is closing, a FIN may leave wherever it is */

/*
 * One a connection that this server owns, and one a flow of datagrams: of that only phase, incarnation and last_egress_ns mean something.
 * Preallocated hash, never LRU, fail closed. User space creates an entry whole
 * (BPF_NOEXIST) and changes a living one only through the SEC("syscall") program `guard_change`, so that no field that
 * the packet path writes is ever overwritten with an older copy.
 */
struct baton_guarded {
	__u8 phase;   /* enum baton_guard_phase */
	__u8 flags;   /* BATON_GUARD_* */
	__u8 tcp_state; /* as the kernel last reported it */
	__u8 snd_wscale, rcv_wscale; /* 0xff: not negotiated */
	__u8 options; /* BATON_SYN_SACK | BATON_SYN_TIMESTAMPS as negotiated, BATON_SYN_SEEN = born from a SYN cookie */
	__u16 mss;
	__u64 incarnation;
	__u32 client_isn, server_isn;
	__u32 consumed; /* the highest ack number that may leave: sequence number behind the last committed client byte (or FIN) */
	__u32 fin_seq;  /* the sequence number that a permitted FIN itself occupies */
	/* what left last, for nudges: */
	__u32 snd_nxt;    /* end of the highest segment that left */
	__u32 sent_ack;   /* the highest ack that left, after the clamp */
	__u32 kernel_ack; /* what the kernel had put there */
	__u32 tsval, tsecr;
	__u32 window;     /* as on the wire, unscaled; the kernel's, also where the clamp has sent 0 instead */
	/* the client was not told `kernel_ack` yet: since when, or since `consumed` last moved; 0: it was */
	__u64 clamped_since_ns;
	__u64 last_egress_ns;
	/* what came last: */
	__u32 client_seq; /* end of the client's last segment */
	__u32 client_ack;
};

/* Argument of `guard_change`: what to set, and the entry as it is afterwards. */
#define BATON_CHANGE_CONSUMED 1 /* only ever forward, modulo 2^32 */
#define BATON_CHANGE_FIN 2      /* sets fin_seq and BATON_GUARD_FIN_COMMITTED */
#define BATON_CHANGE_PHASE 4    /* SILENT never becomes LIVE again directly: a rebuilt socket goes through PROBE */
#define BATON_CHANGE_FLAGS 8    /* flags = flags & ~flags_clear | flags_set */
#define BATON_CHANGE_INCARNATION 16
#define BATON_CHANGE_SND_NXT 32 /* only ever forward: where a rebuilt socket begins; acks above it count as late */
#define BATON_CHANGE_SAID 64    /* what a rebuilt socket's kernel believes to have said, for nudges before it has said anything */
struct baton_guard_change {
	struct baton_flow flow;
	__u32 what; /* BATON_CHANGE_* */
	__u32 consumed;
	__u32 fin_seq;
	__u32 snd_nxt;
	__u8 phase;
	__u8 flags_set, flags_clear;
	__u8 found; /* out: 0 = no such entry */
	__u32 pad;
	__u64 incarnation;
	struct baton_guarded entry; /* out; in, with BATON_CHANGE_SAID: window, tsval, tsecr */
};

/*
 * Argument of `guard_sweep`: removes entries whose last packet left before `before_ns` and that are SILENT, ENDED or of an
 * earlier incarnation, and counts the rest. In the kernel, so that no new connection of the same tuple is hit.
 */
#define BATON_GUARD_PHASES 6 /* indices 1 to 5: enum baton_guard_phase */
struct baton_guard_sweep {
	__u64 before_ns;
	__u32 removed;                   /* out */
	__u32 count[BATON_GUARD_PHASES]; /* out, by phase; [0]: of an earlier incarnation */
	__u32 pad;
};
BATON_ASSERT(sizeof(struct baton_guard_sweep) == 40, "baton_guard_sweep is 40 bytes");

/* What guard reports, ring buffer `guard_events`. */
enum baton_guard_event_type {
	BATON_EVENT_ANSWER = 1,   /* a segment of a flow in PROBE */
	BATON_EVENT_STATE = 2,    /* the kernel moved the socket to state `tcp_state` */
	BATON_EVENT_SILENCED = 3, /* an ending nobody meant was silenced */
	BATON_EVENT_LATE_ACK = 4, /* WATCH_LATE: the client acknowledges more than this server sent */
};
#define BATON_TCP_FIN 1
#define BATON_TCP_SYN 2
#define BATON_TCP_RST 4
#define BATON_TCP_ACK 16
struct baton_guard_event {
	struct baton_flow flow;
	__u64 time_ns;
	__u8 type;      /* enum baton_guard_event_type */
	__u8 tcp_flags; /* BATON_TCP_* */
	__u8 tcp_state;
	__u8 has_timestamps;
	__u32 seq, ack;
	__u32 payload; /* bytes */
	__u32 window;  /* as on the wire, unscaled */
	__u32 tsval, tsecr;
};
BATON_ASSERT(sizeof(struct baton_guard_event) == 76 || sizeof(struct baton_guard_event) == 80, "baton_guard_event");

#endif
