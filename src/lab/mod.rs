//! A lab file brought to life: the routers `azure::compile` and [`sites`] give, the hosts, the
//! links, and the acts a drill can do to them.
//!
//! A lab reaches a router by `apply`, `operate` and `snapshot`, and the rest by links and
//! processes; desired state is always `compile(lab file as changed)` with an [`Overlay`] on top.

pub mod attach;
mod capture;
pub mod daemons;
pub mod diagnosis;
pub mod edge;
mod host;
mod kernel_tcp;
pub mod operator;
pub mod peer_gap;
mod programs;
pub mod replay;
pub mod sandbox;
pub mod show;
mod sites;
pub mod socket;
pub mod tables;
pub mod watch;
pub mod wire;
pub mod wiring;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::azure::{self, CompiledLink};
use crate::config::drill::{Directions, Families};
use crate::config::lab::{self as file, Policer, VirtualNetwork};
use crate::config::{CircuitLink, HostRef, NodeRef, PeeringRef, Place, Segment, SessionRef};
use crate::fabric::{
    Altered, Direction, Fault, LinkConfig, LinkIndex, NodeIndex, Observer, RealTime, Totals,
    Workers,
};
use crate::io::unplugged::Unplugged;
use crate::io::{self, Port};
use crate::lab::kernel_tcp::KernelTcp;
use crate::lab::operator::Operator;
use crate::lab::replay::Replays;
use crate::model::{
    Bandwidth, Instant, LinkRole, OriginatedPrefix, PortIndex, Prefix, Role, RouterConfig,
};
use crate::router::{Counters, Launcher, Ledger, Operation, Router, SessionRow, Snapshot};
use crate::telemetry::{Event, EventKind};
use crate::traffic::{Host, HostConfig, TcpFlow, TcpReceived, TcpSent};

pub use host::HostNode;

/// IP MTU of hosts: what reaches a VM end to end (L-26).
const HOST_MTU: u16 = 1400;
/// Devices that a router can be replaced by before their MACs come round.
const OTHER_DEVICES_MAX: u8 = 60;
/// The highest number a host's port MAC is made from; counts down.
const LAST_HOST_NUMBER: u16 = 0x7fff;

/// Ports of the host in the place of hosts and of routers that are not built in, by the names of
/// their links.
pub type Ports = BTreeMap<String, Box<dyn Port>>;

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    /// As it was read; what a restore goes back to.
    read: file::Lab,
    /// As events changed it.
    file: file::Lab,
    overlay: Overlay,
    fabric: Workers<HostNode>,
    /// None in virtual time.
    clock: Option<RealTime>,
    /// By the host's clock, what writes to and reads from TCP flows.
    kernel_tcp: Option<KernelTcp>,
    desired: BTreeMap<String, RouterConfig>,
    /// Names of the site routers that are programs of somebody else's: links to them end in ports,
    /// and what they do is seen from the other end.
    external: BTreeSet<String>,
    /// Who acts on those in the customer's name.
    operator: Operator,
    /// Routers and their ports that would lead to one of these, where nothing is plugged in.
    unplugged: BTreeSet<(String, String)>,
    routers: BTreeMap<String, NodeIndex>,
    hosts: BTreeMap<String, NodeIndex>,
    /// Ports of the host, by the names of their links.
    ports: BTreeMap<String, NodeIndex>,
    links: BTreeMap<String, LinkIndex>,
    replays: Replays,
}

/// What operators changed on routers beside the lab file.
#[derive(Clone, Debug, Default)]
struct Overlay {
    /// Sessions shut, by router and neighbour.
    shut: BTreeSet<(String, String)>,
    without_bfd: BTreeSet<(String, String)>,
    /// Prefixes announced beside those of the file, by router.
    announced: BTreeSet<(String, Prefix)>,
    withdrawn: BTreeSet<(String, Prefix)>,
    /// How often a router was replaced by another device, and whether the last tells its links of
    /// its addresses.
    replaced: BTreeMap<String, (u8, bool)>,
    /// VRFs drained, with the prepends, by router.
    drained: BTreeMap<(String, String), u8>,
}

/// What of a lab on real frames runs where.
#[derive(Clone, Copy, Default, Debug)]
pub struct Execution<'p> {
    /// msee's own program, which runs the control plane of each router in a process of its own;
    /// without it they run in this one.
    pub program: Option<&'p Path>,
    /// Threads that forward, one where it is less. Each MSEE is given to the next of them, then the
    /// customers' side with the providers, then the gateways with the VNets.
    pub workers: usize,
}

/// One end of a BGP session: the router, its VRF, and what it calls the neighbour there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SessionEnd {
    pub router: String,
    pub vrf: String,
    pub neighbor: String,
}

impl Lab {
    /// A lab in virtual time.
    pub fn new(file: &file::Lab, seed: u64) -> Self {
        Self::build(file, seed, None, BTreeSet::new(), [Ports::new(), Ports::new()])
    }

    /// A lab on real frames, whose time begins now. `near` are ports at the routers' ends of links
    /// to hosts, `far` those at the hosts' ends. A host that has only the first is not the lab's own,
    /// and no router of kind `frr` or `bird` is: `near` has a port for each link to one as well.
    pub fn on_wire(
        file: &file::Lab,
        seed: u64,
        near: Ports,
        far: Ports,
        execution: Execution<'_>,
    ) -> Self {
        let external = attach::outside(file);
        Self::build(file, seed, Some((RealTime::start(), execution)), external, [near, far])
    }

    /// A part of a lab on real frames: the routers of `outside` are somebody else's, and so are the
    /// hosts that `ports` has a port for. What leads to the others of these and has no port is not
    /// plugged in: no carrier, and no session is expected there.
    pub fn part_on_wire(
        file: &file::Lab,
        seed: u64,
        outside: BTreeSet<String>,
        ports: Ports,
        execution: Execution<'_>,
    ) -> Self {
        let on_wire = Some((RealTime::start(), execution));
        Self::build(file, seed, on_wire, outside, [ports, Ports::new()])
    }

