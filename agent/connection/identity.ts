import type { Flow } from "../../proto/flow.js";
import type { TcpState } from "../../proto/record.js";

/** What never changes about a connection, whoever owns it. */
export interface Identity {
  id: string;
  /** Id of its bundle's control connection, which may be this one; "" where its protocol has no bundles. */
  bundleId: string;
  flow: Flow;
  service: string;
  protocol: string;
  tcp: Pick<
    TcpState,
    "clientIsn" | "serverIsn" | "mss" | "sendScale" | "receiveScale" | "windowScaling" | "sack" | "timestamps"
  >;
  bornAtUs: number;
  /** false: it has no records; nothing waits for a commit, and nobody can take the connection over. */
  recorded: boolean;
}
