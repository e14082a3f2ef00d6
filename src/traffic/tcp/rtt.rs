//! Round-trip time and retransmission timeout (RFC 6298, with Linux's bounds).

use std::time::Duration;

/// Before anything was measured (RFC 6298, 2.1).
const RTO_INITIAL: Duration = Duration::from_secs(1);
/// Linux's TCP_RTO_MIN. As there, it bounds the variance part, so that the timeout is never less
/// than this above the smoothed time.
const RTO_MIN: Duration = Duration::from_millis(200);
/// Linux's TCP_RTO_MAX.
const RTO_MAX: Duration = Duration::from_mins(2);

/// What is known of the round-trip time of a connection.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
    min: Option<Duration>,
    /// Timeouts since the last progress; each doubles the next one (RFC 6298, 5.5).
    backoff: u32,
}

impl RoundTrip {
    /// One measurement of a segment that was sent once (Karn), or by its timestamp.
    pub fn sample(&mut self, measured: Duration) {
        self.min = Some(self.min.map_or(measured, |min| min.min(measured)));
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(measured);
            self.variation = measured / 2;
            return;
        };
        self.variation = (self.variation * 3 + smoothed.abs_diff(measured)) / 4;
        self.smoothed = Some((smoothed * 7 + measured) / 8);
    }

    pub const fn back_off(&mut self) {
        self.backoff += 1;
    }

    pub const fn progress(&mut self) {
        self.backoff = 0;
    }

    /// Timeouts since the last progress.
    pub const fn timeouts(&self) -> u32 {
        self.backoff
    }

    /// The retransmission timeout with its back-off.
    pub fn timeout(&self) -> Duration {
        let base = self
            .smoothed
            .map_or(RTO_INITIAL, |smoothed| smoothed + (self.variation * 4).max(RTO_MIN));
        (base * (1 << self.backoff.min(16))).min(RTO_MAX)
    }

    /// Zero before the first measurement.
    pub fn smoothed(&self) -> Duration {
        self.smoothed.unwrap_or_default()
    }

    /// Zero before the first measurement.
    pub fn min(&self) -> Duration {
        self.min.unwrap_or_default()
    }
}
