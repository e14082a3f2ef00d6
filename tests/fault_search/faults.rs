//! What is done to a lab while it runs, at random places and times, and how it is undone.

use std::time::Duration;

use msee::config::drill::{Directions, Families};
use msee::config::lab::{PeeringType, Site};
use msee::config::{CircuitLink, NodeRef, PeeringRef, Place, Segment, SessionRef};
use msee::fabric::{Fault, FaultScope, Impairment};
use msee::lab::Lab;
use msee::model::{Bandwidth, LinkRole, Prefix};

use crate::generate::{Dice, World};

/// An act of an operator, of the world, or of fate.
#[derive(Clone, Debug)]
pub enum Act {
    Break(Place, Directions, Fault),
    Mend(Place),
    Crash(NodeRef),
    Restart(NodeRef),
    Shut(SessionRef, bool),
    Reset(SessionRef),
    Bfd(SessionRef, bool),
    Drain(CircuitLink, Option<u8>),
    Disconnect(CircuitLink, bool),
    Bandwidth(String, Bandwidth),
    Peering(PeeringRef, Families, bool),
    Announce(String, Prefix, bool),
    ForgetAnnouncements(String),
}

/// One to six acts, each with the time since the last one.
pub fn schedule(world: &World, dice: &mut Dice) -> Vec<(Duration, Act)> {
    (0..dice.between(1, 6)).map(|_| (wait(dice), act(world, dice))).collect()
}

/// Everything an act can have changed, undone in any order.
pub fn restoration(world: &World, dice: &mut Dice) -> Vec<Act> {
    let mut acts = Vec::new();
    for circuit in &world.lab.circuits {
        for link in LinkRole::BOTH {
            let place = CircuitLink { circuit: circuit.name.clone(), link };
            for segment in SEGMENTS {
                acts.push(Act::Mend(Place { circuit: circuit.name.clone(), link, segment }));
            }
            acts.push(Act::Drain(place.clone(), None));
            acts.push(Act::Disconnect(place, false));
        }
        acts.push(Act::Bandwidth(circuit.name.clone(), circuit.bandwidth));
        acts.push(Act::Peering(peering(&circuit.name), Families::Both, true));
    }
    acts.extend(nodes(world).into_iter().map(Act::Restart));
    for session in sessions(world) {
        acts.push(Act::Shut(session.clone(), false));
        acts.push(Act::Bfd(session, true));
    }
    acts.extend(routers(world).map(|router| Act::ForgetAnnouncements(router.to_owned())));
    dice.shuffle(&mut acts);
    acts
}

impl Act {
    pub fn perform(&self, lab: &mut Lab) {
        match self {
            Self::Break(place, directions, fault) => lab.break_at(place, *directions, *fault),
            Self::Mend(place) => lab.mend_at(place),
            Self::Crash(node) => lab.crash(node),
            Self::Restart(node) => lab.restart(node),
            Self::Shut(session, shut) => lab.shut_session(session, *shut),
            Self::Reset(session) => lab.reset_session(session),
            Self::Bfd(session, enabled) => lab.set_bfd(session, *enabled),
            Self::Drain(place, prepends) => lab.drain(place, *prepends),
            Self::Disconnect(place, shut) => lab.disconnect(place, *shut),
            Self::Bandwidth(circuit, bandwidth) => lab.set_bandwidth(circuit, *bandwidth),
            Self::Peering(peering, families, on) => lab.set_peering(peering, *families, *on),
            Self::Announce(router, prefix, present) => lab.announce(router, *prefix, *present),
            Self::ForgetAnnouncements(router) => lab.forget_announcements(router),
        }
    }

    /// As part of a restoration: a router that runs is left alone.
    pub fn undo(&self, lab: &mut Lab) {
        match self {
            Self::Restart(node) if lab.is_up(node) => {}
            other => other.perform(lab),
        }
    }
}

const SEGMENTS: [Segment; 3] = [Segment::Access, Segment::Nni, Segment::Core];

/// Often none, mostly within a second, sometimes long enough for a hold timer.
fn wait(dice: &mut Dice) -> Duration {
    match dice.between(0, 9) {
        0..2 => Duration::ZERO,
        2..4 => dice.millis(0, 5),
        4..9 => dice.millis(0, 1500),
        _ => dice.millis(1500, 10_000),
    }
}

