import type { ResponsePiece } from "../application.js";
import type { Status } from "./response.js";

/** What a request is answered with. */
export interface Answer {
  status: Status;
  headers?: Array<readonly [string, string]>;
  body?: Buffer;
  /** Of this session: its id goes along. */
  session?: string;
  /** What goes right behind it. @param offset of our stream, behind the answer */
  behind?: (offset: number) => ResponsePiece[];
  /** Nothing more is answered. */
  last?: boolean;
  /** Once it is promised. */
  after?: () => void;
}
