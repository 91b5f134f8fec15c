#pragma once

#include <cstdint>

#include "address.h"
#include "descriptor.h"

/**
 * A TCP socket bound to a VIP, with everything that is set before its handshake; accepted sockets inherit it. Plain
 * TCP: MPTCP sockets refuse TCP_REPAIR. `receiveBuffer` bounds the window that is ever advertised, in bytes; 0: the
 * system's. @throws Failure of `step`
 */
Descriptor openAtVip(const Address &address, uint32_t receiveBuffer, const char *step);