fn act(world: &World, dice: &mut Dice) -> Act {
    let circuit = dice.pick(&world.lab.circuits).name;
    let link = dice.pick(&LinkRole::BOTH);
    let on_link = CircuitLink { circuit: circuit.clone(), link };
    let place = Place { circuit: circuit.clone(), link, segment: dice.pick(&SEGMENTS) };
    let node = dice.pick(&nodes(world));
    let session = dice.pick(&sessions(world));
    match dice.between(0, 16) {
        0..2 => Act::Break(place, Directions::Both, Fault::Cut),
        2..6 => Act::Break(place, directions(dice), fault(dice)),
        6 => Act::Mend(place),
        7 => Act::Crash(node),
        8 => Act::Restart(node),
        9 => Act::Shut(session, dice.chance(70)),
        10 => Act::Reset(session),
        11 => Act::Bfd(session, dice.chance(40)),
        12 => Act::Drain(on_link, dice.pick(&[Some(8), Some(1), None])),
        13 => Act::Disconnect(on_link, dice.chance(70)),
        14 => Act::Bandwidth(circuit, Bandwidth::from_bps(dice.between(100_000, 10_000_000))),
        15 => Act::Peering(peering(&circuit), families(dice), dice.chance(30)),
        _ => {
            let routers: Vec<_> = routers(world).collect();
            Act::Announce(dice.pick(&routers).to_owned(), prefix(dice), dice.chance(60))
        }
    }
}

fn directions(dice: &mut Dice) -> Directions {
    dice.pick(&[Directions::Both, Directions::ToAzure, Directions::ToOnprem])
}

fn families(dice: &mut Dice) -> Families {
    dice.pick(&[Families::Both, Families::Ipv4, Families::Ipv6])
}

fn fault(dice: &mut Dice) -> Fault {
    match dice.between(0, 5) {
        0 => Fault::Blackhole(FaultScope::All),
        1 => Fault::Blackhole(FaultScope::Data),
        2 => Fault::Blackhole(FaultScope::Control),
        _ => Fault::Impair(Impairment {
            loss_ppm: dice.pick(&[0, 10_000, 300_000, 900_000]),
            delay: dice.millis(0, 200),
            jitter: dice.millis(0, 100),
            rate: dice.pick(&[None, None, Some(64_000), Some(1_000_000)]).map(Bandwidth::from_bps),
            ..Impairment::default()
        }),
    }
}

/// Prefixes that are somebody's own, parts of them, and strangers.
fn prefix(dice: &mut Dice) -> Prefix {
    let prefixes = [
        "192.168.0.0/22",
        "192.168.1.0/24",
        "10.1.0.0/16",
        "10.1.0.4/32",
        "172.20.0.0/16",
        "0.0.0.0/0",
        "fd20:0:0:1::/64",
        "fd10::/48",
        "::/0",
    ];
    dice.pick(&prefixes).parse().unwrap()
}

fn peering(circuit: &str) -> PeeringRef {
    let peering_type = PeeringType::AzurePrivatePeering;
    PeeringRef { circuit: circuit.to_owned(), peering_type }
}

/// Routers a drill can crash.
fn nodes(world: &World) -> Vec<NodeRef> {
    let mut nodes: Vec<_> =
        routers(world).map(|name| NodeRef::SiteRouter(name.to_owned())).collect();
    for circuit in &world.lab.circuits {
        for link in LinkRole::BOTH {
            nodes.push(NodeRef::Msee(CircuitLink { circuit: circuit.name.clone(), link }));
        }
    }
    for vnet in &world.lab.virtual_networks {
        for instance in [Some(0), Some(1), None] {
            let (vnet, gateway) = (vnet.name.clone(), vnet.gateways[0].name.clone());
            nodes.push(NodeRef::Gateway { vnet, gateway, instance });
        }
    }
    nodes
}

fn sessions(world: &World) -> Vec<SessionRef> {
    let mut sessions = Vec::new();
    for circuit in &world.lab.circuits {
        for link in LinkRole::BOTH {
            sessions.push(SessionRef::Link(CircuitLink { circuit: circuit.name.clone(), link }));
        }
    }
    for vnet in &world.lab.virtual_networks {
        for connection in &vnet.gateways[0].connections {
            for link in LinkRole::BOTH {
                let (vnet, gateway) = (vnet.name.clone(), vnet.gateways[0].name.clone());
                let circuit = connection.circuit.clone();
                sessions.push(SessionRef::Between(
                    NodeRef::Gateway { vnet, gateway, instance: Some(link as u8) },
                    NodeRef::Msee(CircuitLink { circuit, link }),
                ));
            }
        }
    }
    for site in &world.lab.sites {
        sessions.extend(internal_sessions(site));
    }
    sessions
}

fn internal_sessions(site: &Site) -> impl Iterator<Item = SessionRef> {
    site.routers.iter().flat_map(|router| {
        router.ibgp.iter().filter(|other| router.name < **other).map(|other| {
            let [a, b] = [&router.name, other].map(|name| NodeRef::SiteRouter(name.clone()));
            SessionRef::Between(a, b)
        })
    })
}

fn routers(world: &World) -> impl Iterator<Item = &str> {
    world.lab.sites.iter().flat_map(|site| &site.routers).map(|router| router.name.as_str())
}
