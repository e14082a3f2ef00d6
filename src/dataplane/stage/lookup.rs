//! Where a packet goes: destination → group → bucket → adjacency → egress attachment.

use std::net::IpAddr;

use crate::dataplane::DropReason;
use crate::dataplane::attachment::Attachment;
use crate::dataplane::batch::{BATCH_MAX, Batch, Context, Family};
use crate::dataplane::tables::Tables;
use crate::dataplane::verdict::{PuntReason, Verdict};
use crate::fib::{self, FlowKey, Guard, IntervalTree4, IntervalTree6};
use crate::io::Frames;
use crate::model::{FlowHash, GroupIndex};
use crate::wire::{ipv4, ipv6, protocol};

/// Packets from which on it pays to collect what they ask: the arrays for it have to be filled.
const TOGETHER_MIN: usize = 16;

const SEEN: &str = "admit has seen this header";

/// How this router spreads flows.
#[derive(Clone, Copy, Debug)]
pub struct Spreading {
    pub seed: u64,
    pub hash: FlowHash,
}

/// Finds where each packet leaves, in the table of its own VRF and no other (F-05). The tables are
/// read as they are at this moment, all packets of a family together.
///
/// Expects packets that admit lets be forwarded; those of a cross-connect know their way already.
/// Leaves by `Next`; by `Drop(NoRoute)`; by `Drop(LinkDown)` when no next hop of the route is
/// alive; above the egress MTU (a super-frame: by its segments, all together) by `Punt(TooLarge)` when the sender is to be told, else by
/// `Drop(TooLarge)`.
pub fn run(tables: &Tables, spreading: Spreading, pool: &Frames, batch: &mut Batch) {
    let guard = fib::pin();
    if batch.len() < TOGETHER_MIN {
        for (frame, context) in batch.open() {
            if context.family != Family::Other {
                let packet = &pool.bytes(frame)[context.header_len as usize..];
                let group = tables.vrf(context.vrf).fib.view(&guard).lookup(destination(packet));
                context.verdict = leave(tables, spreading, &guard, packet, context, group);
            }
        }
        return;
    }
    let mut ipv4: Questions<'_, IntervalTree4, u32> = Questions::new(&tables.nowhere.0);
    let mut ipv6: Questions<'_, IntervalTree6, u128> = Questions::new(&tables.nowhere.1);
    for (place, (frame, context)) in batch.open_places() {
        if context.family == Family::Other {
            continue;
        }
        let packet = &pool.bytes(frame)[context.header_len as usize..];
        let view = tables.vrf(context.vrf).fib.view(&guard);
        match destination(packet) {
            IpAddr::V4(address) => ipv4.ask(place, view.tree4(), address.to_bits()),
            IpAddr::V6(address) => ipv6.ask(place, view.tree6(), address.to_bits()),
        }
    }
    let mut groups = [GroupIndex::NO_ROUTE; BATCH_MAX];
    IntervalTree4::lookup_mixed(ipv4.trees(), ipv4.addresses(), &mut groups[..ipv4.count]);
    choose(tables, spreading, &guard, pool, batch, ipv4.places(), &groups);
    IntervalTree6::lookup_mixed(ipv6.trees(), ipv6.addresses(), &mut groups[..ipv6.count]);
    choose(tables, spreading, &guard, pool, batch, ipv6.places(), &groups);
}

/// Where a packet that admit has given a family is going.
fn destination(packet: &[u8]) -> IpAddr {
    match packet[0] >> 4 {
        6 => ipv6::View::new(packet).expect(SEEN).destination().into(),
        _ => ipv4::View::new(packet).expect(SEEN).destination().into(),
    }
}

/// Of the flow a packet belongs to.
fn flow_hash(spreading: Spreading, packet: &[u8]) -> u32 {
    let key = match packet[0] >> 4 {
        6 => flow6(&ipv6::View::new(packet).expect(SEEN)),
        _ => flow4(&ipv4::View::new(packet).expect(SEEN)),
    };
    key.hash(spreading.seed, spreading.hash)
}

/// What a batch asks the trees of one family.
struct Questions<'t, T, K> {
    trees: [&'t T; BATCH_MAX],
    addresses: [K; BATCH_MAX],
    places: [u8; BATCH_MAX],
    count: usize,
}

