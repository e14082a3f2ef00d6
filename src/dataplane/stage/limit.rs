//! Bandwidth: the limiters of where a packet came in, then those of where it leaves.

use crate::dataplane::DropReason;
use crate::dataplane::batch::{Batch, Context};
use crate::dataplane::limiter::Limiters;
use crate::dataplane::tables::Tables;
use crate::dataplane::verdict::Verdict;
use crate::model::Instant;

/// Charges each packet its IP bytes (section 20), ingress first and without refund.
///
/// Expects packets whose egress is known. Leaves by `Next`, or by `Drop(RateLimited)` when a bucket
/// cannot take the packet (section 4, F-71).
pub fn run(tables: &Tables, limiters: &Limiters, batch: &mut Batch, now: Instant) {
    for (_, context) in batch.open() {
        if !conforms(tables, limiters, context, now) {
            context.verdict = Verdict::Drop(DropReason::RateLimited);
        }
    }
}

fn conforms(tables: &Tables, limiters: &Limiters, context: &Context, now: Instant) -> bool {
    let ingress = tables.attachment(context.ingress);
    let egress = tables.attachment(context.egress);
    // Only cross-connects carry control of others, and theirs is free unless asked (section 20).
    let ingress_free = context.control && !ingress.polices_control;
    let egress_free = context.control && !egress.polices_control;
    (ingress_free || limiters.charge(&ingress.ingress_limiters, context.bytes, now))
        && (egress_free || limiters.charge(&egress.egress_limiters, context.bytes, now))
}
