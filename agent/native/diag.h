#pragma once

#include <cstddef>
#include <vector>

#include "address.h"

/**
 * Removes sockets that outlived their process (sock_diag(7), SOCK_DESTROY; needs CONFIG_INET_DIAG_DESTROY). Until they
 * are gone their connections cannot be rebuilt here: connect gives EADDRNOTAVAIL. The kernel sends an RST for each,
 * which the guard has to stop.
 *
 * Works on the caller's network namespace. A connection in the backlog of a listener looks like an orphan: call
 * destroyOrphans before listening.
 */

/** Every TCP socket with such a local address and port that is no listener and no descriptor of this process. @throws
 * Failure */
size_t destroyOrphans(const std::vector<Address> &local);

/** The one socket of this connection, unless it is ours. @returns whether there was one. @throws Failure */
bool destroyOrphan(const Endpoints &ends);
