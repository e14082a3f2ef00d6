//! What a packet looks like when it leaves: TTL, MACs, tags.

use std::net::IpAddr;

use crate::dataplane::DropReason;
use crate::dataplane::attachment::{Attachment, Path};
use crate::dataplane::batch::{Batch, Context, Family};
use crate::dataplane::tables::Tables;
use crate::dataplane::verdict::{PuntReason, Verdict};
use crate::io::{Frame, Frames};
use crate::wire::{MacAddr, ethertype, ipv4, ipv6, vlan};

/// The two MACs.
const MACS: usize = 12;
const ETHERTYPE_LEN: usize = 2;

/// Turns each packet into the frame that leaves: one hop less to live (cross-connects keep theirs),
/// the MACs of this link, tags replaced in the headroom. DSCP stays as it is (F-80).
///
/// Expects packets that every limiter let through. Leaves by `Next`, by `Punt(Glean)` when the next
/// hop's MAC is not known (charged and one hop less to live, so that it can leave as it is when the
/// MAC is known), or by `Drop(NoBuffer)` when the headroom is used up.
pub fn run(tables: &Tables, pool: &mut Frames, batch: &mut Batch) {
    for (frame, context) in batch.open() {
        let egress = tables.attachment(context.egress);
        context.verdict = match tables.attachment(context.ingress).service {
            Path::Vrf(_) => route(tables, egress, pool, frame, context),
            Path::CrossConnect(_) => replace_tags(egress, pool, frame, context),
        };
    }
}

fn route(
    tables: &Tables,
    egress: &Attachment,
    pool: &mut Frames,
    frame: &mut Frame,
    context: &Context,
) -> Verdict {
    let packet = &mut pool.bytes_mut(frame)[context.header_len as usize..];
    let ethertype = match context.family {
        Family::Ipv6 => {
            ipv6::decrement_hop_limit(packet);
            ethertype::IPV6
        }
        Family::Ipv4 | Family::Other => {
            ipv4::decrement_ttl(packet);
            ethertype::IPV4
        }
    };
    let Some(mac) = neighbor(tables, packet, context) else {
        return Verdict::Punt(PuntReason::Glean);
    };
    let fits =
        frame.trim_front(context.header_len as usize) && frame.extend_front(egress.header_len());
    if !fits {
        return Verdict::Drop(DropReason::NoBuffer);
    }
    egress.write_header(mac, ethertype, pool.bytes_mut(frame));
    frame.meta.vni = egress.vni;
    Verdict::Next
}

/// The MAC of the next hop; of the destination itself where it is on the link.
fn neighbor(tables: &Tables, packet: &[u8], context: &Context) -> Option<MacAddr> {
    let adjacency = tables.adjacencies.at(context.adjacency);
    match adjacency.next_hop {
        Some(_) => adjacency.mac,
        None => tables.neighbor(context.egress, destination(packet, context.family)?),
    }
}

/// Where the packet is going.
pub fn destination(packet: &[u8], family: Family) -> Option<IpAddr> {
    match family {
        Family::Ipv4 => Some(ipv4::View::new(packet).ok()?.destination().into()),
        Family::Ipv6 => Some(ipv6::View::new(packet).ok()?.destination().into()),
        Family::Other => None,
    }
}

fn replace_tags(
    egress: &Attachment,
    pool: &mut Frames,
    frame: &mut Frame,
    context: &Context,
) -> Verdict {
    let mut macs = [0; MACS];
    macs.copy_from_slice(&pool.bytes(frame)[..MACS]);
    let tags = egress.tags();
    debug_assert!(tags.len() <= 2 * vlan::TAG_LEN);
    let fits = frame.trim_front(context.header_len as usize - ETHERTYPE_LEN)
        && frame.extend_front(MACS + tags.len());
    if !fits {
        return Verdict::Drop(DropReason::NoBuffer);
    }
    let front = pool.bytes_mut(frame);
    front[..MACS].copy_from_slice(&macs);
    // A copy whose length the compiler knows is a move, not a call.
    match tags {
        [] => {}
        [_, _, _, _] => front[MACS..][..4].copy_from_slice(tags),
        _ => front[MACS..][..8].copy_from_slice(tags),
    }
    frame.meta.vni = egress.vni;
    Verdict::Next
}