    fn build(
        file: &file::Lab,
        seed: u64,
        on_wire: Option<(RealTime, Execution<'_>)>,
        external: BTreeSet<String>,
        mut ports: [Ports; 2],
    ) -> Self {
        let (clock, execution) = on_wire.unzip();
        let workers = execution.map_or(1, |execution| execution.workers.max(1));
        let mut lab = Self {
            read: file.clone(),
            file: file.clone(),
            overlay: Overlay::default(),
            fabric: Workers::new(seed, workers),
            clock,
            kernel_tcp: None,
            desired: BTreeMap::new(),
            external,
            operator: Operator::default(),
            unplugged: BTreeSet::new(),
            routers: BTreeMap::new(),
            hosts: BTreeMap::new(),
            ports: BTreeMap::new(),
            links: BTreeMap::new(),
            replays: Replays::default(),
        };
        if let (Some(clock), Some(program)) = (&lab.clock, execution.and_then(|e| e.program)) {
            let (program, lab_name) = (program.to_owned(), file.name.clone());
            let launcher = Launcher { program, lab: lab_name, zero: clock.zero() };
            lab.fabric.set_launcher(&launcher);
        }
        let links = azure::compile(file).links.into_iter().chain(sites::compile(file).links);
        let leads_out = links.filter(|link| !ports[0].contains_key(&link.name));
        lab.unplugged = leads_out.filter_map(|link| lab.inner_end(&link)).collect();
        let (routers, links) = lab.compile();
        let mut msees = 0;
        let inside = routers.iter().filter(|config| !lab.is_external(&config.name));
        let sides = inside.filter(|config| config.role == Role::Msee).count();
        for config in &routers {
            if !lab.is_external(&config.name) {
                let turn = match config.role {
                    Role::Msee => msees,
                    Role::Edge | Role::Provider => sides,
                    Role::Gateway | Role::Vnet => sides + 1,
                };
                msees += usize::from(config.role == Role::Msee);
                let node = lab.fabric.add_router(turn % workers, config);
                lab.routers.insert(config.name.clone(), node);
            }
            lab.desired.insert(config.name.clone(), config.clone());
        }
        // A link that follows another comes after it.
        let (following, others): (Vec<_>, Vec<_>) =
            links.iter().partition(|link| link.name.ends_with(":access"));
        for link in others.into_iter().chain(following) {
            lab.add_link(link, &mut ports[0]);
        }
        lab.add_hosts(seed, &mut ports);
        lab
    }

    pub const fn file(&self) -> &file::Lab {
        &self.file
    }

    pub fn now(&self) -> Instant {
        self.fabric.now()
    }

    pub fn run_until(&mut self, end: Instant, observer: &mut dyn Observer) {
        for (router, error) in self.operator.advance() {
            self.fabric.record(&router, EventKind::Fault, error.to_string());
        }
        match &mut self.clock {
            Some(clock) => clock.run_workers(&mut self.fabric, end, observer),
            None => self.fabric.run_until(end, observer),
        }
    }

    /// The longest time that the host kept the lab from running, since this was last asked; none in
    /// virtual time.
    pub fn take_longest_stall(&mut self) -> Duration {
        self.clock.as_mut().map_or(Duration::ZERO, RealTime::take_longest_stall)
    }

    /// Packets that the host's own network lost so far, between the lab's ports.
    pub fn lost_by_host(&mut self) -> u64 {
        self.fabric.lost_by_ports()
    }

    pub fn events(&self) -> &[Event] {
        self.fabric.events()
    }

    /// As [`EventLog::since`](crate::telemetry::EventLog::since).
    pub fn events_since(&self, number: usize) -> (usize, &[Event]) {
        self.fabric.events_since(number)
    }

    /// As [`EventLog::recorded`](crate::telemetry::EventLog::recorded).
    pub const fn events_recorded(&self) -> usize {
        self.fabric.events_recorded()
    }

    /// As [`EventLog::forget`](crate::telemetry::EventLog::forget).
    pub fn forget_events(&mut self, before: usize) {
        self.fabric.forget_events(before);
    }

    pub fn record(&mut self, node: &str, kind: EventKind, detail: impl Into<String>) {
        self.fabric.record(node, kind, detail);
    }

    /// The books of the whole lab.
    pub fn totals(&self) -> Totals {
        self.fabric.totals()
    }

    /// The books of each router and host, by name.
    pub fn node_ledgers(&self) -> impl Iterator<Item = (&str, Ledger)> {
        let nodes = self.routers.iter().chain(&self.hosts);
        nodes.map(|(name, &node)| (name.as_str(), self.fabric[node].ledger(node)))
    }

    /// The books of each direction of each link, by the link's name.
    pub fn link_ledgers(&self) -> impl Iterator<Item = (&str, &Ledger)> {
        self.fabric.link_ledgers()
    }

    /// What each direction of each link did to frames that it did not lose, by the link's name.
    pub fn altered(&self) -> impl Iterator<Item = (&str, Altered)> {
        self.fabric.altered()
    }

    /// Frames of the whole lab that are not free: none when nothing is on the way.
    pub fn frames_in_use(&self) -> usize {
        self.fabric.frames_in_use()
    }

    /// Names of the routers that are up or should be, in order.
    pub fn router_names(&self) -> impl Iterator<Item = &str> {
        self.routers.keys().map(String::as_str)
    }

    /// A router as it is; none while it is down.
    pub fn snapshot(&self, router: &str) -> Option<Snapshot> {
        self.router(router).map(|router| router.snapshot(self.now()))
    }

    /// Counters of a router as they are; none while it is down.
    pub fn counters(&self, router: &str) -> Option<Counters> {
        self.router(router).map(Router::counters)
    }

    /// The sessions of the routers that are up, with the router: no tables, so that it costs little.
    pub fn sessions(&self) -> impl Iterator<Item = (&str, SessionRow)> {
        let running = self.routers.keys().filter_map(|name| Some((name, self.router(name)?)));
        running.flat_map(|(name, router)| {
            router.session_rows(self.now()).into_iter().map(move |row| (name.as_str(), row))
        })
    }

    /// What a router is to be; what is not a router has none.
    pub fn desired(&self, router: &str) -> Option<&RouterConfig> {
        self.desired.get(router)
    }

    pub fn has_carrier(&self, link: LinkIndex) -> bool {
        self.fabric[link].has_carrier(link)
    }

    /// What ports of the host carried and did not, by the names of their links.
    pub fn port_counters(&mut self) -> Vec<(String, io::PortCounters)> {
        let ports = self.ports.iter();
        ports.map(|(name, &node)| (name.clone(), self.fabric[node].port_counters(node))).collect()
    }

    /// Takes the port of the host back that a link is on; nothing is plugged in there any more.
    fn take_port(&mut self, link: &str) -> Option<Box<dyn Port>> {
        let node = self.ports.remove(link)?;
        self.fabric[node].take_port(node)
    }

    /// How many prefixes of a family the MSEE takes on a session (L-13, L-14); none for a session
    /// that is not of a customer with an MSEE.
    pub fn prefix_limit(&self, session: &SessionRef, ipv6: bool) -> Option<u64> {
        let SessionRef::Link(place) = session else { return None };
        Some(self.circuit(&place.circuit).prefix_limit(ipv6))
    }

    /// Names of the routers a reference stands for; several for a gateway.
    pub fn routers_of(&self, node: &NodeRef) -> Vec<String> {
        match node {
            NodeRef::SiteRouter(name) => vec![name.clone()],
            NodeRef::Msee(place) => {
                let circuit = self.circuit(&place.circuit);
                vec![azure::msee_name(&self.file, circuit, place.link)]
            }
            NodeRef::Gateway { vnet, gateway, instance } => {
                let vnet = self.vnet(vnet);
                let gateway = vnet.gateway(gateway).expect("a checked drill names gateways it has");
                let all = instance.map_or(0..gateway.instances(), |one| one..one + 1);
                all.map(|i| azure::gateway_instance(vnet, gateway, i)).collect()
            }
        }
    }

    /// What neighbours call a router: an MSEE by its link, others by name.
    pub fn neighbor_names(&self, node: &NodeRef) -> Vec<String> {
        let bases = match node {
            NodeRef::Msee(place) => vec![format!("{}/{}", place.circuit, place.link)],
            NodeRef::SiteRouter(_) | NodeRef::Gateway { .. } => self.routers_of(node),
        };
        bases.iter().flat_map(|base| family_names(base)).collect()
    }

    /// VRF of a node reference in which a prefix is looked for.
    pub fn vrf_of(&self, node: &NodeRef) -> String {
        match node {
            NodeRef::Msee(place) => {
                let circuit = self.circuit(&place.circuit);
                circuit.peerings.first().map(|peering| azure::vrf_name(circuit, peering))
            }
            NodeRef::SiteRouter(_) | NodeRef::Gateway { .. } => None,
        }
        .unwrap_or_else(|| sites::MAIN.to_owned())
    }

    /// Both ends of a session, the one that acts first: the customer's for a circuit's link.
    pub fn session_ends(&self, session: &SessionRef) -> Vec<[SessionEnd; 2]> {
        let main = || sites::MAIN.to_owned();
        match session {
            SessionRef::Link(place) => {
                let Some((_, edge)) = self.file.edge_of(&place.circuit, place.link) else {
                    return Vec::new();
                };
                let node = NodeRef::Msee(place.clone());
                let msee = self.routers_of(&node).remove(0);
                let customer = SessionEnd {
                    router: edge.name.clone(),
                    vrf: main(),
                    neighbor: format!("{}/{}", place.circuit, place.link),
                };
                let microsoft = SessionEnd {
                    router: msee,
                    vrf: self.vrf_of(&node),
                    neighbor: edge.name.clone(),
                };
                vec![[customer, microsoft]]
            }
            SessionRef::Between(a, b) => {
                let end =
                    |own: &NodeRef, name: &str, other: &NodeRef, other_name: &str| SessionEnd {
                        router: name.to_owned(),
                        vrf: self.vrf_of(own),
                        neighbor: match other {
                            NodeRef::Msee(place) => format!("{}/{}", place.circuit, place.link),
                            NodeRef::SiteRouter(_) | NodeRef::Gateway { .. } => {
                                other_name.to_owned()
                            }
                        },
                    };
                let mut ends = Vec::new();
                for first in self.routers_of(a) {
                    for second in self.routers_of(b) {
                        ends.push([end(a, &first, b, &second), end(b, &second, a, &first)]);
                    }
                }
                ends
            }
        }
    }

    /// Ends of a session that can be looked at: the one that acts first, or where that is outside the
    /// other.
    pub fn session_ends_seen(&self, session: &SessionRef) -> Vec<SessionEnd> {
        let seen = |[first, second]: [SessionEnd; 2]| {
            if self.is_external(&first.router) { second } else { first }
        };
        self.session_ends(session).into_iter().map(seen).collect()
    }

    /// Links of a place, each with the direction that leads to Azure.
    pub fn links_at(&self, place: &Place) -> Vec<LinkIndex> {
        let circuit = self.circuit(&place.circuit);
        let link = place.link;
        match place.segment {
            Segment::Access => self.links.get(&format!("{}/{link}:access", circuit.name)),
            Segment::Nni => {
                self.links.get(&format!("{}/{link}:nni", azure::provider_name(circuit)))
            }
            Segment::Core => return self.core_links(circuit, link),
        }
        .copied()
        .into_iter()
        .collect()
    }

    /// The link between a customer's router and the provider, where there is such a router.
    pub fn access(&self, circuit: &str, link: LinkRole) -> Option<LinkIndex> {
        let place = Place { circuit: circuit.to_owned(), link, segment: Segment::Access };
        self.links_at(&place).first().copied()
    }

    /// The provider–MSEE link of a circuit, on which a packet shows which link it took.
    pub fn nni(&self, circuit: &str, link: LinkRole) -> Option<LinkIndex> {
        let place = Place { circuit: circuit.to_owned(), link, segment: Segment::Nni };
        self.links_at(&place).first().copied()
    }

    /// Frames that enter a link are shown to the observer.
    pub fn watch(&mut self, link: LinkIndex) {
        self.fabric[link].watch(link);
    }

    /// Ends [`Lab::watch`].
    pub fn unwatch(&mut self, link: LinkIndex) {
        self.fabric[link].unwatch(link);
    }

    pub fn break_at(&mut self, place: &Place, direction: Directions, fault: Fault) {
        let directions: &[Direction] = match direction {
            Directions::Both => &Direction::BOTH,
            Directions::ToAzure => &[Direction::Forward],
            Directions::ToOnprem => &[Direction::Backward],
        };
        for link in self.links_at(place) {
            self.fabric[link].break_link(link, directions, fault, &place.to_string());
        }
    }

    /// Puts a frame on the links of a place, as equipment of somebody else would.
    pub fn send_from_outside(&mut self, place: &Place, direction: Direction, frame: &[u8]) {
        for link in self.links_at(place) {
            self.fabric[link].send_from_outside(link, direction, frame);
        }
    }

    /// Takes off what was broken at a place; a link that other circuits share may stay broken.
    pub fn mend_at(&mut self, place: &Place) {
        for link in self.links_at(place) {
            self.fabric[link].mend_link(link, &place.to_string());
        }
    }

    pub fn crash(&mut self, node: &NodeRef) {
        for name in self.routers_of(node) {
            if let Some(&node) = self.routers.get(&name) {
                self.fabric[node].crash(node);
            } else if self.has_console(&name) {
                // Without a word: what dying programs say goes nowhere.
                for link in self.links_of(&name) {
                    self.fabric[link].break_link(link, &Direction::BOTH, Fault::Cut, &name);
                }
                self.operator.cut_power(&name);
            }
        }
    }

    /// Ends the control processes of a node; they come back by themselves
    /// ([`CONTROL_RESTART`](crate::router::CONTROL_RESTART)).
    pub fn kill_control(&mut self, node: &NodeRef) {
        for name in self.routers_of(node) {
            if let Some(&node) = self.routers.get(&name) {
                self.fabric[node].kill_control(node);
            }
        }
    }

    /// Puts another device in a router's place at once: the same configuration, other MACs. Whether
    /// it tells its links by gratuitous ARP or not, it asks for its BGP neighbours first, by which
    /// those on the link learn its MAC (RFC 826).
    pub fn replace_device(&mut self, router: &str, gratuitous_arp: bool) {
        let times = self.overlay.replaced.get(router).map_or(0, |(times, _)| *times);
        let times = times % OTHER_DEVICES_MAX + 1;
        self.overlay.replaced.insert(router.to_owned(), (times, gratuitous_arp));
        self.put_in_place(router);
    }

    /// Puts the first device back, if another is in its place.
    pub fn return_device(&mut self, router: &str) {
        if self.overlay.replaced.remove(router).is_some() {
            self.put_in_place(router);
        }
    }

    pub fn restart(&mut self, node: &NodeRef) {
        self.crash(node);
        self.revive(node);
    }

    /// Starts those of a node's routers that are down.
    pub fn revive(&mut self, node: &NodeRef) {
        for name in self.routers_of(node) {
            if self.operator.is_off(&name) {
                for link in self.links_of(&name) {
                    self.fabric[link].mend_link(link, &name);
                }
                self.operator.start(&name);
            } else if !self.is_external(&name) && self.router(&name).is_none() {
                self.start(&name);
            }
        }
    }

    pub fn is_up(&self, node: &NodeRef) -> bool {
        let up = |name: &String| self.is_external(name) || self.router(name).is_some();
        self.routers_of(node).iter().all(up)
    }

    /// Shuts a session at its first end, or opens it again.
    pub fn shut_session(&mut self, session: &SessionRef, shut: bool) {
        for [end, _] in self.session_ends(session) {
            self.set_shut(end, shut);
        }
        self.reconfigure();
    }

    /// Shuts the customer's sessions of a circuit's link at the MSEE, or opens them again.
    pub fn disconnect(&mut self, place: &CircuitLink, shut: bool) {
        for [_, end] in self.session_ends(&SessionRef::Link(place.clone())) {
            self.set_shut(end, shut);
        }
        self.reconfigure();
    }

    /// Closes every session in order, for good: to be followed by the time that takes.
    pub fn close_sessions(&mut self) {
        let (mut routers, _) = self.compile();
        for router in &mut routers {
            let neighbors = router.vrfs.iter_mut().flat_map(|vrf| &mut vrf.neighbors);
            neighbors.for_each(|neighbor| neighbor.enabled = false);
            if let Some(&node) = self.routers.get(&router.name) {
                self.fabric[node].apply(node, router);
            }
        }
    }

    /// Resets a session at its first end, or at the other where a router outside has that.
    pub fn reset_session(&mut self, session: &SessionRef) {
        for ends in self.session_ends(session) {
            let ours = ends.iter().find(|end| self.routers.contains_key(&end.router));
            let Some(end) = ours else { continue };
            for neighbor in family_names(&end.neighbor) {
                let operation = Operation::Reset { vrf: end.vrf.clone(), neighbor };
                self.fabric[self.routers[&end.router]]
                    .operate(self.routers[&end.router], &operation);
            }
        }
    }

    /// Takes BFD away from both ends of a session, or gives it back.
    pub fn set_bfd(&mut self, session: &SessionRef, enabled: bool) {
        for end in self.session_ends(session).into_iter().flatten() {
            let key = (end.router, end.neighbor);
            if enabled {
                self.overlay.without_bfd.remove(&key);
            } else {
                self.overlay.without_bfd.insert(key);
            }
        }
        self.reconfigure();
    }

    /// Drains the peerings of a circuit's link at its MSEE (L-49), or ends that.
    pub fn drain(&mut self, place: &CircuitLink, prepends: Option<u8>) {
        let node = NodeRef::Msee(place.clone());
        let key = (self.routers_of(&node).remove(0), self.vrf_of(&node));
        match prepends {
            Some(prepends) => self.overlay.drained.insert(key.clone(), prepends),
            None => self.overlay.drained.remove(&key),
        };
        self.operate_drain(&key, prepends);
    }

    pub fn set_bandwidth(&mut self, circuit: &str, bandwidth: Bandwidth) {
        for entry in self.file.circuits.iter_mut().filter(|entry| entry.name == circuit) {
            entry.bandwidth = bandwidth;
        }
        self.reconfigure();
    }

    /// The provider's own throttle of a circuit, each direction; none takes it off.
    pub fn set_provider_rate(&mut self, circuit: &str, rate: Option<Bandwidth>) {
        let read = self.circuit_read(circuit).provider.policer.clone();
        let policer = rate.map(|rate| match read {
            Some(read) => Policer { rate, ..read },
            None => Policer { rate, burst: Policer::BURST, polices_control: true },
        });
        self.set_policer(circuit, policer);
    }

    /// Makes the provider's throttle of a circuit what the lab file says.
    pub fn reset_provider_rate(&mut self, circuit: &str) {
        let policer = self.circuit_read(circuit).provider.policer.clone();
        self.set_policer(circuit, policer);
    }

    pub fn set_peering(&mut self, peering: &PeeringRef, families: Families, enabled: bool) {
        let circuits = self.file.circuits.iter_mut().filter(|entry| entry.name == peering.circuit);
        for entry in circuits.flat_map(|circuit| &mut circuit.peerings) {
            if entry.peering_type == peering.peering_type {
                for (subnets, family) in
                    [(&mut entry.ipv4, Families::Ipv4), (&mut entry.ipv6, Families::Ipv6)]
                {
                    if let Some(subnets) = subnets
                        && (families == family || families == Families::Both)
                    {
                        subnets.enabled = enabled;
                    }
                }
            }
        }
        self.reconfigure();
    }

    /// Enables or disables the families of a peering as the lab file does.
    pub fn reset_peering(&mut self, peering: &PeeringRef) {
        let read = self.read.circuit(&peering.circuit);
        let peerings = read.into_iter().flat_map(|circuit| &circuit.peerings);
        let of_type = peerings.filter(|entry| entry.peering_type == peering.peering_type);
        let families: Vec<_> = of_type
            .flat_map(|entry| [(Families::Ipv4, &entry.ipv4), (Families::Ipv6, &entry.ipv6)])
            .filter_map(|(family, subnets)| Some((family, subnets.as_ref()?.enabled)))
            .collect();
        for (family, enabled) in families {
            self.set_peering(peering, family, enabled);
        }
    }

    /// Announces or withdraws a prefix at a site's router.
    pub fn announce(&mut self, router: &str, prefix: Prefix, present: bool) {
        let key = (router.to_owned(), prefix);
        let (put, take) = if present {
            (&mut self.overlay.announced, &mut self.overlay.withdrawn)
        } else {
            (&mut self.overlay.withdrawn, &mut self.overlay.announced)
        };
        take.remove(&key);
        put.insert(key);
        self.reconfigure();
    }

    /// Forgets what was announced or withdrawn at a site's router.
    pub fn forget_announcements(&mut self, router: &str) {
        self.overlay.announced.retain(|(other, _)| other != router);
        self.overlay.withdrawn.retain(|(other, _)| other != router);
        self.reconfigure();
    }

    /// Changes a host; traffic is set up and read this way.
    pub fn with_host<T>(&mut self, name: &HostRef, act: impl FnOnce(&mut Host) -> T) -> T {
        let node = self.hosts[&name.to_string()];
        self.fabric[node]
            .with_endpoint(node, |host| act(&mut host.0))
            .expect("a host is an endpoint")
    }

    /// Begins TCP flows: in virtual time between models of hosts, by the host's clock between the
    /// kernels of their namespaces.
    pub fn start_tcp(&mut self, flows: Vec<TcpFlow>) {
        for flow in &flows {
            for end in BTreeSet::from([&flow.from.host, &flow.to.host]) {
                let on_wire = self.clock.is_some();
                let add = |host: &mut HostNode| {
                    if on_wire { host.0.leave_tcp_flow(flow) } else { host.0.add_tcp_flow(flow) }
                };
                let taken = self.fabric[self.hosts[end]].with_endpoint(self.hosts[end], add);
                let taken = taken.expect("a host is an endpoint");
                taken.expect("a checked drill's flows fit its hosts");
            }
        }
        if let Some(clock) = self.clock.as_ref().filter(|_| !flows.is_empty()) {
            let started = KernelTcp::start(flows, clock.now());
            self.kernel_tcp =
                Some(started.expect("namespaces and their sockets were tried before"));
        }
    }

    /// No TCP flow sends anything new then or later.
    pub fn stop_tcp(&mut self, at: Instant) {
        if let Some(kernel) = &self.kernel_tcp {
            kernel.stop(at);
        }
        for &node in self.hosts.values() {
            self.fabric[node].with_endpoint(node, |host| host.0.stop_tcp_flows(at));
        }
    }

    /// After the last flow: what became of them is complete.
    pub fn end_tcp(&mut self) {
        if let Some(kernel) = &mut self.kernel_tcp {
            kernel.end();
        }
    }

    /// What the two ends of a TCP flow have written down; none before the flow was started, and by
    /// the host's clock none before [`Lab::end_tcp`].
    pub fn tcp_records(&self, flow: &TcpFlow) -> Option<(&TcpSent, &TcpReceived)> {
        if let Some(kernel) = &self.kernel_tcp {
            return kernel.record(flow.id);
        }
        let host = |name: &str| {
            let &node = self.hosts.get(name)?;
            Some(&self.fabric[node].endpoint(node)?.0)
        };
        Some((
            host(&flow.from.host)?.tcp_sent(flow.id)?,
            host(&flow.to.host)?.tcp_received(flow.id)?,
        ))
    }

    pub fn host(&self, name: &HostRef) -> &Host {
        let host =
            self.fabric[self.hosts[&name.to_string()]].endpoint(self.hosts[&name.to_string()]);
        &host.expect("a host is an endpoint").0
    }

    pub fn hosts(&self) -> impl Iterator<Item = (&str, &Host)> {
        let host = |&node: &NodeIndex| self.fabric[node].endpoint(node);
        self.hosts.iter().filter_map(move |(name, node)| Some((name.as_str(), &host(node)?.0)))
    }

    /// Routers that are down and sessions that should be up and are not, as `router: neighbour
    /// state`.
    pub fn sessions_missing(&self) -> Vec<String> {
        let down = self.routers_down().map(|name| format!("{name} is down"));
        let told = self.missing().map(|(router, row)| diagnosis::state_of(router, &row));
        down.chain(told).collect()
    }

    /// Every session that should be up is, none is left with a router that was crashed, and no
    /// routing table waits for a timer.
    pub fn is_converged(&self) -> bool {
        let down: Vec<_> = self.routers_down().collect();
        let gone = |session: &SessionRow| {
            down.contains(&self.router_called(neighbor_base(&session.neighbor)).as_str())
        };
        let held = |router: &Router| {
            router.session_rows(self.now()).iter().any(|row| row.established && gone(row))
        };
        let mut running = self.routers.keys().filter_map(|name| self.router(name));
        running.all(|router| router.is_settled() && (down.is_empty() || !held(router)))
            && self.missing().all(|(_, session)| gone(&session))
    }

    fn routers_down(&self) -> impl Iterator<Item = &str> {
        let down = self.routers.keys().filter(|name| self.router(name).is_none());
        let off = self.external.iter().filter(|name| self.operator.is_off(name));
        down.chain(off).map(String::as_str)
    }

    /// Sessions of running routers that should be up and are not, with the router.
    fn missing(&self) -> impl Iterator<Item = (&str, SessionRow)> {
        self.sessions().filter(|(name, session)| {
            let down = session.enabled && !session.established;
            down && self.should_be_up(name, &session.neighbor)
        })
    }

    /// Name of the router that its neighbours call so.
    fn router_called(&self, neighbor: &str) -> String {
        let links = |circuit| LinkRole::BOTH.map(|link| (circuit, link));
        let mut links = self.file.circuits.iter().flat_map(links);
        let msee = links.find(|(circuit, link)| format!("{}/{link}", circuit.name) == neighbor);
        msee.map_or_else(
            || neighbor.to_owned(),
            |(circuit, link)| azure::msee_name(&self.file, circuit, link),
        )
    }

    /// Puts somebody at the consoles of the routers outside.
    pub fn set_operator(&mut self, mut operator: Operator) {
        self.external.iter().for_each(|router| operator.begin(&self.desired[router]));
        self.operator = operator;
    }

    /// Whether a router of the lab is outside the program: there is no snapshot of it, and what it
    /// is told it is told at its console.
    pub fn is_external(&self, router: &str) -> bool {
        self.external.contains(router)
    }

    /// Whether somebody is at the console of a router outside.
    pub fn has_console(&self, router: &str) -> bool {
        self.operator.has_console(router)
    }

    /// Whether any router is outside.
    pub fn has_external(&self) -> bool {
        !self.external.is_empty()
    }

    pub(crate) fn router(&self, name: &str) -> Option<&Router> {
        self.routers.get(name).and_then(|&node| self.fabric[node].router(node))
    }

    fn circuit(&self, name: &str) -> &file::Circuit {
        self.file.circuit(name).expect("a checked drill names circuits the lab has")
    }

    fn vnet(&self, name: &str) -> &VirtualNetwork {
        self.file.virtual_network(name).expect("a checked drill names VNets the lab has")
    }

    fn compile(&self) -> (Vec<RouterConfig>, Vec<CompiledLink>) {
        let mut azure = azure::compile(&self.file);
        let mut sites = sites::compile(&self.file);
        azure.routers.append(&mut sites.routers);
        azure.links.append(&mut sites.links);
        for router in &mut azure.routers {
            self.overlay.put_on(router);
            self.shut_unplugged(router);
        }
        (azure.routers, azure.links)
    }

    /// The end of a link that leads to a router outside.
    fn inner_end(&self, link: &CompiledLink) -> Option<(String, String)> {
        let (outside, inside): (Vec<_>, Vec<_>) =
            link.ends.iter().partition(|(router, _)| self.is_external(router));
        (outside.len() == 1).then(|| inside[0].clone())
    }

    /// No session is expected where nothing is plugged in.
    fn shut_unplugged(&self, router: &mut RouterConfig) {
        let ports = self.unplugged.iter().filter(|(name, _)| *name == router.name);
        for (_, port) in ports {
            let attachments = router.attachments.iter().filter(|entry| entry.port == *port);
            let names: Vec<_> = attachments.map(|attachment| &attachment.name).collect();
            let neighbors = router.vrfs.iter_mut().flat_map(|vrf| &mut vrf.neighbors);
            for neighbor in neighbors.filter(|neighbor| names.contains(&&neighbor.attachment)) {
                neighbor.enabled = false;
            }
        }
    }

    /// Makes every router what the lab file and the overlay say; those that differ are touched.
    fn reconfigure(&mut self) {
        let (routers, _) = self.compile();
        for config in routers {
            if self.desired.get(&config.name) == Some(&config) {
                continue;
            }
            if let Some(&node) = self.routers.get(&config.name) {
                self.fabric[node].apply(node, &config);
            } else if let Err(error) = self.operator.tell(&config) {
                self.fabric.record(&config.name, EventKind::Fault, error.to_string());
            }
            self.desired.insert(config.name.clone(), config);
        }
    }

    /// Starts a router that is down, with the drains it is to have.
    fn start(&mut self, name: &str) {
        self.fabric[self.routers[name]].restart(self.routers[name]);
        for (drained, prepends) in self.overlay.drained.clone() {
            if drained.0 == name {
                self.operate_drain(&drained, Some(prepends));
            }
        }
    }

    /// Ends the device that is in a router's place and starts the one that is to be there.
    fn put_in_place(&mut self, router: &str) {
        let Some(&node) = self.routers.get(router) else { return };
        self.fabric[node].crash(node);
        self.reconfigure();
        self.start(router);
    }

    fn circuit_read(&self, name: &str) -> &file::Circuit {
        self.read.circuit(name).expect("a checked drill names circuits the lab has")
    }

    fn set_policer(&mut self, circuit: &str, policer: Option<Policer>) {
        for entry in self.file.circuits.iter_mut().filter(|entry| entry.name == circuit) {
            entry.provider.policer.clone_from(&policer);
        }
        self.reconfigure();
    }

    fn set_shut(&mut self, end: SessionEnd, shut: bool) {
        let key = (end.router, end.neighbor);
        if shut {
            self.overlay.shut.insert(key);
        } else {
            self.overlay.shut.remove(&key);
        }
    }

    fn operate_drain(&mut self, (router, vrf): &(String, String), prepends: Option<u8>) {
        let vrf = vrf.clone();
        let operation = match prepends {
            Some(prepends) => Operation::Drain { vrf, prepends },
            None => Operation::Undrain { vrf },
        };
        if let Some(&node) = self.routers.get(router) {
            self.fabric[node].operate(node, &operation);
        }
    }

    fn add_link(&mut self, link: &CompiledLink, near: &mut Ports) {
        if link.ends.iter().all(|(router, _)| self.is_external(router)) {
            return;
        }
        let inside = link.ends.iter().find_map(|(router, _)| self.routers.get(router));
        let worker = inside.map_or(0, |node| node.worker());
        let mut end = |(router, port): &(String, String)| {
            if self.is_external(router) {
                let port = near.remove(&link.name);
                let port = port.unwrap_or_else(|| Box::new(Unplugged::default()));
                let node = self.fabric.add_port(worker, port);
                self.ports.insert(link.name.clone(), node);
                return (node, PortIndex(0));
            }
            let ports = &self.desired[router].ports;
            let index = ports.iter().position(|other| other.name == *port);
            let index = index.expect("a compiled link names ports of its routers");
            (self.routers[router], PortIndex(index as u16))
        };
        let ends = [end(&link.ends[0]), end(&link.ends[1])];
        let follows = self.followed_by(&link.name);
        let config = link_config(&link.name, link.delay, follows);
        let index =
            self.fabric.add_link(LinkConfig { shows_carrier: link.shows_carrier, ..config }, ends);
        self.links.insert(link.name.clone(), index);
    }

    /// The access link follows the provider's other side where carrier follows.
    fn followed_by(&self, name: &str) -> Vec<LinkIndex> {
        let circuits = self.file.circuits.iter().filter(|circuit| circuit.provider.carrier_follows);
        let places = circuits.flat_map(|circuit| LinkRole::BOTH.map(|link| (circuit, link)));
        places
            .filter(|(circuit, link)| name == format!("{}/{link}:access", circuit.name))
            .filter_map(|(circuit, link)| self.nni(&circuit.name, link))
            .collect()
    }

    /// The links of a router to others.
    fn links_of(&self, router: &str) -> Vec<LinkIndex> {
        let (_, links) = self.compile();
        let of = |link: &&CompiledLink| link.ends.iter().any(|(name, _)| name == router);
        links.iter().filter(of).filter_map(|link| self.links.get(&link.name).copied()).collect()
    }

    fn core_links(&self, circuit: &file::Circuit, link: LinkRole) -> Vec<LinkIndex> {
        let msee = azure::msee_name(&self.file, circuit, link);
        let mut found = Vec::new();
        for vnet in &self.file.virtual_networks {
            for gateway in &vnet.gateways {
                if gateway.connections.iter().any(|other| other.circuit == circuit.name) {
                    let instances =
                        (0..gateway.instances()).map(|i| azure::gateway_instance(vnet, gateway, i));
                    for far in instances.chain([vnet.name.clone()]) {
                        found.extend(self.links.get(&format!("{msee}:core {far}")));
                    }
                }
            }
        }
        found
    }

    fn add_hosts(&mut self, seed: u64, ports: &mut [Ports; 2]) {
        let file = self.file.clone();
        for site in &file.sites {
            for network in &site.networks {
                let Some(router) = site.gateway_of(&network.name) else { continue };
                let lan = attach::lan(&site.name, &network.name);
                let worker = self.routers.get(&router.name).map_or(0, |node| node.worker());
                let segment = ports[0].remove(&lan);
                let segment = segment.map(|port| self.fabric.add_port(worker, port));
                self.ports.extend(segment.map(|node| (lan, node)));
                for (number, host) in network.hosts.iter().enumerate() {
                    let gateways = vec![network.gateway; host.addresses.len()];
                    let name = format!("{}.{}", site.name, host.name);
                    let end = match segment {
                        Some(segment) => Some((segment, PortIndex(number as u16))),
                        None => self.port_of(&router.name, &format!("lan:{}", host.name)),
                    };
                    self.add_host(&name, host, gateways, end, seed, ports);
                }
            }
        }
        for vnet in &file.virtual_networks {
            for host in &vnet.hosts {
                let gateway = |address: &IpAddr| {
                    let block = vnet.address_prefixes.iter().find(|block| block.contains(address));
                    block.and_then(|block| file::address_at(*block, 1))
                };
                let gateways = host.addresses.iter().filter_map(gateway).collect();
                let name = format!("{}.{}", vnet.name, host.name);
                let end = self.port_of(&vnet.name, &format!("host:{}", host.name));
                self.add_host(&name, host, gateways, end, seed, ports);
            }
        }
    }

    /// A router's port to a host; none where the router is outside.
    fn port_of(&self, router: &str, port: &str) -> Option<(NodeIndex, PortIndex)> {
        let &node = self.routers.get(router)?;
        let index = self.desired[router].ports.iter().position(|other| other.name == port);
        Some((node, PortIndex(index.expect("a port for every host was compiled") as u16)))
    }

    /// A host whose link ends at `at_router`, or at a port to a router that is outside.
    fn add_host(
        &mut self,
        name: &str,
        host: &file::Host,
        gateways: Vec<IpAddr>,
        at_router: Option<(NodeIndex, PortIndex)>,
        seed: u64,
        [near, far]: &mut [Ports; 2],
    ) {
        let worker = at_router.map_or(0, |(node, _)| node.worker());
        let far = far.remove(name).map(|port| self.fabric.add_port(worker, port));
        let on_the_way = near.remove(name).map(|port| self.fabric.add_port(worker, port));
        // Past a port what is beside the model's host has the delay as well.
        let delays = if far.is_some() && on_the_way.is_some() {
            [Duration::ZERO, sites::LAN_DELAY]
        } else {
            [sites::LAN_DELAY, Duration::ZERO]
        };
        let end = far.map(|port| (port, PortIndex(0)));
        let end = end.or(at_router.filter(|_| on_the_way.is_none()));
        if let Some(end) = end {
            let number = LAST_HOST_NUMBER - self.hosts.len() as u16;
            let host = HostNode(Host::new(HostConfig {
                name: name.to_owned(),
                mac: azure::mac(number, 0),
                addresses: host.addresses.clone(),
                gateways,
                mtu: HOST_MTU,
                seed,
            }));
            let node = self.fabric.add_endpoint(worker, host);
            self.hosts.insert(name.to_owned(), node);
            let config = link_config(name, delays[0], Vec::new());
            self.fabric.add_link(config, [(node, PortIndex(0)), end]);
        }
        if let (Some(port), Some(at_router)) = (on_the_way, at_router) {
            self.ports.insert(name.to_owned(), port);
            let config = link_config(name, delays[1], Vec::new());
            self.fabric.add_link(config, [(port, PortIndex(0)), at_router]);
        }
    }

    /// Whether a session can be up: neither end is shut and its peering is enabled.
    fn should_be_up(&self, router: &str, neighbor: &str) -> bool {
        let base = neighbor_base(neighbor);
        let shut = |end: &SessionEnd| {
            self.overlay.shut.contains(&(end.router.clone(), end.neighbor.clone()))
        };
        for circuit in &self.file.circuits {
            for link in LinkRole::BOTH {
                let place = CircuitLink { circuit: circuit.name.clone(), link };
                for ends in self.session_ends(&SessionRef::Link(place)) {
                    let is = |end: &SessionEnd| end.router == router && end.neighbor == base;
                    if ends.iter().any(is) {
                        let ipv6 = neighbor.ends_with(azure::IPV6_SUFFIX);
                        let enabled = circuit.peerings.iter().all(|peering| {
                            let subnets = if ipv6 { &peering.ipv6 } else { &peering.ipv4 };
                            subnets.as_ref().is_none_or(|subnets| subnets.enabled)
                        });
                        return enabled && !ends.iter().any(shut);
                    }
                }
            }
        }
        let reversed = (base.to_owned(), router.to_owned());
        !self.overlay.shut.contains(&reversed)
    }
}

/// A neighbour's name without its family.
pub fn neighbor_base(neighbor: &str) -> &str {
    neighbor.strip_suffix(azure::IPV6_SUFFIX).unwrap_or(neighbor)
}

/// What a neighbour is called in each family.
fn family_names(neighbor: &str) -> [String; 2] {
    [neighbor.to_owned(), [neighbor, azure::IPV6_SUFFIX].concat()]
}

fn link_config(name: &str, delay: Duration, follows: Vec<LinkIndex>) -> LinkConfig {
    LinkConfig { delay, follows, ..LinkConfig::named(name) }
}

impl Overlay {
    fn put_on(&self, router: &mut RouterConfig) {
        let name = router.name.clone();
        if let Some(&(times, tells)) = self.replaced.get(&name) {
            router.announces_addresses = tells;
            for port in &mut router.ports {
                // Another vendor, still locally administered and of one station.
                port.mac.0[0] += 4 * times;
            }
        }
        let of = |set: &BTreeSet<(String, Prefix)>, prefix| set.contains(&(name.clone(), prefix));
        for vrf in &mut router.vrfs {
            for neighbor in &mut vrf.neighbors {
                let base = neighbor_base(&neighbor.name);
                let key = (name.clone(), base.to_owned());
                neighbor.enabled &= !self.shut.contains(&key);
                if self.without_bfd.contains(&key) {
                    neighbor.bfd = None;
                }
            }
            vrf.originated.retain(|route| !of(&self.withdrawn, route.prefix));
            for (_, prefix) in self.announced.iter().filter(|(router, _)| *router == name) {
                let route = OriginatedPrefix { prefix: *prefix };
                if !vrf.originated.contains(&route) {
                    vrf.originated.push(route);
                }
            }
        }
    }
}
