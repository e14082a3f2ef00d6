//! What became of a flow's data over windows of time.

use std::time::Duration;

use crate::model::Instant;
use crate::traffic::meter::Latency;
use crate::traffic::tcp::record::{Bins, STALL_MIN, TcpReceived, TcpSent};

/// A flow's record: what its two ends wrote down, and until when.
#[derive(Clone, Copy, Debug)]
pub struct TcpMeter<'a> {
    sent: &'a TcpSent,
    received: &'a TcpReceived,
    end: Instant,
}

/// What became of a flow's data in a span of time. Counts are kept for each 10 ms and belong to
/// the window in which those begin.
#[derive(Clone, Debug)]
pub struct TcpWindow {
    /// Bytes that reached the application, in order.
    pub delivered_bytes: u64,
    /// Of these, bits a second over the window.
    pub goodput_bps: u64,
    /// The same for each whole second from the beginning of the window.
    pub per_second_bps: Vec<u64>,
    /// Segments with data on the wire, retransmissions among them.
    pub segments: u64,
    pub retransmitted: u64,
    /// Retransmission timers that ran out, of the handshake too.
    pub timeouts: u64,
    /// The longest time without anything for the application while the sender had data or was
    /// connecting, of those that had lasted 50 ms in the window; it may end after it, and one
    /// without an end lasts until the end of the run. Zero when none was 50 ms long.
    pub longest_stall: Duration,
    /// Connections that ended: reset by the peer, or given up by the sender.
    pub resets: u64,
    /// Round-trip times as the sender measured them, to one part in 128, with delayed ACKs; those
    /// of each 100 ms that begin in the window.
    pub rtt: Latency,
}

impl<'a> TcpMeter<'a> {
    /// The run ended at `end`.
    pub const fn new(sent: &'a TcpSent, received: &'a TcpReceived, end: Instant) -> Self {
        Self { sent, received, end }
    }

    /// What happened in `from..to`, at most until the end of the run.
    pub fn window(&self, from: Instant, to: Instant) -> TcpWindow {
        let delivered = &self.received.delivered;
        let delivered_bytes = delivered.sum(from, to);
        let span = to.min(self.end).since(from);
        let second = Duration::from_secs(1);
        let seconds = u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        let bits = |place| delivered.sum(from + second * place, from + second * (place + 1)) * 8;
        let within =
            |times: &[Instant]| times.iter().filter(|at| (from..to).contains(at)).count() as u64;
        TcpWindow {
            delivered_bytes,
            goodput_bps: rate(delivered_bytes, span),
            per_second_bps: (0..seconds).map(bits).collect(),
            segments: self.sent.segments.sum(from, to),
            retransmitted: self.sent.retransmitted.sum(from, to),
            timeouts: within(&self.sent.timeouts),
            longest_stall: self.longest_stall(from, to),
            resets: within(&self.sent.resets),
            rtt: self.sent.latency(from, to),
        }
    }

    /// Bytes that reached the application in each of `count` bins from `from` on.
    pub fn delivered_in_bins(&self, from: Instant, bin: Duration, count: u32) -> Vec<u64> {
        in_bins(&self.received.delivered, from, bin, count)
    }

    /// Segments that were sent again in each of `count` bins from `from` on.
    pub fn retransmitted_in_bins(&self, from: Instant, bin: Duration, count: u32) -> Vec<u64> {
        in_bins(&self.sent.retransmitted, from, bin, count)
    }

    fn longest_stall(&self, from: Instant, to: Instant) -> Duration {
        let open_gap = (self.received.last, self.end);
        let gaps = self.received.gaps.iter().copied().chain([open_gap]);
        let open = self.sent.busy_since.map(|since| (since, self.end));
        let mut longest = Duration::ZERO;
        for gap in gaps {
            let place = self.sent.busy.partition_point(|(_, until)| *until <= gap.0);
            for busy in self.sent.busy[place..].iter().copied().chain(open) {
                let since = busy.0.max(gap.0);
                if since >= gap.1 {
                    break;
                }
                let stall = busy.1.min(gap.1).since(since);
                // It is one when it has lasted so long: what a fault stops began just before.
                if stall >= STALL_MIN && (from..to).contains(&(since + STALL_MIN)) {
                    longest = longest.max(stall);
                }
            }
        }
        longest
    }
}

fn in_bins(bins: &Bins, from: Instant, bin: Duration, count: u32) -> Vec<u64> {
    (0..count).map(|place| bins.sum(from + bin * place, from + bin * (place + 1))).collect()
}

fn rate(bytes: u64, span: Duration) -> u64 {
    let bits = u128::from(bytes) * 8 * 1_000_000_000;
    u64::try_from(bits.checked_div(span.as_nanos()).unwrap_or(0)).unwrap_or(u64::MAX)
}
