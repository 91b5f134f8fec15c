// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "map.h"

namespace baton {

/**
 * Sends a whole IPv4 or IPv6 packet to where the kernel's routes lead: for answers to hosts whose link-layer address is
 * not known here. One socket a call: for what is rare. @throws Error EINVAL, ENETUNREACH, EPERM, ...
 */
void send_ip_packet(Span packet);

} // namespace baton
