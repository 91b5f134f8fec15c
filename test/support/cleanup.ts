/** What a test may hold open. Closing twice does no harm. */
export interface Closeable {
  close(): void;
}

const open = new Set<Closeable>();

/** This ends with the running test at the latest, however the test ends: a handle left open keeps the test's process alive. */
export function closeWithTest(it: Closeable): void {
  open.add(it);
}

export function closeAll(): void {
  for (const it of open) it.close();
  open.clear();
}
