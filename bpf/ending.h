/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Endings. A connection may end in three ways, and each needs a word from the agent: a FIN at the committed place, a reset
 * that it asked for, or any FIN of a connection without a record that it is closing. Everything else, a kill above all,
 * must be invisible to the client.
 */
#ifndef BATON_ENDING_H
#define BATON_ENDING_H

#include "guard_maps.h"

/* Whether a FIN that occupies `fin_seq` may leave. */
static __always_inline int fin_may_leave(const struct baton_guarded *g, __u32 fin_seq)
{
	if (g->flags & BATON_GUARD_FIN_COMMITTED)
		return fin_seq == g->fin_seq;
	return (g->flags & BATON_GUARD_UNPROTECTED) && (g->flags & BATON_GUARD_FIN_ASKED);
}

static __always_inline int fin_expected(const struct baton_guarded *g)
{
	return (g->flags & BATON_GUARD_FIN_COMMITTED) ||
	       ((g->flags & BATON_GUARD_UNPROTECTED) && (g->flags & BATON_GUARD_FIN_ASKED));
}

/*
 * The phase of a living entry once its socket has gone from state `from` to `to`. A close inside repair mode looks like an
 * abort and silences too, which is what it is for. `error` is sk_err: tcp_reset() sets it before the state changes.
 */
static __always_inline __u8 phase_after(const struct baton_guarded *g, int from, int to, int error)
{
	int closing = from == BATON_TCP_FIN_WAIT1 || from == BATON_TCP_FIN_WAIT2 || from == BATON_TCP_CLOSING ||
		      from == BATON_TCP_LAST_ACK;

	if (to == BATON_TCP_FIN_WAIT1 || to == BATON_TCP_LAST_ACK)
		return fin_expected(g) ? BATON_GUARD_LIVE : BATON_GUARD_SILENT;
	if (to != BATON_TCP_CLOSE)
		return BATON_GUARD_LIVE;
	if (closing) /* its beginning was permitted, or the entry would not be LIVE; TIME_WAIT looks like this as well */
		return BATON_GUARD_ENDED;
	if (error == BATON_ECONNRESET || error == BATON_EPIPE) /* the client's own reset */
		return BATON_GUARD_ENDED;
	return (g->flags & BATON_GUARD_RST_ASKED) ? BATON_GUARD_ENDED : BATON_GUARD_SILENT;
}

#endif
