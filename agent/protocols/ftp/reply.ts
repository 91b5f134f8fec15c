/**
 * A reply (RFC 959 section 4.2). The lines between the first and the last one are set in by a space: so none can be taken
 * for the last, and it is the form of FEAT's and MLST's (RFC 2389 section 3.2, RFC 3659 section 7.2).
 * @param lines at least one. What would end a line in them is written as "?".
 */
export function reply(code: number, ...lines: string[]): Buffer {
  const last = lines.length - 1;
  const start = (index: number) => (index === last ? `${code} ` : index === 0 ? `${code}-` : " ");
  return Buffer.from(lines.map((line, index) => `${start(index)}${line.replace(/[\0\r\n]/g, "?")}\r\n`).join(""));
}

/** The code of a reply. */
export function codeOf(bytes: Buffer): number {
  return Number(bytes.toString("latin1", 0, 3));
}

/** 257 (RFC 959 appendix II): the path in quotation marks, those in it doubled. */
export function pathReply(path: string, comment: string): Buffer {
  return reply(257, `"${path.replaceAll('"', '""')}" ${comment}`);
}

/** 211 to FEAT (RFC 2389 section 3.2). */
export function featuresReply(features: readonly string[]): Buffer {
  return reply(211, "Features:", ...features, "End");
}

/** 250 to MLST (RFC 3659 section 7.2). @param factsLine as `factsLine` has it, of the path that was asked for */
export function factsReply(path: string, factsLine: string): Buffer {
  return reply(250, `Listing ${path}`, factsLine, "End");
}

/** Replies that are always the same. */
export const replies = {
  // 1yz: more will come.
  opening: reply(150, "Opening data connection."),

  // 2yz: done.
  ok: reply(200, "OK."),
  superfluous: reply(202, "Not needed here."),
  help: reply(214, "Commands are those of RFC 959, 2389, 2428 and 3659; see FEAT."),
  system: reply(215, "UNIX Type: L8"),
  welcome: reply(220, "Service ready."),
  goodbye: reply(221, "Goodbye."),
  noTransfer: reply(225, "No transfer to abort."),
  done: reply(226, "Transfer complete."),
  aborted: reply(226, "Aborted."),
  loggedIn: reply(230, "Logged in."),
  fileDone: reply(250, "Done."),

  // 3yz: something else is needed.
  passwordNeeded: reply(331, "Password, please."),
  anonymousPassword: reply(331, "Any password will do."),
  moreNeeded: reply(350, "Waiting for the next command."),
  restarting: reply(350, "Position noted; waiting for the transfer."),

  // 4yz: not now.
  timeout: reply(421, "Nothing was heard for too long; closing."),
  tooMany: reply(421, "Too many connections; try again later."),
  noDataConnection: reply(425, "No data connection could be opened."),
  transferBroken: reply(426, "Data connection closed; transfer aborted."),
  failed: reply(451, "An error on this server; nothing was done."),
  noSpaceNow: reply(452, "No space is left."),

  // 5yz: never like this.
  unreadable: reply(500, "That is not a command."),
  tooLong: reply(500, "The line is too long."),
  badArgument: reply(501, "The argument cannot be understood."),
  notImplemented: reply(502, "Not implemented."),
  badSequence: reply(503, "Not in this order."),
  badParameter: reply(504, "Not implemented for that parameter."),
  notLoggedIn: reply(530, "Please log in."),
  loginFailed: reply(530, "Login failed."),
  notFound: reply(550, "There is no such file or directory."),
  denied: reply(550, "Permission denied."),
  exists: reply(550, "There is something of that name."),
  notEmpty: reply(550, "The directory is not empty."),
  isDirectory: reply(550, "It is a directory."),
  notDirectory: reply(550, "It is not a directory."),
  badName: reply(553, "The name is not allowed."),
} as const;
