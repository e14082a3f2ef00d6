//! One router's forwarding: the order of the stages, what happens to each packet after them, and
//! the sessions and failures that move traffic without asking control.

use std::net::IpAddr;

use crate::bfd::{Event, Outgoing, Row, Sessions};
use crate::dataplane::attachment::Attachment;
use crate::dataplane::batch::{Batch, Context, Family};
use crate::dataplane::counters::AttachmentCounters;
use crate::dataplane::edit::Rewritten;
use crate::dataplane::exits::Exits;
use crate::dataplane::limiter::Limiters;
use crate::dataplane::stage::lookup::Spreading;
use crate::dataplane::stage::{admit, demux, limit, lookup, rewrite};
use crate::dataplane::tables::Tables;
use crate::dataplane::verdict::{DropReason, Ledger, PuntReason, Verdict};
use crate::io::gso::{self, Layout};
use crate::io::{Frame, Frames};
use crate::model::{
    AttachmentIndex, BfdDownReason, Change, FlowHash, GroupIndex, Injected, Instant, LimiterIndex,
    Member, Notice, PortIndex, Prefix, PuntClass, Punted, VrfIndex,
};
use crate::shaper;
use crate::wire::{MacAddr, bfd, ethertype, ipv4, ipv6, protocol, udp};

/// TTL of BFD (RFC 5881, 5).
const BFD_TTL: u8 = 255;
/// Class selector 6, network control (RFC 4594, 3.2): what routers give BFD.
const CS6: u8 = 48;

/// The forwarding side of one router.
///
/// After each call that takes the time, the owner drains [`poll_transmit`](Self::poll_transmit) and
/// [`poll_notice`](Self::poll_notice).
#[derive(Debug)]
pub struct Forwarding {
    spreading: Spreading,
    tables: Tables,
    limiters: Limiters,
    sessions: Sessions,
    batch: Batch,
    exits: Exits,
    refused_changes: u64,
    /// When something was put to the sessions that they may have to tell their peers or us.
    sessions_due: Instant,
}

impl Forwarding {
    /// `seed` decides BFD discriminators and jitter; each router has its own. `flow_seed` decides
    /// how flows spread.
    pub fn new(seed: u64, flow_seed: u64, hash: FlowHash) -> Self {
        Self {
            spreading: Spreading { seed: flow_seed, hash },
            tables: Tables::default(),
            limiters: Limiters::default(),
            sessions: Sessions::new(seed),
            batch: Batch::default(),
            exits: Exits::default(),
            refused_changes: 0,
            sessions_due: Instant::NEVER,
        }
    }

    /// Makes changes, in order, and shows them to packets all at once. What is so already changes
    /// nothing. A change that would lead from one VRF into another, or names what does not exist,
    /// is refused and counted ([`refused_changes`](Self::refused_changes)).
    pub fn apply(&mut self, changes: &[Change], now: Instant) {
        for change in changes {
            let accepted = self.change(change, now);
            self.refused_changes += u64::from(!accepted);
        }
        self.refused_changes += self.tables.publish();
    }

    /// Takes frames from a port through the path, 64 at a time.
    pub fn receive(
        &mut self,
        port: PortIndex,
        frames: impl IntoIterator<Item = Frame>,
        pool: &mut Frames,
        now: Instant,
    ) {
        let mut frames = frames.into_iter();
        loop {
            let more = self.batch.fill(&mut frames);
            if !self.batch.is_empty() {
                self.run(port, pool, now);
            }
            if !more {
                break;
            }
        }
        if self.sessions_due != Instant::NEVER {
            self.drain_sessions(pool);
        }
    }

    /// Sends a packet of the router's own making, or one that waited for a MAC. Limiters do not
    /// charge it (section 20). Without such an attachment it counts as lost on a dead link.
    pub fn inject(&mut self, injected: Injected, pool: &mut Frames) {
        let Injected { attachment, destination, ethertype, packet } = injected;
        let length = packet.len();
        self.originate(attachment, destination, ethertype, length, pool, |payload| {
            payload.copy_from_slice(&packet);
        });
    }

    /// Lets BFD act whose deadline has come; independent of control.
    pub fn handle_timeout(&mut self, now: Instant, pool: &mut Frames) {
        self.sessions.handle_timeout(now);
        self.drain_sessions(pool);
    }

