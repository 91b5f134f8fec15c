import type {
  ConnectionDetail,
  ConnectionMessage,
  DrainProgressMessage,
  EventMessage,
  ServerMessage,
  StatusMessage,
} from "../../proto/rpc/index.js";

/** What the API shows. Calls may take time, but each must end: the client's deadline is ten seconds. */
export interface ControlModel {
  status(): StatusMessage | Promise<StatusMessage>;
  servers(): ServerMessage[] | Promise<ServerMessage[]>;
  /** Those that pass the filter; "" lets everything pass. */
  connections(filter: ConnectionFilter): Iterable<ConnectionMessage> | AsyncIterable<ConnectionMessage>;
  /** undefined: there is no such connection. */
  connection(id: string): Promise<ConnectionDetail | undefined>;
  readonly events: EventSource;
  /** Ends with the migration. Throws NOT_FOUND, UNSUPPORTED. */
  move(id: string, to: string, dryRun: boolean): Promise<EventMessage>;
  /** Throws NOT_FOUND, UNSUPPORTED, STORE_UNAVAILABLE. */
  drain(server: string, timeoutMs: number, dryRun: boolean): AsyncIterable<DrainProgressMessage>;
  /** Throws NOT_FOUND, UNSUPPORTED, STORE_UNAVAILABLE. */
  undrain(server: string): void | Promise<void>;
}

export interface ConnectionFilter {
  server: string;
  protocol: string;
}

/** EventLog, for instance. */
export interface EventSource {
  recent(limit: number): EventMessage[];
  follow(limit: number): AsyncIterableIterator<EventMessage>;
}
