//! Limiters: the token buckets that attachments name.

use crate::model::{Instant, LimiterIndex, LimiterParameters};
use crate::shaper::{Bucket, Counters};

/// All limiters of a router. One bucket may be named by several attachments: the peerings of a
/// circuit share theirs (F-73).
#[derive(Debug, Default)]
pub struct Limiters(Vec<Option<Bucket>>);

impl Limiters {
    /// Makes, changes or (`None`) removes a limiter. A changed rate keeps the bucket's state and
    /// the counters (F-23).
    pub fn set(
        &mut self,
        index: LimiterIndex,
        parameters: Option<LimiterParameters>,
        now: Instant,
    ) {
        if self.0.len() <= index.index() {
            self.0.resize_with(index.index() + 1, || None);
        }
        let slot = &mut self.0[index.index()];
        match (&slot, parameters) {
            (Some(bucket), Some(LimiterParameters { rate, depth_bytes })) => {
                bucket.set_parameters(rate, depth_bytes, now);
            }
            (None, Some(LimiterParameters { rate, depth_bytes })) => {
                *slot = Some(Bucket::new(rate, depth_bytes));
            }
            (_, None) => *slot = None,
        }
    }

    /// Charges `count` packets of `bytes` each to each of `names` in order, without refund: each
    /// is charged those that the one before it took. Returns how many all take. A name without a
    /// limiter does not limit.
    pub fn charge(&self, names: &[LimiterIndex], bytes: u32, count: u64, now: Instant) -> u64 {
        names.iter().fold(count, |left, name| match self.0.get(name.index()) {
            Some(Some(bucket)) if left > 0 => bucket.charge_many(now, bytes, left),
            Some(_) | None => left,
        })
    }

    pub fn counters(&self, index: LimiterIndex) -> Option<Counters> {
        self.0.get(index.index())?.as_ref().map(Bucket::counters)
    }
}
