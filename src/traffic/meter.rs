//! What became of a flow's probes: loss, order, latency and outage over windows of time.

use std::ops::Range;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::model::Instant;
use crate::traffic::flow::Flow;

/// Duplicates whose number is remembered; more are not counted.
const DUPLICATES_MAX: usize = 1 << 16;
/// Significant decimal digits of latencies.
const DIGITS: u8 = 3;
/// The longest latency that is told from longer ones, µs: an hour.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// When each probe of a flow first arrived, by number.
#[derive(Clone, Default, Debug)]
pub struct Arrivals {
    /// [`Instant::NEVER`] for one that has not.
    at: Vec<Instant>,
    /// Numbers of probes that arrived again, once for each time.
    duplicates: Vec<u32>,
}

/// A flow's record: what was sent, what arrived, and until when it was watched.
#[derive(Clone, Copy, Debug)]
pub struct Meter<'a> {
    flow: &'a Flow,
    sent: u32,
    arrivals: &'a Arrivals,
    end: Instant,
}

/// What became of the probes sent in a span of time.
#[derive(Clone, Debug)]
pub struct Window {
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    /// Arrived after one that was sent later (RFC 4737).
    pub reordered: u64,
    /// Copies beyond the first.
    pub duplicated: u64,
    pub latency: Latency,
    /// The longest hole; `None` when nothing was lost.
    pub outage: Option<Outage>,
}

/// A run of lost probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outage {
    /// When the first lost probe was sent.
    pub since: Instant,
    /// Until the first probe after the loss that was delivered was sent.
    pub duration: Duration,
    /// Nothing was delivered after the loss; `duration` is until the end of the run.
    pub open: bool,
}

/// Latencies, from the instant a probe was due to its arrival, in µs.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u32>,
    min_us: u64,
    max_us: u64,
}

impl Arrivals {
    /// Notes that the probe `sequence` arrived. The caller has bounded the number.
    pub fn record(&mut self, sequence: u32, now: Instant) {
        let index = sequence as usize;
        if index >= self.at.len() {
            self.at.resize(index + 1, Instant::NEVER);
        }
        if self.at[index] == Instant::NEVER {
            self.at[index] = now;
        } else if self.duplicates.len() < DUPLICATES_MAX {
            self.duplicates.push(sequence);
        }
    }

    /// When the probe arrived.
    pub fn at(&self, sequence: u32) -> Option<Instant> {
        self.at.get(sequence as usize).copied().filter(|at| *at != Instant::NEVER)
    }
}

impl<'a> Meter<'a> {
    /// The probes `0..sent` left the source; the run ended at `end`, late enough for the last one
    /// to arrive.
    pub fn new(flow: &'a Flow, sent: u32, arrivals: &'a Arrivals, end: Instant) -> Self {
        Self { flow, sent, arrivals, end }
    }

    /// What became of the probes that were due in `from..to`.
    pub fn window(&self, from: Instant, to: Instant) -> Window {
        let range =
            self.flow.due_before(from).min(self.sent)..self.flow.due_before(to).min(self.sent);
        let mut latency = Latency::new();
        for sequence in range.clone() {
            if let Some(at) = self.arrivals.at(sequence) {
                latency.record(at.since(self.flow.sent_at(sequence)));
            }
        }
        let sent = range.len() as u64;
        let received = latency.count();
        Window {
            sent,
            received,
            lost: sent - received,
            reordered: self.reordered(&range),
            duplicated: self.duplicated(&range),
            latency,
            outage: self.outage(range),
        }
    }

    /// Counts from the last probe back, with the earliest arrival of those sent later.
    fn reordered(&self, range: &Range<u32>) -> u64 {
        let mut earliest_later = Instant::NEVER;
        let mut reordered = 0;
        for sequence in (range.start..self.sent).rev() {
            let Some(at) = self.arrivals.at(sequence) else { continue };
            reordered += u64::from(at > earliest_later && range.contains(&sequence));
            earliest_later = earliest_later.min(at);
        }
        reordered
    }

    fn duplicated(&self, range: &Range<u32>) -> u64 {
        self.arrivals.duplicates.iter().filter(|sequence| range.contains(sequence)).count() as u64
    }

    /// The longest hole that begins in `range`, the first of equals. It may end after it.
    fn outage(&self, range: Range<u32>) -> Option<Outage> {
        let mut longest: Option<Outage> = None;
        let mut next = range.start;
        while let Some(first) = (next..range.end).find(|&lost| self.arrivals.at(lost).is_none()) {
            let delivered = (first..self.sent).find(|&later| self.arrivals.at(later).is_some());
            let hole = self.hole(first, delivered);
            if longest.is_none_or(|longest| hole.duration > longest.duration) {
                longest = Some(hole);
            }
            next = delivered.unwrap_or(self.sent);
        }
        longest
    }

    fn hole(&self, first_lost: u32, delivered: Option<u32>) -> Outage {
        let since = self.flow.sent_at(first_lost);
        let until = delivered.map_or(self.end, |sequence| self.flow.sent_at(sequence));
        Outage { since, duration: until.since(since), open: delivered.is_none() }
    }
}

impl Latency {
    pub fn new() -> Self {
        let histogram = Histogram::new(DIGITS).expect("three digits are a valid precision");
        Self { histogram, min_us: u64::MAX, max_us: 0 }
    }

    pub fn record(&mut self, latency: Duration) {
        self.record_many(latency, 1);
    }

    /// As many of the same, at least one.
    pub fn record_many(&mut self, latency: Duration, count: u32) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min(LATENCY_MAX_US);
        self.histogram.record_n(us, count).expect("the histogram grows to the value");
        self.min_us = self.min_us.min(us);
        self.max_us = self.max_us.max(us);
    }

    /// Adds the latencies of another flow or window.
    pub fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("the histogram grows to the other's values");
        self.min_us = self.min_us.min(other.min_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// Latencies recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Exact; `None` when nothing was recorded.
    pub fn min_us(&self) -> Option<u64> {
        (self.count() > 0).then_some(self.min_us)
    }

    /// Exact; `None` when nothing was recorded.
    pub fn max_us(&self) -> Option<u64> {
        (self.count() > 0).then_some(self.max_us)
    }

    /// To three digits; `None` when nothing was recorded.
    pub fn p50_us(&self) -> Option<u64> {
        self.quantile_us(0.5)
    }

    /// To three digits; `None` when nothing was recorded.
    pub fn p99_us(&self) -> Option<u64> {
        self.quantile_us(0.99)
    }

    fn quantile_us(&self, quantile: f64) -> Option<u64> {
        let value = self.histogram.value_at_quantile(quantile);
        (self.count() > 0).then(|| value.clamp(self.min_us, self.max_us))
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}
