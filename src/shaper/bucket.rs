//! A token bucket in one atomic word, so that several workers share a circuit without a lock.
//!
//! The word is the theoretical arrival time (GCRA, ITU-T I.371): the moment at which the bucket
//! will be full again. It lies ahead of the present by what has been spent and not yet refilled,
//! and a packet conforms if its own cost still fits below the depth:
//!
//! ```text
//!        now           arrival          now + depth
//! ────────┼───────────────┼──── cost ────►┼──────────► time, picoseconds
//!         └──── spent ────┘
//! ```

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::{Bandwidth, Instant};

/// IP bytes of a frame of full size.
pub const FULL_FRAME_BYTES: u64 = 1500;

/// A bucket is never shallower than this many full frames (section 20).
pub const MIN_DEPTH_FRAMES: u64 = 10;

/// How deep a bucket is that lets a burst of this length pass at its rate (section 20).
pub fn depth_bytes(rate: Bandwidth, burst: Duration) -> u64 {
    let bits = u128::from(rate.bps()).saturating_mul(burst.as_nanos()) / NANOS_PER_SECOND;
    u64::try_from(bits / 8).unwrap_or(u64::MAX).max(MIN_DEPTH_FRAMES * FULL_FRAME_BYTES)
}

/// Whether a packet may pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Conform {
    Yes,
    /// Surplus: to be dropped, or to wait.
    No,
}

/// What a bucket has answered since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    pub conforming_packets: u64,
    pub conforming_bytes: u64,
    pub surplus_packets: u64,
    pub surplus_bytes: u64,
}

/// A limiter of one circuit, link and direction. One cache line. It begins full.
#[repr(align(64))]
pub struct Bucket {
    /// When the bucket is full again, in picoseconds modulo 2^64 (213 days).
    arrival_ps: AtomicU64,
    /// What a byte costs: picoseconds × 2^[`FRACTION_BITS`].
    byte_cost: AtomicU64,
    /// How long an empty bucket takes to fill.
    depth_ps: AtomicU64,
    conforming_packets: AtomicU64,
    conforming_bytes: AtomicU64,
    surplus_packets: AtomicU64,
    surplus_bytes: AtomicU64,
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    pub fn new(rate: Bandwidth, depth_bytes: u64) -> Self {
        let (byte_cost, depth_ps) = parameters(rate, depth_bytes);
        Self {
            arrival_ps: AtomicU64::new(0),
            byte_cost: AtomicU64::new(byte_cost),
            depth_ps: AtomicU64::new(depth_ps),
            conforming_packets: AtomicU64::new(0),
            conforming_bytes: AtomicU64::new(0),
            surplus_packets: AtomicU64::new(0),
            surplus_bytes: AtomicU64::new(0),
        }
    }

