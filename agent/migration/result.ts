import type { LiveConnection } from "../connection/connection.js";

/** How a migration ended, as the server says that has the connection now. */
export interface MigrationResult {
  migration: string;
  connectionId: string;
  connection: LiveConnection | undefined;
  result: "ok" | "resumedOnOld";
  reason: string;
  /** Since this server heard of it. */
  phasesUs: Record<string, number>;
}
