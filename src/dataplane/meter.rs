//! How many packets for the router itself an attachment may send, per class.
//!
//! A flood of one class on one attachment leaves the other classes and attachments alone. Each
//! meter is a virtual-scheduling bucket: one instant, compared with the time of the batch.

use std::time::Duration;

use crate::dataplane::verdict::PuntReason;
use crate::model::Instant;

/// What a class may send: sustained packets a second, and how many at once after a silence.
#[derive(Clone, Copy, Debug)]
pub struct PuntLimit {
    pub per_second: u32,
    pub burst: u32,
}

/// By [`PuntReason`]. TCP carries a full table of BGP at once (900,000 routes are about 10,000
/// segments); errors are answered at the rate routers usually answer (section 20: "with rate
/// limit"); all figures are ours.
pub const PUNT_LIMITS: [PuntLimit; PuntReason::COUNT] = [
    PuntLimit { per_second: 200, burst: 100 },
    PuntLimit { per_second: 200, burst: 100 },
    PuntLimit { per_second: 50_000, burst: 4_096 },
    PuntLimit { per_second: 1_000, burst: 256 },
    PuntLimit { per_second: 100, burst: 50 },
    PuntLimit { per_second: 100, burst: 50 },
    PuntLimit { per_second: 1_000, burst: 256 },
];

/// The meters of one attachment: when each class will have paid for what it sent.
#[derive(Clone, Debug, Default)]
pub struct PuntMeters([Instant; PuntReason::COUNT]);

impl PuntMeters {
    /// Whether one more packet of the class fits; if so it is charged.
    pub fn charge(&mut self, class: PuntReason, now: Instant) -> bool {
        let limit = PUNT_LIMITS[class as usize];
        let paid = &mut self.0[class as usize];
        let packet = Duration::from_nanos(1_000_000_000 / u64::from(limit.per_second));
        let due = (*paid).max(now) + packet;
        if due > now + packet * limit.burst {
            return false;
        }
        *paid = due;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_and_classes_do_not_share() {
        let mut meters = PuntMeters::default();
        let mut sent = |class, from_ms: u64| {
            let now = Instant::from_millis(from_ms);
            (0..10_000).filter(|_| meters.charge(class, now)).count()
        };
        assert_eq!(sent(PuntReason::TtlExpired, 5), 50);
        assert_eq!(sent(PuntReason::TtlExpired, 105), 10);
        assert_eq!(sent(PuntReason::Local, 105), 256);
        assert_eq!(sent(PuntReason::TtlExpired, 10_000), 50);
    }
}