    /// When [`handle_timeout`](Self::handle_timeout) must next be called.
    pub fn poll_timeout(&self) -> Instant {
        self.sessions.poll_timeout().min(self.sessions_due)
    }

    /// Carrier of a port came or went. At its loss every next hop behind the port is dead at once.
    ///
    /// When carrier returns, so do the next hops, except those that BFD has declared dead in the
    /// meantime: a cut longer than the detection time has taken their sessions down, and each next
    /// hop waits for its own (or for control to give it up, see [`Tables::set_failed`]).
    pub fn carrier(&mut self, port: PortIndex, up: bool) {
        if self.tables.port(port).is_none_or(|present| present.carrier == up) {
            return;
        }
        let rewritten = self.tables.set_carrier(port, up);
        self.exits.tell(Notice::Carrier { port, up });
        for rewritten in rewritten {
            tell_rewritten(&mut self.exits, rewritten);
        }
    }

    /// Takes a BFD session out of service, or puts it back. The peer is told; no path fails by it,
    /// and one that had failed is used again, since nobody watches it.
    pub fn set_bfd_admin_down(
        &mut self,
        attachment: AttachmentIndex,
        peer: IpAddr,
        down: bool,
        now: Instant,
    ) {
        self.sessions.set_admin_down(attachment, peer, down, now);
        self.sessions_due = now;
        if down {
            self.tables.set_failed(attachment, peer, false);
        }
    }

    /// Whether control runs. Packets for the router itself are dropped while it does not.
    pub fn set_control_down(&mut self, down: bool) {
        self.exits.control_down = down;
    }

    /// A packet that was punted on an attachment found no room on its way to control.
    pub fn take_back_punt(&mut self, attachment: AttachmentIndex) {
        self.exits.take_back_punt(attachment);
    }

    /// As [`Exits::keep_dropped`].
    pub fn keep_dropped(&mut self, keep: bool) {
        self.exits.keep_dropped(keep);
    }

    /// As [`Exits::take_dropped`].
    pub fn take_dropped(&mut self) -> Vec<(Frame, DropReason)> {
        self.exits.take_dropped()
    }

    /// The next frame that leaves, and by which port.
    pub fn poll_transmit(&mut self) -> Option<(PortIndex, Frame)> {
        self.exits.poll_transmit()
    }

