//! How late customers' routers are with their BFD packets, measured where these enter a lab: nothing
//! that a drill breaks is in front of that but the interface's carrier.
//!
//! Who is Up owes the next packet within its interval (RFC 5880, 6.8.7), whatever it hears or does not.
//! A router that sends it later was kept from running, and by its host. One that dies, or is told to
//! leave BFD, sends no more as who it was: what it owed is not asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::{CircuitLink, SessionRef};
use crate::fabric::{Direction, LinkIndex, Observer};
use crate::lab::{Lab, neighbor_base};
use crate::model::{Instant, LinkRole};
use crate::wire::bfd::{self, Repr, State, View};
use crate::wire::{ethertype, ipv4, ipv6, protocol, udp, vlan};

/// Sees the BFD packets that customers' routers send to MSEEs.
#[derive(Clone, Debug)]
pub struct PeerGaps {
    /// By access link and the peer's address.
    peers: BTreeMap<(LinkIndex, IpAddr), Peer>,
}

/// A customer's end of a BFD session.
#[derive(Clone, Debug)]
struct Peer {
    /// As in reports: `ce1 (172.16.0.1)`.
    name: String,
    /// The MSEE's: the peer sends no faster (6.8.2).
    required_min_rx: Duration,
    owed: Option<Owed>,
    longest: Duration,
}

/// The packet that a peer sends next.
#[derive(Clone, Copy, Debug)]
struct Owed {
    /// Of the peer's session: another is another session.
    discriminator: u32,
    by: Instant,
}

impl PeerGaps {
    /// Begins to look at the access links of customers whose sessions with MSEEs have BFD.
    pub fn watch(lab: &mut Lab) -> Self {
        let circuits = lab.file().circuits.iter().map(|circuit| circuit.name.clone());
        let places = circuits.flat_map(|circuit| {
            LinkRole::BOTH.map(|link| CircuitLink { circuit: circuit.clone(), link })
        });
        let mut peers = BTreeMap::new();
        for place in places.collect::<Vec<_>>() {
            let Some(link) = lab.access(&place.circuit, place.link) else { continue };
            for [customer, msee] in lab.session_ends(&SessionRef::Link(place)) {
                let vrfs = lab.desired(&msee.router).into_iter().flat_map(|config| &config.vrfs);
                let neighbors = vrfs.flat_map(|vrf| &vrf.neighbors);
                let customers = neighbors.filter(|n| neighbor_base(&n.name) == msee.neighbor);
                for (neighbor, bfd) in customers.filter_map(|n| Some((n, n.bfd?))) {
                    let peer = Peer {
                        name: format!("{} ({})", customer.router, neighbor.peer),
                        required_min_rx: bfd.required_min_rx,
                        owed: None,
                        longest: Duration::ZERO,
                    };
                    peers.insert((link, neighbor.peer), peer);
                }
            }
        }
        for &(link, _) in peers.keys() {
            lab.watch(link);
        }
        Self { peers }
    }

    /// Counts from now on, with what is owed already: who sleeps now is late when it wakes.
    pub fn begin(&mut self) {
        self.peers.values_mut().for_each(|peer| peer.longest = Duration::ZERO);
    }

    /// Something is done to the lab, by which packets that are owed may not come.
    pub fn forgive(&mut self) {
        self.peers.values_mut().for_each(|peer| peer.owed = None);
    }

    /// The longest time beyond its interval that a peer took for a packet, and the peer; none when
    /// none was late.
    pub fn longest(&self) -> Option<(&str, Duration)> {
        let late = self.peers.values().filter(|peer| !peer.longest.is_zero());
        late.max_by_key(|peer| peer.longest).map(|peer| (peer.name.as_str(), peer.longest))
    }
}

impl Observer for PeerGaps {
    fn frame(&mut self, link: LinkIndex, direction: Direction, bytes: &[u8], now: Instant) {
        if direction != Direction::Forward {
            return;
        }
        let Some((source, packet)) = control_packet(bytes) else { return };
        if let Some(peer) = self.peers.get_mut(&(link, source)) {
            peer.sends(&packet, now);
        }
    }
}

