import { logger } from "../../../proto/log.js";
import type { LayerSection } from "../../../proto/record.js";
import { decodeRtspSection } from "../../../proto/sections.js";
import type { Films } from "./films.js";

const log = logger("rtsp");

/** The film that another server's session plays: its index takes longer to make than all the rest of a takeover. */
export function foreseeFilm(section: LayerSection, films: Pick<Films, "again">): void {
  void again(section, films).catch((error: Error) => {
    log.debug({ err: error }, "what another server plays could not be gone on with here");
  });
}

async function again(section: LayerSection, films: Pick<Films, "again">): Promise<void> {
  const { session } = decodeRtspSection(section);
  if (!session || session.validator === "") return; // whoever made it anew could not compare it
  (await films.again(session.objectId, session.validator)).close();
}