    /// Whether [`poll_notice`](Self::poll_notice) has something.
    pub fn has_notice(&self) -> bool {
        self.exits.has_notice()
    }

    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.exits.poll_notice()
    }

    pub fn ledger(&self) -> &Ledger {
        &self.exits.ledger
    }

    /// Zero for an attachment that does not exist.
    pub fn counters(&self, attachment: AttachmentIndex) -> AttachmentCounters {
        self.exits.counters(attachment)
    }

    pub fn limiter_counters(&self, limiter: LimiterIndex) -> Option<shaper::Counters> {
        self.limiters.counters(limiter)
    }

    /// The BFD sessions, by attachment and peer.
    pub fn bfd_sessions(&self) -> impl Iterator<Item = Row> + '_ {
        self.sessions.rows()
    }

    /// The routes of a VRF, IPv4 first, by address.
    pub fn routes(&self, vrf: VrfIndex) -> impl Iterator<Item = (Prefix, GroupIndex)> + '_ {
        self.tables.find_vrf(vrf).into_iter().flat_map(|vrf| vrf.fib.routes())
    }

    /// The members of a group, each with whether packets may leave by it.
    pub fn group(
        &self,
        vrf: VrfIndex,
        group: GroupIndex,
    ) -> impl Iterator<Item = (Member, bool)> + '_ {
        let members = self.tables.find_vrf(vrf).and_then(|vrf| vrf.groups.get(&group));
        members.into_iter().flatten().map(|member| {
            let adjacency = self.tables.adjacencies.find(member.attachment, member.next_hop);
            let alive = adjacency.is_some_and(|index| self.tables.adjacencies.at(index).alive);
            (*member, alive)
        })
    }

    pub fn has_carrier(&self, port: PortIndex) -> bool {
        self.tables.port(port).is_some_and(|port| port.carrier)
    }

    /// Changes that were refused so far. None are, unless control has a fault.
    pub fn refused_changes(&self) -> u64 {
        self.refused_changes
    }

    /// False when the change is refused.
    fn change(&mut self, change: &Change, now: Instant) -> bool {
        match change {
            Change::Port { index, entry } => self.tables.set_port(*index, entry),
            Change::Attachment { index, entry: Some(entry) } => {
                if self.tables.moves(*index, entry) {
                    self.remove_attachment(*index, now);
                }
                self.exits.open(*index);
                return self.tables.set_attachment(*index, entry);
            }
            Change::Attachment { index, entry: None } => self.remove_attachment(*index, now),
            Change::Limiter { index, parameters } => self.limiters.set(*index, *parameters, now),
            Change::Neighbor { attachment, address, mac } => {
                return self.tables.set_neighbor(*attachment, *address, *mac);
            }
            Change::Group { vrf, group, members } => {
                return self.tables.set_group(*vrf, *group, members);
            }
            Change::Route { vrf, prefix, group } => {
                return self.tables.set_route(*vrf, *prefix, *group);
            }
            Change::Bfd { attachment, peer, session } => {
                let exists = self.tables.find_attachment(*attachment).is_some();
                if session.is_some() && !exists {
                    return false;
                }
                self.sessions.set(*attachment, *peer, *session, now);
                self.sessions_due = now;
                if session.is_none() {
                    self.tables.set_failed(*attachment, *peer, false);
                }
            }
        }
        true
    }

    fn remove_attachment(&mut self, index: AttachmentIndex, now: Instant) {
        let here = self.sessions.rows().filter(|row| row.attachment == index);
        let peers: Vec<IpAddr> = here.map(|row| row.peer).collect();
        for peer in peers {
            self.sessions.set(index, peer, None, now);
        }
        self.tables.remove_attachment(index);
        self.exits.close(index);
    }

    /// One batch through the stages, in this order.
    fn run(&mut self, port: PortIndex, pool: &mut Frames, now: Instant) {
        let Self { tables, limiters, batch, exits, spreading, .. } = self;
        exits.ledger.received += batch.wire_packets();
        demux::run(tables.port(port), pool, batch);
        admit::run(tables, pool, batch);
        lookup::run(tables, *spreading, pool, batch);
        limit::run(tables, limiters, pool, batch, exits, now);
        rewrite::run(tables, pool, batch);
        self.settle(pool, now);
        debug_assert!(self.ledger().holds(), "{:?}", self.ledger());
    }

    /// Does what the verdicts say.
    fn settle(&mut self, pool: &mut Frames, now: Instant) {
        let Self { tables, batch, exits, sessions, sessions_due, .. } = self;
        for (frame, context) in batch.settle() {
            let packets = frame.meta.wire_packets();
            exits.count_received(context.ingress, packets, u64::from(context.bytes));
            match context.verdict {
                Verdict::Next => {
                    let port = tables.attachment(context.egress).port;
                    exits.transmit(port, context.egress, frame, u64::from(context.bytes), pool);
                }
                Verdict::Drop(reason) => exits.drop(context.ingress, frame, reason, pool),
                Verdict::Punt(_) if exits.control_down => {
                    exits.drop(context.ingress, frame, DropReason::ControlDown, pool);
                }
                Verdict::Punt(reason) => {
                    punt_each(tables, exits, pool, frame, context, reason, now);
                }
                Verdict::Bfd
                    if exits.admits_bfd()
                        && takes(sessions, packet(pool, &frame, &context), &context, now) =>
                {
                    *sessions_due = now;
                    exits.consume(frame, pool);
                }
                Verdict::Bfd => exits.drop(context.ingress, frame, DropReason::BfdRefused, pool),
            }
        }
    }

    /// Sends what the sessions have to send and acts on what they have seen.
    fn drain_sessions(&mut self, pool: &mut Frames) {
        self.sessions_due = Instant::NEVER;
        while let Some(outgoing) = self.sessions.poll_transmit() {
            self.send_bfd(&outgoing, pool);
        }
        while let Some(event) = self.sessions.poll_event() {
            self.handle_session(event);
        }
    }

    /// A path is dead when BFD saw it fail. A peer that takes its session out of service, or
    /// restarts it, says nothing about the path (RFC 5882, 4.2).
    fn handle_session(&mut self, event: Event) {
        let (attachment, peer, failed, notice) = match event {
            Event::Up { attachment, peer } => {
                (attachment, peer, false, Notice::BfdUp { attachment, peer })
            }
            Event::Down { attachment, peer, reason } => {
                let failed = match reason {
                    BfdDownReason::DetectionTimeExpired | BfdDownReason::NeighborSignaledDown => {
                        true
                    }
                    BfdDownReason::NeighborAdminDown | BfdDownReason::NeighborRestarted => false,
                };
                (attachment, peer, failed, Notice::BfdDown { attachment, peer, reason })
            }
        };
        let rewritten = self.tables.set_failed(attachment, peer, failed);
        self.exits.tell(notice);
        if let Some(rewritten) = rewritten {
            tell_rewritten(&mut self.exits, rewritten);
        }
    }

    /// Without the peer's MAC nothing is sent: control asks for it as for every BGP neighbour's.
    fn send_bfd(&mut self, outgoing: &Outgoing, pool: &mut Frames) {
        let Some(mac) = self.tables.neighbor(outgoing.attachment, outgoing.peer) else { return };
        let (ethertype, header_len) = match outgoing.local {
            IpAddr::V4(_) => (ethertype::IPV4, ipv4::MIN_HEADER_LEN),
            IpAddr::V6(_) => (ethertype::IPV6, ipv6::HEADER_LEN),
        };
        let length = header_len + udp::HEADER_LEN + bfd::LEN;
        self.originate(outgoing.attachment, mac, ethertype, length, pool, |packet| {
            write_bfd(outgoing, packet);
        });
    }

    /// Makes a frame around a packet of `length` bytes that `write` fills in.
    fn originate(
        &mut self,
        attachment: AttachmentIndex,
        destination: MacAddr,
        ethertype: u16,
        length: usize,
        pool: &mut Frames,
        write: impl FnOnce(&mut [u8]),
    ) {
        let exits = &mut self.exits;
        exits.ledger.originated += 1;
        let Some(egress) = self.tables.find_attachment(attachment) else {
            return exits.count_dropped(attachment, DropReason::LinkDown, 1);
        };
        let Some(frame) = frame_for(egress, destination, ethertype, length, pool, write) else {
            return exits.count_dropped(attachment, DropReason::NoBuffer, 1);
        };
        exits.transmit(egress.port, attachment, frame, length as u64, pool);
    }
}

