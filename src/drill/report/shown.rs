//! One run in detail: every step over time, and the routers' tables at its moments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::drill::Drill;
use crate::drill::probe::Bin;
use crate::drill::report::{
    DropSeries, RateSeries, Shown, ShownStep, Timeline, is_of_circuit, tables,
};
use crate::drill::runs::Job;
use crate::drill::sample::Sample;
use crate::drill::steps::{Record, SAMPLE_EVERY, StepRecord};
use crate::model::Instant;
use crate::router::LimiterRow;
use crate::traffic::Direction;

/// Most bins of a step: as many as a drawing has room for.
const BINS_MAX: u32 = 240;
/// Widths of bins, in samples; a step takes the first that is wide enough.
const WIDTHS: [u32; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/// Everything about one run that is drawn.
pub fn shown(record: &Record, drill: &Drill, job: Job) -> Shown {
    Shown {
        convergence: job.convergence.into(),
        run: job.run,
        steps: record.steps.iter().map(|step| shown_step(record, drill, step)).collect(),
        tables: tables::all(record),
    }
}

/// The bins of a step, the last one whole and perhaps beyond its end.
#[derive(Clone, Copy)]
struct Bins {
    width: Duration,
    count: usize,
}

impl Bins {
    fn of(step: &StepRecord) -> Self {
        let lasted = step.to.since(step.from);
        let fits = |&&times: &&u32| SAMPLE_EVERY * times * BINS_MAX >= lasted;
        let times = WIDTHS.iter().find(fits).unwrap_or(&WIDTHS[WIDTHS.len() - 1]);
        let width = SAMPLE_EVERY * *times;
        // One at least: a step may be over as it begins.
        let count = lasted.as_nanos().div_ceil(width.as_nanos()).max(1) as usize;
        Self { width, count }
    }

    /// Ends of the bins, the first bin's beginning in front.
    fn edges(self, from: Instant) -> impl Iterator<Item = Instant> {
        (0..=self.count).map(move |bin| from + self.width * bin as u32)
    }

    /// A second's worth of what one bin holds.
    fn per_second(self, count: u64) -> u64 {
        let per = u128::from(count) * 1_000_000_000 / self.width.as_nanos().max(1);
        u64::try_from(per).unwrap_or(u64::MAX)
    }
}

fn shown_step(record: &Record, drill: &Drill, step: &StepRecord) -> ShownStep {
    let bins = Bins::of(step);
    let probes = record.flows.iter().map(|info| (info.traffic, info.direction));
    let probes: BTreeSet<_> = probes.collect();
    let probes = probes.into_iter().map(|group| probe_timeline(record, drill, step, bins, group));
    let tcp =
        record.connections.timelines(&record.lab, &record.paths, step.from, bins.width, bins.count);
    ShownStep {
        step: step.name.clone(),
        bin_ms: bins.width.into(),
        timelines: probes.chain(tcp).collect(),
        drops: drops(step, bins),
        limiters: limiters(step, bins),
    }
}

fn probe_timeline(
    record: &Record,
    drill: &Drill,
    step: &StepRecord,
    bins: Bins,
    (traffic, direction): (usize, Direction),
) -> Timeline {
    let flows = record.flows.iter().zip(&step.windows);
    let flows: Vec<_> =
        flows.filter(|(info, _)| (info.traffic, info.direction) == (traffic, direction)).collect();
    let mut sums = vec![Bin::default(); bins.count];
    let mut bits = 0;
    for (info, window) in &flows {
        bits = u64::from(info.flow.size) * 8;
        let bins = info.bins(&record.lab, window.sent_in, bins.width, bins.count);
        for (sum, bin) in sums.iter_mut().zip(bins) {
            sum.sent += bin.sent;
            sum.received += bin.received;
        }
    }
    let ids = flows.iter().map(|(info, _)| info.flow.id as usize);
    Timeline {
        name: drill.traffic[traffic].name.clone(),
        kind: "probe".to_owned(),
        direction: direction.name().to_owned(),
        delivered_bps: sums.iter().map(|bin| bins.per_second(bin.received * bits)).collect(),
        lost: sums.iter().map(|bin| bin.sent - bin.received).collect(),
        paths: record.paths.over_time(ids, bins.edges(step.from).skip(1)),
    }
}

/// By place and reason; a sample belongs to the bin it ends.
fn drops(step: &StepRecord, bins: Bins) -> Vec<DropSeries> {
    let mut series: BTreeMap<(String, &'static str), Vec<u64>> = BTreeMap::new();
    for pair in step.samples.windows(2) {
        let bin = bin_of(step, bins, &pair[1]);
        for ((node, reason), packets) in &pair[1].drops {
            let before = pair[0].drops.get(&(node.clone(), *reason)).copied().unwrap_or(0);
            if *packets > before {
                let series = series.entry((node.clone(), reason.name())).or_default();
                series.resize(bins.count, 0);
                series[bin] += packets - before;
            }
        }
    }
    let row = |((node, reason), packets): ((String, &str), Vec<u64>)| DropSeries {
        node,
        reason: reason.to_owned(),
        packets,
    };
    series.into_iter().map(row).collect()
}

/// Limiters of circuits that passed something in the step.
fn limiters(step: &StepRecord, bins: Bins) -> Vec<RateSeries> {
    let Some(last) = step.samples.last() else { return Vec::new() };
    let names = last.limiters.values().flatten().map(|row| (row.name.clone(), row.rate));
    let names = names.filter(|(name, _)| is_of_circuit(name));
    let mut rows: Vec<_> = names
        .map(|(name, rate)| {
            let (passed, dropped) = over_time(step, bins, &name);
            let passed_bps = passed.iter().map(|&bytes| bins.per_second(bytes * 8)).collect();
            RateSeries { name, rate_bps: rate.bps(), passed_bps, dropped }
        })
        .filter(|row| row.passed_bps.iter().any(|&bps| bps > 0))
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// Bytes passed and packets dropped by a limiter in each bin.
fn over_time(step: &StepRecord, bins: Bins, name: &str) -> (Vec<u64>, Vec<u64>) {
    let mut sums = (vec![0; bins.count], vec![0; bins.count]);
    for pair in step.samples.windows(2) {
        let bin = bin_of(step, bins, &pair[1]);
        let rows = [0, 1].map(|end| pair[end].limiter(name));
        let came = |of: fn(&LimiterRow) -> u64| {
            let [before, after] = rows.map(|row| row.map_or(0, of));
            // A router that was started anew counts from zero.
            after.checked_sub(before).unwrap_or(after)
        };
        sums.0[bin] += came(|row| row.conforming_bytes);
        sums.1[bin] += came(|row| row.dropped_packets);
    }
    sums
}

fn bin_of(step: &StepRecord, bins: Bins, sample: &Sample) -> usize {
    let into = sample.at.since(step.from).as_nanos().saturating_sub(1);
    ((into / bins.width.as_nanos()) as usize).min(bins.count.saturating_sub(1))
}
