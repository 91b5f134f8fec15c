import { addressBytes, addressText, type Flow } from "../flow.js";
import type { FlowMessage } from "./messages.js";

export function flowMessage(flow: Flow): FlowMessage {
  return {
    clientAddress: addressBytes(flow.client.address),
    clientPort: flow.client.port,
    vipAddress: addressBytes(flow.vip.address),
    vipPort: flow.vip.port,
    transport: flow.transport === "udp" ? "UDP" : "TCP",
  };
}

/** The inverse. Throws ADDRESS_INVALID. */
export function flowOfMessage(message: FlowMessage): Flow {
  return {
    client: { address: addressText(message.clientAddress), port: message.clientPort },
    vip: { address: addressText(message.vipAddress), port: message.vipPort },
    transport: message.transport === "UDP" ? "udp" : "tcp",
  };
}
