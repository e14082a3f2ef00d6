//! Simulated time: it jumps to what happens next. Randomness comes from the seed; a run with the same
//! input is the same run.

use crate::fabric::topology::{Endpoint, Fabric, Observer};
use crate::model::Instant;

/// Most events at one instant: two nodes that answer each other in no time are a fault of ours.
const SAME_INSTANT_MAX: u32 = 1_000_000;

impl<E: Endpoint> Fabric<E> {
    /// Runs everything that happens up to and including `end`.
    pub fn run_until(&mut self, end: Instant, observer: &mut dyn Observer) {
        let mut at_once = 0;
        while let Some((at, source)) = self.pop_until(end) {
            at_once = if at == self.now { at_once + 1 } else { 0 };
            assert!(at_once < SAME_INSTANT_MAX, "{source:?} does not let time pass at {at:?}");
            self.happen(source, at, observer);
        }
        self.now = end;
    }
}
