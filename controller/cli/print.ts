/** Writes lines to stdout. A reader that went away (`baton events | head`) ends the program quietly, as for any filter. */
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? 0 : 1);
});

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
