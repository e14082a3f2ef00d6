//! Randomness that comes from a seed, so that a run can be repeated to the byte.

use std::time::Duration;

use rand_xoshiro::Xoshiro256StarStar;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A stream of random numbers. Streams of different names are independent of one another, so that
/// one more draw in one place does not change what another place draws.
#[derive(Clone, Debug)]
pub struct Random(Xoshiro256StarStar);

impl Random {
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a keeps equal names equal on every host.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(Xoshiro256StarStar::seed_from_u64(seed ^ hash.rotate_left(17)))
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn next_u32(&mut self) -> u32 {
        (self.0.next_u64() >> 32) as u32
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True in `parts` of a million draws.
    pub fn one_in_million(&mut self, parts: u32) -> bool {
        self.below(1_000_000) < u64::from(parts)
    }

    /// `span` shortened at random to between `low` and `high` percent of itself.
    pub fn jittered(&mut self, span: Duration, low: u64, high: u64) -> Duration {
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let from = ns / 100 * low;
        Duration::from_nanos(from + self.below(ns / 100 * (high - low) + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_name() {
        let draw = |seed, name| Random::new(seed, name).next_u64();
        assert_eq!(draw(7, "links"), draw(7, "links"));
        assert_ne!(draw(7, "links"), draw(7, "timers"));
        assert_ne!(draw(7, "links"), draw(8, "links"));
    }

    #[test]
    fn jitter_stays_between_its_bounds() {
        let mut random = Random::new(1, "jitter");
        for _ in 0..1000 {
            let span = random.jittered(Duration::from_millis(300), 75, 90);
            assert!(span >= Duration::from_millis(225) && span <= Duration::from_millis(270));
        }
    }
}
