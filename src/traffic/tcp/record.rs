//! What the two ends of a flow write down while it runs: enough for figures of any window, and
//! little for a flow that does little. Ends that are no model's are written down here as well.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::Instant;
use crate::traffic::meter::Latency;

/// Resolution of what is counted over time.
pub(super) const BIN: Duration = Duration::from_millis(10);
/// Resolution of round-trip times over time.
const ROUND_TRIP_BIN: Duration = Duration::from_millis(100);
/// Significant bits of a round-trip time in µs: it is known to one part in 128.
const ROUND_TRIP_BITS: u32 = 8;
/// What is shorter is not remembered as a stall.
pub(super) const STALL_MIN: Duration = Duration::from_millis(50);

/// The sending end's part.
#[derive(Clone, Debug)]
pub struct TcpSent {
    pub(super) segments: Bins,
    pub(super) retransmitted: Bins,
    pub(super) timeouts: Vec<Instant>,
    pub(super) resets: Vec<Instant>,
    /// Samples by bin and rounded µs.
    round_trips: BTreeMap<(u32, u32), u32>,
    /// Spans of [`STALL_MIN`] and more in which the sender had unacknowledged or unsent data, or
    /// was connecting.
    pub(super) busy: Vec<(Instant, Instant)>,
    pub(super) busy_since: Option<Instant>,
}

/// The receiving end's part.
#[derive(Clone, Debug)]
pub struct TcpReceived {
    /// Bytes that reached the application, in order.
    pub(super) delivered: Bins,
    /// Spans of [`STALL_MIN`] and more between two deliveries; the first begins with the flow.
    pub(super) gaps: Vec<(Instant, Instant)>,
    /// When something was delivered last, or the flow began.
    pub(super) last: Instant,
}

/// Counts by time, those that are not zero.
#[derive(Clone, Default, Debug)]
pub(super) struct Bins(Vec<(u32, u32)>);

impl TcpSent {
    pub const fn new() -> Self {
        Self {
            segments: Bins(Vec::new()),
            retransmitted: Bins(Vec::new()),
            timeouts: Vec::new(),
            resets: Vec::new(),
            round_trips: BTreeMap::new(),
            busy: Vec::new(),
            busy_since: None,
        }
    }

    /// Segments with data left, the first time or again.
    pub fn sent(&mut self, segments: u64, now: Instant) {
        self.segments.add(segments, now);
    }

    /// So many of those that left had left before.
    pub fn resent(&mut self, segments: u64, now: Instant) {
        self.retransmitted.add(segments, now);
    }

    /// A retransmission timer ran out.
    pub fn timed_out(&mut self, now: Instant) {
        self.timeouts.push(now);
    }

    /// A connection ended: reset by the peer, or given up.
    pub fn ended(&mut self, now: Instant) {
        self.resets.push(now);
    }

    pub fn round_trip(&mut self, measured: Duration, now: Instant) {
        let micros = u32::try_from(measured.as_micros()).unwrap_or(u32::MAX);
        let dropped = (u32::BITS - micros.leading_zeros()).saturating_sub(ROUND_TRIP_BITS);
        let bin = bin(now, ROUND_TRIP_BIN);
        *self.round_trips.entry((bin, micros >> dropped << dropped)).or_default() += 1;
    }

    /// Whether there is something to send or to wait for.
    pub fn set_busy(&mut self, busy: bool, now: Instant) {
        match (busy, self.busy_since) {
            (true, None) => self.busy_since = Some(now),
            (false, Some(since)) => {
                self.busy_since = None;
                if now.since(since) >= STALL_MIN {
                    self.busy.push((since, now));
                }
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    pub(super) fn latency(&self, from: Instant, to: Instant) -> Latency {
        let mut latency = Latency::new();
        let (first, past) = (bin(from, ROUND_TRIP_BIN), bin(to, ROUND_TRIP_BIN));
        for (&(_, micros), &count) in self.round_trips.range((first, 0)..(past, 0)) {
            latency.record_many(Duration::from_micros(micros.into()), count);
        }
        latency
    }
}

impl Default for TcpSent {
    fn default() -> Self {
        Self::new()
    }
}

impl TcpReceived {
    /// Of a flow that begins then.
    pub const fn new(start: Instant) -> Self {
        Self { delivered: Bins(Vec::new()), gaps: Vec::new(), last: start }
    }

    /// Bytes reached the application.
    pub fn deliver(&mut self, bytes: u64, now: Instant) {
        self.delivered.add(bytes, now);
        if now.since(self.last) >= STALL_MIN {
            self.gaps.push((self.last, now));
        }
        self.last = now;
    }
}

impl Bins {
    /// Counts come in order of time.
    pub(super) fn add(&mut self, count: u64, now: Instant) {
        let bin = bin(now, BIN);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match self.0.last_mut() {
            Some((last, sum)) if *last == bin => *sum = sum.saturating_add(count),
            Some(_) | None => self.0.push((bin, count)),
        }
    }

    /// The sum of the bins that begin in `from..to`.
    pub(super) fn sum(&self, from: Instant, to: Instant) -> u64 {
        let place = |at| self.0.partition_point(|(known, _)| *known < bin_from(at, BIN));
        let (first, past) = (place(from), place(to));
        self.0.get(first..past).into_iter().flatten().map(|(_, count)| u64::from(*count)).sum()
    }
}

fn bin(at: Instant, width: Duration) -> u32 {
    u32::try_from(u128::from(at.as_nanos()) / width.as_nanos()).unwrap_or(u32::MAX)
}

/// The first bin that begins at `at` or later.
fn bin_from(at: Instant, width: Duration) -> u32 {
    u32::try_from(u128::from(at.as_nanos()).div_ceil(width.as_nanos())).unwrap_or(u32::MAX)
}