    /// Changes rate and depth under traffic (F-23): the tokens that are left and what is
    /// counted stay. At rate zero nothing conforms.
    pub fn set_parameters(&self, rate: Bandwidth, depth_bytes: u64, now: Instant) {
        let (byte_cost, depth_ps) = parameters(rate, depth_bytes);
        let now_ps = now.as_nanos().wrapping_mul(PICOS_PER_NANO);
        let old_cost = u128::from(self.byte_cost.load(Ordering::Relaxed)).max(1);
        let old_depth_ps = self.depth_ps.load(Ordering::Relaxed);
        // The word holds time; the same tokens are less time at a higher rate.
        let rescale = |arrival_ps| {
            let left = old_depth_ps.saturating_sub(spent_ps(arrival_ps, now_ps));
            let left = u128::from(left) * u128::from(byte_cost) / old_cost;
            let left = u64::try_from(left).unwrap_or(u64::MAX);
            Some(now_ps.wrapping_add(depth_ps.saturating_sub(left)))
        };
        let _ = self.arrival_ps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rescale);
        // A packet that meets one of them changed and the other not is judged by a bucket that is
        // too deep or too shallow, once: nothing is worth an ordering here.
        self.byte_cost.store(byte_cost, Ordering::Relaxed);
        self.depth_ps.store(depth_ps, Ordering::Relaxed);
    }

    /// Charges a packet, if it conforms; a packet that does not costs nothing. `now` may lie
    /// somewhat before that of an earlier charge, as another worker's clock reading does.
    pub fn charge(&self, now: Instant, bytes: u32) -> Conform {
        if self.charge_many(now, bytes, 1) == 1 { Conform::Yes } else { Conform::No }
    }

    /// Charges as many of `count` packets of `bytes` each as conform, and returns how many: what
    /// one [`charge`](Self::charge) for each of them at this moment would.
    pub fn charge_many(&self, now: Instant, bytes: u32, count: u64) -> u64 {
        let now_ps = now.as_nanos().wrapping_mul(PICOS_PER_NANO);
        let cost_ps = self.cost_ps(bytes);
        let depth_ps = self.depth_ps.load(Ordering::Relaxed);
        let mut conforming = 0;
        // The word guards no other memory, so relaxed suffices; the exchange makes each charge
        // see the one before it.
        let spend = |arrival_ps| {
            let spent_ps = spent_ps(arrival_ps, now_ps);
            conforming = fitting(depth_ps.saturating_sub(spent_ps), cost_ps, count);
            (conforming > 0).then(|| now_ps.wrapping_add(spent_ps + cost_ps * conforming))
        };
        let _ = self.arrival_ps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
        if conforming > 0 {
            let bytes = u64::from(bytes) * conforming;
            self.conforming_packets.fetch_add(conforming, Ordering::Relaxed);
            self.conforming_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        if conforming < count {
            let bytes = u64::from(bytes) * (count - conforming);
            self.surplus_packets.fetch_add(count - conforming, Ordering::Relaxed);
            self.surplus_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        conforming
    }

    /// Each count is exact; together they are of one moment only when no charge is under way.
    pub fn counters(&self) -> Counters {
        Counters {
            conforming_packets: self.conforming_packets.load(Ordering::Relaxed),
            conforming_bytes: self.conforming_bytes.load(Ordering::Relaxed),
            surplus_packets: self.surplus_packets.load(Ordering::Relaxed),
            surplus_bytes: self.surplus_bytes.load(Ordering::Relaxed),
        }
    }

    /// To the nearest picosecond, so at most 0.01 % off for 64 bytes at 100 Gbps.
    fn cost_ps(&self, bytes: u32) -> u64 {
        let cost = u128::from(self.byte_cost.load(Ordering::Relaxed)) * u128::from(bytes);
        u64::try_from((cost + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("depth_ps", &self.depth_ps)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;
const PICOS_PER_NANO: u64 = 1_000;

/// Bits of a byte's cost below the picosecond. At 100 Gbps a byte costs 80 ps, and the fraction is
/// good for one part in 80 million; at 1 bit a second the cost still fits.
const FRACTION_BITS: u32 = 20;

/// Longest time a bucket may take to fill, picoseconds: one hour.
const MAX_DEPTH_PS: u64 = 3_600_000_000_000_000;

/// Cost of a byte and depth, as the bucket keeps them.
fn parameters(rate: Bandwidth, depth_bytes: u64) -> (u64, u64) {
    const PICOS_PER_SECOND: u128 = 1_000 * NANOS_PER_SECOND;
    let Some(bps) = std::num::NonZeroU128::new(u128::from(rate.bps())) else {
        return (u64::MAX, 0);
    };
    let byte_cost = ((8 * PICOS_PER_SECOND) << FRACTION_BITS) / bps;
    let depth_ps = (u128::from(depth_bytes) * byte_cost) >> FRACTION_BITS;
    // Half a picosecond for each of the packets of 64 bytes that fit the depth, and two for the
    // rounding here: packets that fill it exactly then all pass.
    let rounding_ps = depth_bytes / 128 + 2;
    let depth_ps = u64::try_from(depth_ps).unwrap_or(u64::MAX).saturating_add(rounding_ps);
    (u64::try_from(byte_cost).unwrap_or(u64::MAX), depth_ps.min(MAX_DEPTH_PS))
}

/// How many of `count` packets that cost so much fit into what is left.
fn fitting(left_ps: u64, cost_ps: u64, count: u64) -> u64 {
    match count {
        1 => u64::from(cost_ps <= left_ps),
        _ => left_ps.checked_div(cost_ps).map_or(count, |fit| fit.min(count)),
    }
}

/// How far a bucket is from full. An arrival further ahead than any depth reaches is one of long
/// ago, which the wrapping clock shows as future: the bucket is full.
fn spent_ps(arrival_ps: u64, now_ps: u64) -> u64 {
    match arrival_ps.wrapping_sub(now_ps) {
        ahead if ahead <= FURTHEST_PS => ahead,
        _ => 0,
    }
}

/// The greatest depth, and as much again for a clock that another worker read earlier.
const FURTHEST_PS: u64 = 2 * MAX_DEPTH_PS;

#[cfg(test)]
mod tests;