/// Gives a packet to the router itself, a super-frame segment by segment and with its checksum
/// complete: nothing behind here knows of either.
fn punt_each(
    tables: &Tables,
    exits: &mut Exits,
    pool: &mut Frames,
    mut frame: Frame,
    mut context: Context,
    reason: PuntReason,
    now: Instant,
) {
    if !frame.meta.is_super_frame() {
        gso::complete_checksum(&mut frame, pool);
        return punt(tables, exits, pool, frame, &context, reason, now);
    }
    let layout = Layout::of(pool.bytes(&frame), frame.meta).expect("admit has seen its headers");
    frame.set_partial_checksum(None);
    let segmented = layout.segment(frame, pool);
    exits.count_dropped(context.ingress, DropReason::NoBuffer, segmented.missing);
    for segment in segmented.frames {
        context.length = segment.len() as u32 - u32::from(context.header_len);
        punt(tables, exits, pool, segment, &context, reason, now);
    }
}

fn punt(
    tables: &Tables,
    exits: &mut Exits,
    pool: &mut Frames,
    frame: Frame,
    context: &Context,
    reason: PuntReason,
    now: Instant,
) {
    if exits.admits_punt(context.ingress, reason, now) {
        exits.punt(punted(tables, pool, &frame, context, reason));
        exits.consume(frame, pool);
    } else {
        exits.drop(context.ingress, frame, reason.refused_as(), pool);
    }
}

/// The packet of a frame that came in.
fn packet<'p>(pool: &'p Frames, frame: &Frame, context: &Context) -> &'p [u8] {
    &pool.bytes(frame)[context.header_len as usize..]
}

