//! What writes to a connection: as much as it takes, or a rate.

use std::time::Duration;

use crate::model::{Bandwidth, Instant};

/// Bytes beyond what is acknowledged that a connection takes from its application.
const SEND_BUFFER: u64 = 4 << 20;
/// Segments of the smallest write.
const WRITE_SEGMENTS_MIN: u64 = 2;

/// How often an application with a rate writes: a tick of 250 Hz. Shorter writes would give each
/// super-frame fewer segments; longer ones (iperf3 writes 128 KiB at a time) larger bursts.
const WRITE_EVERY: Duration = Duration::from_millis(4);

/// A writer. With a rate, it writes what has come due in whole segments about every
/// [`WRITE_EVERY`], or two segments when they take longer. While the connection takes no more it
/// waits, and does not catch up afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Application {
    rate: Option<Bandwidth>,
    start: Instant,
    stop: Instant,
    quantum: u64,
    /// When the next quantum has come due.
    next: Instant,
    /// Bytes written by a rate, of all connections.
    written: u64,
    /// Bytes that came due while the connection took no more.
    missed: u64,
    /// Bytes that earlier connections delivered.
    delivered: u64,
}

impl Application {
    /// `segment` is the payload of a full segment.
    pub fn new(rate: Option<Bandwidth>, start: Instant, stop: Instant, segment: u64) -> Self {
        let bytes = rate.map_or(0, Bandwidth::bps) / 8_000 * WRITE_EVERY.as_millis() as u64;
        let quantum = segment * bytes.div_ceil(segment).max(WRITE_SEGMENTS_MIN);
        let mut application = Self {
            rate,
            start,
            stop,
            quantum,
            next: Instant::NEVER,
            written: 0,
            missed: 0,
            delivered: 0,
        };
        application.next = application.due();
        application
    }

    pub fn stop(&mut self, at: Instant) {
        self.stop = self.stop.min(at);
    }

    pub const fn start(&self) -> Instant {
        self.start
    }

    pub fn is_stopped(&self, now: Instant) -> bool {
        now >= self.stop
    }

    /// Writes what is due on a connection of which `acknowledged` bytes are acknowledged.
    pub fn write(&mut self, acknowledged: u64, now: Instant) {
        while self.next_write() <= now {
            let kept = self.written + self.quantum - self.delivered;
            if kept > acknowledged + SEND_BUFFER {
                self.missed += self.quantum;
            } else {
                self.written += self.quantum;
            }
            self.next = self.due();
        }
    }

    /// Where in the stream of a connection that has sent up to `sent`, acknowledged up to
    /// `acknowledged`, what is written ends. Nothing is sent that has not left by the stop.
    pub fn limit(&self, acknowledged: u64, sent: u64, now: Instant) -> u64 {
        if self.is_stopped(now) {
            return sent;
        }
        let buffer = acknowledged + SEND_BUFFER;
        self.rate.map_or(buffer, |_| buffer.min(self.written - self.delivered)).max(sent)
    }

    /// When a rate writes next; never after the stop.
    pub fn next_write(&self) -> Instant {
        if self.next < self.stop { self.next } else { Instant::NEVER }
    }

    /// A connection ended with this much of its stream acknowledged; the next one begins with the
    /// rest.
    pub const fn reconnect(&mut self, acknowledged: u64) {
        if self.rate.is_some() {
            self.delivered += acknowledged;
        }
    }

    fn due(&self) -> Instant {
        let Some(rate) = self.rate else { return Instant::NEVER };
        let bits = u128::from(self.written + self.missed + self.quantum) * 8;
        let nanos = (bits * 1_000_000_000).div_ceil(u128::from(rate.bps().max(1)));
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
