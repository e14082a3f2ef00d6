//! Bandwidth: the limiters of where a packet came in, then those of where it leaves.

use std::ops::Range;

use crate::dataplane::DropReason;
use crate::dataplane::batch::{Batch, Context};
use crate::dataplane::exits::Exits;
use crate::dataplane::limiter::Limiters;
use crate::dataplane::tables::Tables;
use crate::dataplane::verdict::Verdict;
use crate::io::gso::Layout;
use crate::io::{Frame, Frames};
use crate::model::Instant;

/// Charges each packet its IP bytes (section 20), ingress first and without refund.
///
/// Expects packets whose egress is known. Leaves by `Next`, or by `Drop(RateLimited)` when a bucket
/// cannot take the packet (section 4, F-71). Of a super-frame that the buckets cannot take whole,
/// the segments that conform go on, and the surplus is counted in `exits` here; they are those that
/// would conform if they came one by one.
pub fn run(
    tables: &Tables,
    limiters: &Limiters,
    pool: &mut Frames,
    batch: &mut Batch,
    exits: &mut Exits,
    now: Instant,
) {
    let mut place = 0;
    while place < batch.len() {
        let (frame, context) = batch.at(place);
        if context.verdict == Verdict::Next {
            let charge = |bytes, count| charge(tables, limiters, context, bytes, count, now);
            if frame.meta.is_super_frame() {
                let layout = Layout::of(pool.bytes(frame), frame.meta);
                let layout = layout.expect("admit has seen its headers");
                let conforming = Conforming {
                    full: charge(layout.full_bytes(), layout.segments() - 1),
                    last: charge(layout.last_bytes(), 1) == 1,
                };
                if let Some((part, its)) = cut(&layout, &conforming, frame, context, pool, exits) {
                    batch.insert_behind(place, part, its);
                    place += 1;
                }
            } else if charge(context.bytes, 1) == 0 {
                context.verdict = Verdict::Drop(DropReason::RateLimited);
            }
        }
        place += 1;
    }
}

/// How many of `count` packets of a size every limiter takes.
fn charge(
    tables: &Tables,
    limiters: &Limiters,
    context: &Context,
    bytes: u32,
    count: u64,
    now: Instant,
) -> u64 {
    let ingress = tables.attachment(context.ingress);
    let egress = tables.attachment(context.egress);
    let mut left = count;
    // Only cross-connects carry control of others, and theirs is free unless asked (section 20).
    if !context.control || ingress.polices_control {
        left = limiters.charge(&ingress.ingress_limiters, bytes, left, now);
    }
    if !context.control || egress.polices_control {
        left = limiters.charge(&egress.egress_limiters, bytes, left, now);
    }
    left
}

/// The segments of a super-frame that may go on.
struct Conforming {
    /// Of those before the last, the first so many.
    full: u64,
    /// The last, which may be short enough to fit where another did not.
    last: bool,
}

/// Leaves of a super-frame what conforms. When its last segment goes on without those before it, it
/// becomes a frame of its own, which is returned if others stay.
fn cut(
    layout: &Layout,
    conforming: &Conforming,
    frame: &mut Frame,
    context: &mut Context,
    pool: &mut Frames,
    exits: &mut Exits,
) -> Option<(Frame, Context)> {
    let &Conforming { full, last } = conforming;
    let before_last = layout.segments() - 1;
    if full == before_last && last {
        return None;
    }
    if full == 0 && !last {
        context.verdict = Verdict::Drop(DropReason::RateLimited);
        return None;
    }
    let (full_bytes, last_bytes) = (layout.full_bytes() as u64, layout.last_bytes() as u64);
    let ingress = context.ingress;
    let mut drop = |range: Range<u64>, bytes, reason, frame: &Frame, pool: &mut Frames| {
        let bytes = (range.end - range.start) * bytes;
        exits.drop_part(ingress, (layout, frame), range, bytes, reason, pool);
    };
    drop(full..before_last, full_bytes, DropReason::RateLimited, frame, pool);
    let tail = before_last..layout.segments();
    if full == 0 {
        layout.keep(frame, tail, pool);
        context.hold(frame, last_bytes);
        return None;
    }
    let mut part = None;
    if !last {
        drop(tail, last_bytes, DropReason::RateLimited, frame, pool);
    } else if let Some(tail) = layout.part(frame, tail.clone(), pool) {
        let mut its = *context;
        its.hold(&tail, last_bytes);
        part = Some((tail, its));
    } else {
        drop(tail, last_bytes, DropReason::NoBuffer, frame, pool);
    }
    layout.keep(frame, 0..full, pool);
    context.hold(frame, full * full_bytes);
    part
}
