/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every fate a packet can meet, numbered once. Numbers are never reused: a retired one keeps its line.
 * bpf/vocabulary.ts holds the same list for metrics and the API; test/unit/vocabulary.test compares them.
 */
#ifndef BATON_VERDICT_H
#define BATON_VERDICT_H

/* The appliance. F: forwarded, H: held, P: passed to the appliance's own stack, D: dropped. */
enum baton_steer_verdict {
	BATON_STEER_PASS_NOT_VIP = 0,       /* P not for a VIP */
	BATON_STEER_FORWARD_RECENT = 1,     /* F owner found in recent */
	BATON_STEER_FORWARD_EXCEPTION = 2,  /* F owner found in exceptions */
	BATON_STEER_FORWARD_MAGLEV = 3,     /* F owner by Maglev */
	BATON_STEER_FORWARD_RELEASED = 4,   /* F hold was released a moment ago */
	BATON_STEER_FORWARD_HEIR_ACK = 5,   /* F pure ACK or RST to the heir that probes */
	BATON_STEER_FORWARD_HOLD_EXPIRED = 6, /* F hold's deadline is past, to the committed owner */
	BATON_STEER_FORWARD_ICMP = 7,       /* F ICMP error to the owner of the flow it quotes */
	BATON_STEER_FORWARD_BOUNCED = 8,    /* F sent back by a server, forwarded to the owner in exceptions */
	BATON_STEER_HELD = 9,               /* H in the ring buffer */
	BATON_STEER_HELD_BOUNCED = 10,      /* H sent back by a server, to be resolved by user space */
	BATON_STEER_PASS_VIP_OTHER = 11,    /* P VIP, but neither TCP, related UDP nor ICMP error (ping, ...) */
	BATON_STEER_DROP_NO_SERVER = 12,    /* D no server takes new flows */
	BATON_STEER_DROP_NO_SERVICE = 13,   /* D VIP, but no service on that port */
	BATON_STEER_DROP_MALFORMED = 14,    /* D headers cut short or contradictory */
	BATON_STEER_DROP_FRAGMENT = 15,     /* D a fragment: no ports to steer by */
	BATON_STEER_DROP_HOLD_FULL = 16,    /* D ring buffer or table of holds full, or a flow's bound reached */
	BATON_STEER_DROP_HOLD_EXPIRED = 17, /* D hold's deadline is past and no committed owner lives */
	BATON_STEER_DROP_TOO_LARGE = 18,    /* D frame larger than can be held */
	BATON_STEER_PASS_VLAN = 19,         /* P tagged more than twice */
	BATON_STEER_DROP_NOT_RELATED = 20,  /* D a port of related flows, but no control connection has named this one */
	BATON_STEER_VERDICTS = 21
};

/* A server. I: ingress, E: egress. */
enum baton_guard_verdict {
	BATON_GUARD_IN_NOT_VIP = 0,          /* I not for a VIP, passed */
	BATON_GUARD_IN_HERE = 1,             /* I socket or SYN for a listener, passed */
	BATON_GUARD_IN_ANSWER = 2,           /* I of a flow in PROBE: reported to the agent */
	BATON_GUARD_IN_FROZEN = 3,           /* I of a frozen flow: sent back to the appliance, which holds it */
	BATON_GUARD_IN_NOT_HERE = 4,         /* I no such connection: sent back to the appliance */
	BATON_GUARD_IN_NOT_HERE_DROPPED = 5, /* I no such connection and already sent back, or no way back: dropped */
	BATON_GUARD_IN_MALFORMED = 6,        /* I dropped */
	BATON_GUARD_OUT_NOT_VIP = 7,         /* E not from a VIP, passed */
	BATON_GUARD_OUT_PASSED = 8,          /* E */
	BATON_GUARD_OUT_CLAMPED = 9,         /* E passed with a lower ack */
	BATON_GUARD_OUT_CLAMPED_SHUT = 10,   /* E passed with a lower ack and window 0: the clamp lasts */
	BATON_GUARD_OUT_HANDSHAKE = 11,      /* E SYN-ACK, passed while the lease lives */
	BATON_GUARD_OUT_FENCED_LEASE = 12,   /* E dropped: the lease has run out */
	BATON_GUARD_OUT_FENCED_INCARNATION = 13, /* E dropped: the connection is of an earlier incarnation */
	BATON_GUARD_OUT_UNKNOWN = 14,        /* E dropped: no entry */
	BATON_GUARD_OUT_FIN = 15,            /* E dropped: FIN not committed */
	BATON_GUARD_OUT_RST = 16,            /* E dropped: RST nobody asked for */
	BATON_GUARD_OUT_SILENT = 17,         /* E dropped: silenced, frozen or unready */
	BATON_GUARD_OUT_ICMP = 18,           /* E dropped: ICMP unreachable from a VIP */
	BATON_GUARD_OUT_MALFORMED = 19,      /* E dropped */
	BATON_GUARD_TABLE_FULL = 20,         /* a connection that had begun found no room in the table: it stays silent */
	BATON_GUARD_EVENT_LOST = 21,         /* the ring buffer for the agent was full: one report is missing */
	BATON_GUARD_IN_NO_ROOM = 22,         /* I begins a connection, and the table is nearly full: dropped, the client repeats it */
	BATON_GUARD_OUT_FRAGMENT = 23,       /* E dropped: part of a TCP segment or a datagram, nobody could say whose */
	BATON_GUARD_VERDICTS = 24
};

#endif
