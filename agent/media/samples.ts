/** What a table is made of, one element a sample, in decode order. Can be sent between threads. */
export interface SampleColumns {
  /** Position in the file, bytes. */
  offsets: Float64Array;
  /** Bytes. */
  sizes: Uint32Array;
  /** Ticks of the track's timescale on the movie's time line: what the edit list shifts is shifted. May be negative at the beginning. */
  decodeTimes: Float64Array;
  presentationTimes: Float64Array;
  /** 1: decoding can begin here. */
  syncs: Uint8Array;
  /** Of the last sample, ticks. */
  lastDuration: number;
}

/** The samples of one track, in decode order from 0. Nothing changes them. */
export class SampleTable {
  readonly count: number;

  constructor(readonly columns: SampleColumns) {
    this.count = columns.sizes.length;
  }

  /** Of memory. */
  get bytes(): number {
    const { offsets, sizes, decodeTimes, presentationTimes, syncs } = this.columns;
    return [offsets, sizes, decodeTimes, presentationTimes, syncs].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  offset(sample: number): number {
    return this.columns.offsets[sample] as number;
  }

  size(sample: number): number {
    return this.columns.sizes[sample] as number;
  }

  /** Ticks. Never falls from one sample to the next. Also of the one behind the last: where the track ends. */
  decodeTime(sample: number): number {
    const { decodeTimes, lastDuration } = this.columns;
    if (sample < this.count) return decodeTimes[sample] as number;
    return this.count === 0 ? 0 : (decodeTimes[this.count - 1] as number) + lastDuration;
  }

  presentationTime(sample: number): number {
    return this.columns.presentationTimes[sample] as number;
  }

  isSync(sample: number): boolean {
    return this.columns.syncs[sample] === 1;
  }
}
