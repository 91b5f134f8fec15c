import type { LimitsConfig, OverloadConfig } from "../../proto/config/index.js";
import type { LoadReport } from "../../proto/rpc/index.js";

/** What is known of a host's load at one moment. */
export interface HostLoad {
  /** Cores in use. */
  cpu: number;
  /** Of those, by what serves its connections. */
  serving: number;
  /** Cores that it may use; 0: not known, its CPU says nothing. */
  cores: number;
  /** Share of the time in which something waited for a core: as many cores more are wanted, at least. */
  waiting: number;
  /** PSI some avg10 of its CPU, percent. */
  pressure: number;
  loopDelayMs: number;
  /** Bytes a second. */
  egress: number;
  /** Bytes a second that its interface can send; 0: not known. */
  link: number;
  connections: number;
}

export interface Thresholds {
  /** Of the cores that the host may use. */
  cpu: number;
  /** Of those cores, used or waited for, beyond what the others want. */
  cpuLead: number;
  /** Beyond the others' pressure, percent. */
  pressure: number;
  loopDelayMs: number;
  /** Bytes a second; undefined: a share of the link, where that is known. */
  egress: number | undefined;
  connections: number;
}

const EGRESS_OF_LINK = 0.9;
const CONNECTIONS_OF_FLOWS = 0.8;

export function thresholdsOf({ thresholds }: OverloadConfig, { flows }: LimitsConfig): Thresholds {
  const { cpu, cpuLead, pressure, loopDelayMs, egressMegabytesPerSecond: egress, connections } = thresholds;
  return {
    ...{ cpu, cpuLead, pressure, loopDelayMs },
    egress: egress === undefined ? undefined : egress * 1e6,
    connections: connections ?? Math.floor(flows * CONNECTIONS_OF_FLOWS),
  };
}

export function hostLoad(report: LoadReport, connections: number): HostLoad {
  const { cpu, cores, pressure, loopDelayMs, egressBytesPerSecond: egress, linkBytesPerSecond: link } = report;
  const serving = report.workerCpu > 0 ? report.workerCpu : cpu; // an agent of an earlier version does not say
  return { cpu, serving, cores, waiting: report.cpuWaiting, pressure, loopDelayMs, egress, link, connections };
}

/**
 * How the other servers are: what all feel alike (hosts of one machine, a wave of requests) is not relieved by a move among
 * them. The lower median, so that one more that is overloaded does not hide the first.
 */
export interface Others {
  /** Of their cores, used or waited for. */
  wanted: number;
  pressure: number;
}

export function othersOf(loads: HostLoad[]): Others {
  return { wanted: lowerMedian(loads.map(wantedShare)), pressure: lowerMedian(loads.map(({ pressure }) => pressure)) };
}

export type MetricName = "cpu" | "cpuLead" | "pressure" | "loopDelay" | "egress" | "connections";

/** A load by its thresholds: the largest of metric / threshold, and which one that is. */
export interface LoadIndex {
  value: number;
  metric: MetricName;
}

export function indexOf(load: HostLoad, others: Others, thresholds: Thresholds): LoadIndex {
  const egress = egressThreshold(load, thresholds);
  const all: Array<[MetricName, number]> = [
    ["cpu", ofCores(load, load.cpu) / thresholds.cpu],
    ["cpuLead", (wantedShare(load) - others.wanted) / thresholds.cpuLead],
    ["pressure", (load.pressure - others.pressure) / thresholds.pressure],
    ["loopDelay", load.loopDelayMs / thresholds.loopDelayMs],
    ["egress", egress > 0 ? load.egress / egress : 0],
    ["connections", load.connections / thresholds.connections],
  ];
  return all.reduce<LoadIndex>((most, [metric, value]) => (value > most.value ? { metric, value } : most), {
    metric: "cpu",
    value: 0,
  });
}

/** "cpu 1.93 of 2 cores, above 1.60". @param scale of the threshold that is named: 1, or the low mark. */
export function metricPhrase(
  metric: MetricName,
  load: HostLoad,
  others: Others,
  thresholds: Thresholds,
  relation: string,
  scale = 1,
): string {
  const cores = Number(load.cores.toFixed(2));
  const megabytes = (value: number) => `${(value / 1e6).toFixed(1)} MB/s`;
  switch (metric) {
    case "cpu":
      return `cpu ${load.cpu.toFixed(2)} of ${cores} cores, ${relation} ${(thresholds.cpu * load.cores * scale).toFixed(2)}`;
    case "cpuLead": {
      const mark = ((others.wanted + thresholds.cpuLead * scale) * load.cores).toFixed(2);
      const wanted = `${(load.cpu + load.waiting).toFixed(2)} wanted where the others want ${(others.wanted * load.cores).toFixed(2)}`;
      return `cpu ${load.cpu.toFixed(2)} of ${cores} cores, ${wanted}, ${relation} ${mark}`;
    }
    case "pressure": {
      const mark = others.pressure + thresholds.pressure * scale;
      const common = others.pressure.toFixed(1);
      return `pressure ${load.pressure.toFixed(1)}% where the others have ${common}%, ${relation} ${mark.toFixed(1)}%`;
    }
    case "loopDelay":
      return `event loop ${load.loopDelayMs.toFixed(0)} ms late, ${relation} ${(thresholds.loopDelayMs * scale).toFixed(0)} ms`;
    case "egress":
      return `egress ${megabytes(load.egress)}, ${relation} ${megabytes(egressThreshold(load, thresholds) * scale)}`;
    case "connections":
      return `${Math.round(load.connections)} connections, ${relation} ${Math.round(thresholds.connections * scale)}`;
  }
}

function ofCores({ cores }: HostLoad, cpu: number): number {
  return cores > 0 ? cpu / cores : 0;
}

/** A busy loop wants one core, and gets less of it on a busy machine. */
function wantedShare(load: HostLoad): number {
  return ofCores(load, load.cpu + load.waiting);
}

function egressThreshold({ link }: HostLoad, { egress }: Thresholds): number {
  return egress ?? link * EGRESS_OF_LINK;
}

function lowerMedian(values: number[]): number {
  return values.sort((a, b) => a - b)[(values.length - 1) >> 1] ?? 0;
}