impl<'t, T, K: Copy + Default> Questions<'t, T, K> {
    fn new(nowhere: &'t T) -> Self {
        Self {
            trees: [nowhere; BATCH_MAX],
            addresses: [K::default(); BATCH_MAX],
            places: [0; BATCH_MAX],
            count: 0,
        }
    }

    fn ask(&mut self, place: usize, tree: &'t T, address: K) {
        self.trees[self.count] = tree;
        self.addresses[self.count] = address;
        self.places[self.count] = place as u8;
        self.count += 1;
    }

    fn trees(&self) -> &[&'t T] {
        &self.trees[..self.count]
    }

    fn addresses(&self) -> &[K] {
        &self.addresses[..self.count]
    }

    fn places(&self) -> &[u8] {
        &self.places[..self.count]
    }
}

fn choose(
    tables: &Tables,
    spreading: Spreading,
    guard: &Guard,
    pool: &Frames,
    batch: &mut Batch,
    places: &[u8],
    groups: &[GroupIndex],
) {
    for (place, group) in places.iter().zip(groups) {
        let (frame, context) = batch.at(*place as usize);
        let packet = &pool.bytes(frame)[context.header_len as usize..];
        context.verdict = leave(tables, spreading, guard, packet, context, *group);
    }
}

fn leave(
    tables: &Tables,
    spreading: Spreading,
    guard: &Guard,
    packet: &[u8],
    context: &mut Context,
    group: GroupIndex,
) -> Verdict {
    match leave_by(tables, spreading, guard, packet, context, group) {
        Verdict::Drop(DropReason::TooLarge)
            if tells_sender(tables.attachment(context.ingress), packet) =>
        {
            Verdict::Punt(PuntReason::TooLarge)
        }
        verdict => verdict,
    }
}

fn leave_by(
    tables: &Tables,
    spreading: Spreading,
    guard: &Guard,
    packet: &[u8],
    context: &mut Context,
    group: GroupIndex,
) -> Verdict {
    if group == GroupIndex::NO_ROUTE {
        return Verdict::Drop(DropReason::NoRoute);
    }
    let view = tables.vrf(context.vrf).fib.view(guard);
    let adjacency = view.only(group).or_else(|| view.bucket(group, flow_hash(spreading, packet)));
    let Some(adjacency) = adjacency else {
        return Verdict::Drop(DropReason::LinkDown);
    };
    context.adjacency = adjacency;
    context.egress = tables.adjacencies.at(adjacency).attachment;
    // Changes that would cross are refused, so this only holds while a table beyond its limit
    // waits for publication: whatever it says, a packet leaves by its own VRF (F-05).
    let egress = tables.find_attachment(context.egress);
    let Some(egress) = egress.filter(|egress| egress.vrf() == Some(context.vrf)) else {
        return Verdict::Drop(DropReason::LinkDown);
    };
    if context.largest > egress.mtu { Verdict::Drop(DropReason::TooLarge) } else { Verdict::Next }
}

/// RFC 1191, RFC 8201: whoever forbade fragmentation, as all of IPv6 does, is told the MTU. The
/// others are not fragmented either; they are lost (section 20).
fn tells_sender(ingress: &Attachment, packet: &[u8]) -> bool {
    let forbids = ipv4::View::new(packet).map_or(true, |view| view.dont_fragment());
    ingress.answers_icmp && forbids
}

fn flow4(view: &ipv4::View<'_>) -> FlowKey {
    // Only the first fragment has ports, so none of them uses them: all go one way.
    let (source_port, destination_port) =
        if view.is_fragment() { (0, 0) } else { ports(view.protocol(), view.payload()) };
    FlowKey {
        source: view.source().into(),
        destination: view.destination().into(),
        protocol: view.protocol(),
        source_port,
        destination_port,
    }
}

/// A fragment has its header in front of the ports, so its protocol is that header.
fn flow6(view: &ipv6::View<'_>) -> FlowKey {
    let (source_port, destination_port) = ports(view.next_header(), view.payload());
    FlowKey {
        source: view.source().into(),
        destination: view.destination().into(),
        protocol: view.next_header(),
        source_port,
        destination_port,
    }
}

/// The first four bytes of TCP and UDP alike.
fn ports(protocol: u8, payload: &[u8]) -> (u16, u16) {
    match (protocol, payload) {
        (protocol::TCP | protocol::UDP, [a, b, c, d, ..]) => {
            (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
        }
        _ => (0, 0),
    }
}
