/** Where the stream of one track begins. */
export interface RtpInfo {
  /** The track's control URL. */
  url: string;
  /** Sequence number of the range's first packet. */
  sequence: number;
  /** RTP timestamp of the range's start. */
  timestamp: number;
}

/** RTP-Info (RFC 2326 section 12.33). */
export function formatRtpInfo(tracks: readonly RtpInfo[]): string {
  return tracks.map(({ url, sequence, timestamp }) => `url=${url};seq=${sequence};rtptime=${timestamp}`).join(",");
}