fn punted(
    tables: &Tables,
    pool: &Frames,
    frame: &Frame,
    context: &Context,
    reason: PuntReason,
) -> Punted {
    let bytes = pool.bytes(frame);
    let packet = packet(pool, frame, context);
    let class = match reason {
        PuntReason::Arp => PuntClass::Arp,
        PuntReason::Ndp => PuntClass::Ndp,
        PuntReason::Tcp => PuntClass::Tcp,
        PuntReason::Local => PuntClass::Local,
        PuntReason::TtlExpired => PuntClass::TtlExpired,
        PuntReason::TooLarge => {
            PuntClass::TooLarge { mtu: tables.attachment(context.egress).entry.mtu }
        }
        PuntReason::Glean => PuntClass::Glean {
            egress: context.egress,
            next_hop: next_hop(tables, packet, context).expect("a packet with a route is IP"),
        },
    };
    Punted {
        attachment: context.ingress,
        class,
        source: MacAddr([bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11]]),
        packet: packet[..context.length as usize].to_vec(),
    }
}

fn next_hop(tables: &Tables, packet: &[u8], context: &Context) -> Option<IpAddr> {
    let adjacency = tables.adjacencies.at(context.adjacency);
    adjacency.next_hop.or_else(|| rewrite::destination(packet, context.family))
}

/// Gives a BFD packet to the sessions; false when none wants it.
fn takes(sessions: &mut Sessions, packet: &[u8], context: &Context, now: Instant) -> bool {
    let (source, ttl, datagram): (IpAddr, u8, &[u8]) = match context.family {
        Family::Ipv4 => match ipv4::View::new(packet) {
            Ok(view) => (view.source().into(), view.ttl(), view.payload()),
            Err(_) => return false,
        },
        Family::Ipv6 => match ipv6::View::new(packet) {
            Ok(view) => (view.source().into(), view.hop_limit(), view.payload()),
            Err(_) => return false,
        },
        Family::Other => return false,
    };
    udp::View::new(datagram).is_ok_and(|view| {
        sessions.handle_packet(context.ingress, source, ttl, view.payload(), now).is_ok()
    })
}

/// Control hears of groups that lost a member; what returns it sees from BFD or carrier.
fn tell_rewritten(exits: &mut Exits, rewritten: Rewritten) {
    let Rewritten { vrf, attachment, next_hop, groups, alive } = rewritten;
    if let Some(next_hop) = next_hop
        && groups > 0
        && !alive
    {
        exits.tell(Notice::GroupsRewritten { vrf, attachment, next_hop, groups });
    }
}

/// A frame that leaves by `egress` with `length` bytes of packet.
fn frame_for(
    egress: &Attachment,
    destination: MacAddr,
    ethertype: u16,
    length: usize,
    pool: &mut Frames,
    write: impl FnOnce(&mut [u8]),
) -> Option<Frame> {
    let mut frame = pool.allocate(egress.header_len() + length)?;
    frame.meta.vni = egress.vni;
    let (front, packet) = pool.bytes_mut(&frame).split_at_mut(egress.header_len());
    egress.write_header(destination, ethertype, front);
    write(packet);
    Some(frame)
}

/// RFC 5881, 4 and 5.
fn write_bfd(outgoing: &Outgoing, packet: &mut [u8]) {
    let payload_len = udp::HEADER_LEN + bfd::LEN;
    let header_len = match (outgoing.local, outgoing.peer) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let repr = ipv4::Repr {
                source,
                destination,
                protocol: protocol::UDP,
                ttl: BFD_TTL,
                dscp: CS6,
                identification: 0,
                dont_fragment: true,
                payload_len,
            };
            repr.emit(packet);
            repr.buffer_len()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let repr = ipv6::Repr {
                source,
                destination,
                next_header: protocol::UDP,
                hop_limit: BFD_TTL,
                traffic_class: CS6 << 2,
                payload_len,
            };
            repr.emit(packet);
            repr.buffer_len()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return,
    };
    let mut payload = [0; bfd::LEN];
    outgoing.repr.emit(&mut payload);
    let repr = udp::Repr {
        source_port: outgoing.source_port,
        destination_port: bfd::PORT,
        payload_len: bfd::LEN,
    };
    repr.emit(outgoing.local, outgoing.peer, &payload, &mut packet[header_len..]);
}