impl Peer {
    fn sends(&mut self, packet: &Repr, now: Instant) {
        if let Some(owed) = self.owed.take()
            && owed.discriminator == packet.my_discriminator
            && packet.state != State::AdminDown
        {
            self.longest = self.longest.max(now.since(owed.by));
        }
        // An interval that is asked for counts when it is confirmed (6.5).
        if packet.state == State::Up && !packet.poll {
            let desired = Duration::from_micros(packet.desired_min_tx_us.into());
            let by = now + desired.max(self.required_min_rx);
            self.owed = Some(Owed { discriminator: packet.my_discriminator, by });
        }
    }
}

/// The source and the content of a BFD packet (RFC 5881).
fn control_packet(frame: &[u8]) -> Option<(IpAddr, Repr)> {
    let tags = vlan::Tags::parse(frame).ok()?;
    let packet = &frame[tags.payload_offset..];
    let (source, datagram) = match tags.ethertype {
        ethertype::IPV4 => {
            let view = ipv4::View::new(packet).ok()?;
            let is_whole = view.protocol() == protocol::UDP && !view.is_fragment();
            is_whole.then(|| (view.source().into(), view.payload()))?
        }
        ethertype::IPV6 => {
            let view = ipv6::View::new(packet).ok()?;
            let is_udp = view.next_header() == protocol::UDP;
            is_udp.then(|| (view.source().into(), view.payload()))?
        }
        _ => return None,
    };
    let datagram = udp::View::new(datagram).ok()?;
    if datagram.destination_port() != bfd::PORT {
        return None;
    }
    let content = View::new(datagram.payload()).and_then(|view| Repr::parse(&view));
    content.ok().map(|packet| (source, packet))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::config::drill::Directions;
    use crate::config::{NodeRef, Place, Segment};
    use crate::fabric::{Fault, FaultScope, Impairment};

    const INTERVAL: Duration = Duration::from_millis(300);
    /// Discriminators of a peer's sessions, one after the other.
    const ONE: u32 = 1;
    const ANOTHER: u32 = 2;

    fn peer() -> Peer {
        let (name, longest) = ("ce1 (172.16.0.1)".to_owned(), Duration::ZERO);
        Peer { name, required_min_rx: INTERVAL, owed: None, longest }
    }

    fn packet(my_discriminator: u32, state: State) -> Repr {
        let asked = Repr::sample(state, my_discriminator, 9);
        Repr { desired_min_tx_us: 50_000, required_min_rx_us: 50_000, ..asked }
    }

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    /// How late a peer is of whom two packets were seen, 900 ms apart.
    fn late(first: Repr, second: Repr) -> u128 {
        let mut peer = peer();
        peer.sends(&first, at(0));
        peer.sends(&second, at(900));
        peer.longest.as_millis()
    }

    #[test]
    fn who_is_up_owes_the_next_packet_within_the_slower_interval() {
        let up = packet(ONE, State::Up);
        let slower = Repr { desired_min_tx_us: 400_000, ..up };
        assert_eq!(late(up, up), 600, "the MSEE's 300 ms");
        assert_eq!(late(slower, up), 500, "its own 400 ms");
        assert_eq!(late(up, packet(ONE, State::Down)), 600, "asleep, it has heard nothing");
    }

    #[test]
    fn who_ends_or_is_not_up_owes_nothing() {
        let up = packet(ONE, State::Up);
        for (first, second) in [
            (up, packet(ONE, State::AdminDown)),
            (up, packet(ANOTHER, State::Down)),
            (packet(ONE, State::Down), up),
            (packet(ONE, State::Init), up),
            (Repr { poll: true, desired_min_tx_us: 50_000, ..up }, up),
        ] {
            assert_eq!(late(first, second), 0, "{first:?}, then {second:?}");
        }
    }

    #[test]
    fn what_is_owed_when_something_is_done_is_forgiven() {
        let key = (LinkIndex(0), IpAddr::from([172, 16, 0, 1]));
        let mut gaps = PeerGaps { peers: [(key, peer())].into() };
        let peer = |gaps: &mut PeerGaps, ms| {
            gaps.peers.get_mut(&key).unwrap().sends(&packet(ONE, State::Up), at(ms));
        };
        peer(&mut gaps, 0);
        gaps.forgive();
        peer(&mut gaps, 900);
        assert_eq!(gaps.longest(), None);
        peer(&mut gaps, 1_300);
        assert_eq!(gaps.longest(), Some(("ce1 (172.16.0.1)", Duration::from_millis(100))));
    }

    #[test]
    fn what_is_owed_when_it_begins_to_count_is_late_and_what_was_late_is_not() {
        let key = (LinkIndex(0), IpAddr::from([172, 16, 0, 1]));
        let mut gaps = PeerGaps { peers: [(key, peer())].into() };
        let peer = |gaps: &mut PeerGaps, ms| {
            gaps.peers.get_mut(&key).unwrap().sends(&packet(ONE, State::Up), at(ms));
        };
        peer(&mut gaps, 0);
        peer(&mut gaps, 900);
        gaps.begin();
        assert_eq!(gaps.longest(), None);
        peer(&mut gaps, 1_300);
        assert_eq!(gaps.longest(), Some(("ce1 (172.16.0.1)", Duration::from_millis(100))));
    }

    /// In virtual time nobody is late, whatever is broken.
    #[test]
    fn no_fault_makes_a_peer_late() {
        let path = Path::new("fixtures/labs/quickstart.yaml");
        let file = config::load_lab(path, &std::fs::read_to_string(path).unwrap()).unwrap();
        let place = CircuitLink { circuit: "ams".to_owned(), link: LinkRole::Primary };
        let at = |segment| Place { circuit: "ams".to_owned(), link: LinkRole::Primary, segment };
        let session = SessionRef::Link(place.clone());
        let msee = NodeRef::Msee(place.clone());
        let edge = NodeRef::SiteRouter("ce1".to_owned());
        let poor = Fault::Impair(Impairment {
            loss_ppm: 500_000,
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(500),
            ..Impairment::default()
        });
        let mut lab = Lab::new(&file, 1);
        let mut nobody = PeerGaps { peers: BTreeMap::new() };
        lab.run_until(lab.now() + Duration::from_secs(20), &mut nobody);
        assert!(lab.is_converged());
        let mut gaps = PeerGaps::watch(&mut lab);
        assert_eq!(gaps.peers.len(), 2);
        let acts: &[&dyn Fn(&mut Lab)] = &[
            &|_| {},
            &|lab| lab.break_at(&at(Segment::Access), Directions::Both, Fault::Cut),
            &|lab| lab.mend_at(&at(Segment::Access)),
            &|lab| {
                let scope = FaultScope::Control;
                lab.break_at(&at(Segment::Nni), Directions::Both, Fault::Blackhole(scope));
            },
            &|lab| lab.mend_at(&at(Segment::Nni)),
            &|lab| lab.break_at(&at(Segment::Access), Directions::Both, poor),
            &|lab| lab.mend_at(&at(Segment::Access)),
            &|lab| lab.set_bfd(&session, false),
            &|lab| lab.set_bfd(&session, true),
            &|lab| lab.shut_session(&session, true),
            &|lab| lab.shut_session(&session, false),
            &|lab| lab.disconnect(&place, true),
            &|lab| lab.disconnect(&place, false),
            &|lab| lab.crash(&msee),
            &|lab| lab.revive(&msee),
            &|lab| lab.crash(&edge),
            &|lab| lab.revive(&edge),
            &|lab| lab.restart(&edge),
        ];
        for act in acts {
            act(&mut lab);
            gaps.forgive();
            lab.run_until(lab.now() + Duration::from_secs(20), &mut gaps);
        }
        assert_eq!(gaps.longest(), None);
        assert!(gaps.peers.values().all(|peer| peer.owed.is_some()), "they are Up and seen");
    }
}
