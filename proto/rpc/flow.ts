import { addressBytes, addressText, type Flow, type Transport } from "../flow.js";
import type { FlowMessage } from "./messages.js";

export function flowMessage(flow: Flow): FlowMessage {
  return {
    clientAddress: addressBytes(flow.client.address),
    clientPort: flow.client.port,
    vipAddress: addressBytes(flow.vip.address),
    vipPort: flow.vip.port,
    transport: transportMessage(flow.transport),
  };
}

/** The inverse. Throws ADDRESS_INVALID. */
export function flowOfMessage(message: FlowMessage): Flow {
  return {
    client: { address: addressText(message.clientAddress), port: message.clientPort },
    vip: { address: addressText(message.vipAddress), port: message.vipPort },
    transport: transportOfMessage(message.transport),
  };
}

export function transportMessage(transport: Transport): "TCP" | "UDP" {
  return transport === "udp" ? "UDP" : "TCP";
}

/** The inverse; what is neither counts as TCP. */
export function transportOfMessage(transport: FlowMessage["transport"]): Transport {
  return transport === "UDP" ? "udp" : "tcp";
}
