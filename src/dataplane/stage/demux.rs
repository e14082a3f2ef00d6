//! Which attachment a frame belongs to.

use crate::dataplane::DropReason;
use crate::dataplane::batch::Batch;
use crate::dataplane::port::Port;
use crate::dataplane::verdict::Verdict;
use crate::io::{Frame, Frames};
use crate::model::AttachmentIndex;
use crate::wire::vlan::Tags;

/// Gives each frame its attachment, by the port's direct index.
///
/// Expects frames as they came from the port; a port that does not exist has no attachments. Leaves
/// by `Next`, or by `Drop(UnknownTags)` when tags or VNI belong to no attachment, and
/// `Drop(Malformed)` when a header is cut short.
pub fn run(port: Option<&Port>, pool: &Frames, batch: &mut Batch) {
    for (frame, context) in batch.open() {
        let Ok(tags) = Tags::parse(pool.bytes(frame)) else {
            context.verdict = Verdict::Drop(DropReason::Malformed);
            continue;
        };
        context.header_len = tags.payload_offset as u8;
        context.ethertype = tags.ethertype;
        match port.and_then(|port| attachment(port, frame, &tags)) {
            Some(ingress) => context.ingress = ingress,
            None => context.verdict = Verdict::Drop(DropReason::UnknownTags),
        }
    }
}

fn attachment(port: &Port, frame: &Frame, tags: &Tags) -> Option<AttachmentIndex> {
    match (frame.meta.vni, tags.outer, tags.inner) {
        (None, Some(outer), Some(inner)) => port.demux.double(outer, inner),
        (None, Some(outer), None) => port.demux.single(outer),
        (None, None, _) => port.demux.untagged(),
        (Some(vni), None, _) => port.demux.vni(vni),
        (Some(_), Some(_), _) => None,
    }
}
