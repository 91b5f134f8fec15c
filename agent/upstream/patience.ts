/** How long an origin may be away in the middle of what it sends, and the pause between tries to get the rest. */
export const AWAY_MS = 10_000;
export const RETRY_MS = 100;
