//! A drill that can be run: traffic, steps and expectations, checked against their lab.
//!
//! Only `config::load_drill` makes a [`Drill`]. Names that a drill uses for its own parts (traffic,
//! steps) are indexes here; names of the lab's parts stay names and exist in that lab.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::{CircuitLink, HostRef, NodeRef, PeeringRef, Place, SessionRef};
use crate::model::{Asn, Bandwidth, Prefix};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Drill {
    pub name: String,
    /// Path of the lab file, as written: relative to the drill file.
    pub lab: String,
    /// The lab's unless the drill has its own.
    pub seed: u64,
    pub runs: u32,
    pub traffic: Vec<Traffic>,
    pub steps: Vec<Step>,
    pub expect: Vec<Expectation>,
}

/// Flows between a host of a site and a host of a VNet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Traffic {
    pub name: String,
    pub kind: TrafficKind,
    pub from: HostRef,
    pub to: HostRef,
    /// Of the same family.
    pub from_address: IpAddr,
    pub to_address: IpAddr,
    /// Of TCP: the way its data goes, from `from` to `to`.
    pub directions: Directions,
    /// In each direction; 1 or more.
    pub flows: u32,
}

/// What an entry's flows are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrafficKind {
    /// Numbered packets at an even rate.
    Probe {
        /// Of all flows together, each direction; 1 or more.
        packets_per_second: u64,
        /// IP packet with its headers, bytes.
        size: u16,
    },
    /// Connections over which `from` sends to `to`.
    Tcp {
        /// What the application writes, all flows together; none is as fast as it goes.
        rate: Option<Bandwidth>,
    },
}

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Direction {
    ToAzure,
    ToOnprem,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Directions {
    Both,
    ToAzure,
    ToOnprem,
}

/// Starts its event, then waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    pub name: String,
    /// None: only waits.
    pub event: Option<Event>,
    /// `for`: at least this long.
    pub lasts: Option<Duration>,
    /// And until this.
    pub until: Option<Until>,
    /// At most this long; a step that waits for something longer than this has failed.
    pub within: Option<Duration>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Until {
    /// Nothing of routes, sessions and paths is still changing, and every session that should be
    /// up is.
    Converged,
    /// The same, and nothing changed for this long.
    Stable(Duration),
    Session {
        session: SessionRef,
        state: SessionState,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SessionState {
    Up,
    Down,
}

/// What a step does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The link is gone: both ends of the segment see carrier go.
    Cut {
        at: Vec<Place>,
    },
    /// Packets vanish; carrier stays.
    Blackhole {
        at: Vec<Place>,
        direction: Directions,
        only: Option<Only>,
    },
    Impair {
        at: Vec<Place>,
        direction: Directions,
        impairment: Impairment,
    },
    /// The operator closes the session (Cease) and keeps it closed. Done at the end named first;
    /// at the customer's for a session named by its link.
    BgpShutdown {
        at: Vec<SessionRef>,
    },
    /// Closed once; it may come back at once.
    BgpReset {
        at: Vec<SessionRef>,
    },
    BfdDisable {
        at: Vec<SessionRef>,
    },
    RouterCrash {
        at: Vec<NodeRef>,
    },
    RouterRestart {
        at: Vec<NodeRef>,
    },
    Maintenance {
        at: Vec<CircuitLink>,
        category: MaintenanceCategory,
    },
    PeeringDisable {
        at: Vec<PeeringRef>,
        families: Families,
    },
    PeeringEnable {
        at: Vec<PeeringRef>,
        families: Families,
    },
    /// Names of circuits. Never a decrease (3.2).
    Bandwidth {
        at: Vec<String>,
        bandwidth: Bandwidth,
    },
    /// Names of site routers.
    Announce {
        at: Vec<String>,
        prefixes: Vec<Prefix>,
    },
    Withdraw {
        at: Vec<String>,
        prefixes: Vec<Prefix>,
    },
    /// The control process dies; forwarding and BFD go on.
    ControlKill {
        at: Vec<NodeRef>,
    },
    /// Names of site routers: another device with other MAC addresses takes over at once.
    ReplaceDevice {
        at: Vec<String>,
        /// Whether it tells its neighbours.
        gratuitous_arp: bool,
    },
    /// Names of circuits: the provider's own throttle, each direction; none takes it off.
    ProviderRate {
        at: Vec<String>,
        rate: Option<Bandwidth>,
    },
    /// Undoes what earlier steps did there; everything when empty.
    Restore {
        at: Vec<Target>,
    },
}

impl Event {
    /// As after `do:`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Cut { .. } => "cut",
            Self::Blackhole { .. } => "blackhole",
            Self::Impair { .. } => "impair",
            Self::BgpShutdown { .. } => "bgp-shutdown",
            Self::BgpReset { .. } => "bgp-reset",
            Self::BfdDisable { .. } => "bfd-disable",
            Self::RouterCrash { .. } => "router-crash",
            Self::RouterRestart { .. } => "router-restart",
            Self::Maintenance { .. } => "maintenance",
            Self::PeeringDisable { .. } => "peering-disable",
            Self::PeeringEnable { .. } => "peering-enable",
            Self::Bandwidth { .. } => "bandwidth",
            Self::Announce { .. } => "announce",
            Self::Withdraw { .. } => "withdraw",
            Self::ControlKill { .. } => "control-kill",
            Self::ReplaceDevice { .. } => "replace-device",
            Self::ProviderRate { .. } => "provider-rate",
            Self::Restore { .. } => "restore",
        }
    }

    /// What the event is done to.
    pub fn targets(&self) -> Vec<Target> {
        match self {
            Self::Cut { at } | Self::Blackhole { at, .. } | Self::Impair { at, .. } => {
                at.iter().cloned().map(Target::Place).collect()
            }
            Self::BgpShutdown { at } | Self::BgpReset { at } | Self::BfdDisable { at } => {
                at.iter().cloned().map(Target::Session).collect()
            }
            Self::RouterCrash { at } | Self::RouterRestart { at } | Self::ControlKill { at } => {
                at.iter().cloned().map(Target::Node).collect()
            }
            Self::Maintenance { at, .. } => at.iter().cloned().map(Target::Link).collect(),
            Self::PeeringDisable { at, .. } | Self::PeeringEnable { at, .. } => {
                at.iter().cloned().map(Target::Peering).collect()
            }
            Self::Bandwidth { at, .. } | Self::ProviderRate { at, .. } => {
                at.iter().cloned().map(Target::Circuit).collect()
            }
            Self::Announce { at, .. }
            | Self::Withdraw { at, .. }
            | Self::ReplaceDevice { at, .. } => {
                at.iter().cloned().map(|router| Target::Node(NodeRef::SiteRouter(router))).collect()
            }
            Self::Restore { at } => at.clone(),
        }
    }
}

/// Something an event was done to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    Place(Place),
    Session(SessionRef),
    Node(NodeRef),
    Link(CircuitLink),
    Peering(PeeringRef),
    Circuit(String),
}

/// Which packets a black hole takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Only {
    Data,
    /// ARP, ND, BFD and BGP.
    Control,
}

/// At least one of them is not nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Impairment {
    /// Parts of a million, these and the next.
    pub loss_ppm: u32,
    pub corrupt_ppm: u32,
    pub truncate_ppm: u32,
    pub duplicate_ppm: u32,
    pub reorder_ppm: u32,
    pub delay: Duration,
    pub jitter: Duration,
    pub rate: Option<Bandwidth>,
}

/// As in the API's failover test (section 15).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MaintenanceCategory {
    /// 12076 put in front this many more times, towards the customer and the gateways (L-49).
    AsPathPrepend {
        prepends: u8,
    },
    BgpDisconnect,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Families {
    Ipv4,
    Ipv6,
    Both,
}

/// What must hold, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expectation {
    /// For reports: as in the file, in one line.
    pub text: String,
    pub form: Form,
    pub during: During,
    /// Not judged before this long into the step; then it must stay.
    pub after: Option<Duration>,
    /// Percentiles are of each run on its own, and not over all runs together.
    pub every_run: bool,
    /// Judged only when VM hosts follow so; under every setting when none.
    pub convergence: Option<Convergence>,
}

/// How soon VM hosts follow their gateway (section 20): at once, or as late as the lab says, which
/// is what the documents allow when it says nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Convergence {
    Ideal,
    Documented,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum During {
    Always,
    /// Index into the drill's steps.
    Step(usize),
}

/// What an expectation looks at. `of` is an index into the drill's traffic; `direction` is never
/// one that this traffic does not have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Form {
    /// Longest time without a packet, per flow.
    Outage {
        of: usize,
        direction: Directions,
        limits: Limits<Duration>,
    },
    /// Packets lost over all flows, or their share of what was sent.
    Lost {
        of: usize,
        direction: Directions,
        limits: Limits<Amount>,
    },
    /// How many flows lost a packet.
    FlowsHit {
        of: usize,
        direction: Directions,
        between: (Amount, Amount),
    },
    Path {
        of: usize,
        direction: Directions,
        through: Vec<PathPoint>,
        never: Vec<PathPoint>,
    },
    Route {
        node: NodeRef,
        prefix: Prefix,
        present: bool,
        as_path: Option<Vec<Asn>>,
        /// The neighbour the best route came from.
        best: Option<NodeRef>,
    },
    NoRoute {
        node: NodeRef,
        prefix: Prefix,
    },
    /// At least one of `state` and `flaps` is given.
    Session {
        session: SessionRef,
        families: Families,
        state: Option<SessionState>,
        flaps: Option<Flaps>,
    },
    /// These happened in this order, all within the time given after the first.
    CauseOrder {
        is: Vec<Cause>,
        within: Option<Duration>,
    },
    BackToBaseline {
        within: Option<Duration>,
        compare: Vec<Compared>,
    },
    /// What arrived, IP bytes of probes or payload of TCP, all flows together.
    Throughput {
        of: usize,
        direction: Directions,
        limits: Limits<Bandwidth>,
        /// In every span of this length; over the whole step when none.
        per: Option<Duration>,
    },
    /// At least one bound is given. `of` is TCP traffic.
    Tcp {
        of: usize,
        /// At most, all flows together.
        resets: Option<u64>,
        /// At most, of every flow.
        longest_stall: Option<Duration>,
        /// At most, of what was sent.
        retransmitted: Option<Amount>,
    },
    /// Both directions of every conversation take the same link.
    Symmetric {
        of: usize,
    },
    /// At most so many packets seen at a place have an address in one of the blocks.
    Isolated {
        capture: Place,
        contains: Vec<Prefix>,
        packets: u64,
    },
    /// Prefixes an MSEE has from a customer. At least one bound is given.
    PrefixesReceived {
        session: SessionRef,
        limits: Limits<u64>,
        /// At most this share of the circuit's limit, parts of a million.
        of_limit: Option<u32>,
    },
    /// Packets the circuit's limiters dropped; on one link or on both.
    LimiterDrops {
        circuit: String,
        link: Option<crate::model::LinkRole>,
        limits: Limits<u64>,
    },
}

/// How often a session may go down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flaps {
    pub min: u64,
    pub max: u64,
}

/// Bounds on a figure; at least one is given. Percentiles are over flows and runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits<T> {
    pub min: Option<T>,
    pub max: Option<T>,
    pub p50: Option<T>,
    pub p99: Option<T>,
}

/// A number of things or a share of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Amount {
    Count(u64),
    /// Parts of a million.
    Share(u32),
}

/// A place a packet comes by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathPoint {
    Node(NodeRef),
    /// Either link of a circuit.
    Circuit(String),
}

/// What is compared with the state before the first event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Compared {
    Routes,
    Paths,
    Sessions,
}

/// Links of a cause chain; `name` is what events of the log are called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cause {
    Fault,
    CarrierDown,
    CarrierUp,
    BfdDown,
    BfdUp,
    BgpDown,
    BgpUp,
    GroupRewritten,
    FirstPacket,
    RoutesWithdrawn,
    RoutesAnnounced,
    FibUpdated,
    LimiterChanged,
    Settled,
}

impl Cause {
    pub const ALL: [Self; 14] = [
        Self::Fault,
        Self::CarrierDown,
        Self::CarrierUp,
        Self::BfdDown,
        Self::BfdUp,
        Self::BgpDown,
        Self::BgpUp,
        Self::GroupRewritten,
        Self::FirstPacket,
        Self::RoutesWithdrawn,
        Self::RoutesAnnounced,
        Self::FibUpdated,
        Self::LimiterChanged,
        Self::Settled,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::CarrierDown => "carrier-down",
            Self::CarrierUp => "carrier-up",
            Self::BfdDown => "bfd-down",
            Self::BfdUp => "bfd-up",
            Self::BgpDown => "bgp-down",
            Self::BgpUp => "bgp-up",
            Self::GroupRewritten => "group-rewritten",
            Self::FirstPacket => "first-packet",
            Self::RoutesWithdrawn => "routes-withdrawn",
            Self::RoutesAnnounced => "routes-announced",
            Self::FibUpdated => "fib-updated",
            Self::LimiterChanged => "limiter-changed",
            Self::Settled => "settled",
        }
    }
}

impl Form {
    /// The traffic it is about.
    pub const fn traffic(&self) -> Option<usize> {
        match self {
            Self::Outage { of, .. }
            | Self::Lost { of, .. }
            | Self::FlowsHit { of, .. }
            | Self::Path { of, .. }
            | Self::Throughput { of, .. }
            | Self::Tcp { of, .. }
            | Self::Symmetric { of } => Some(*of),
            Self::Route { .. }
            | Self::NoRoute { .. }
            | Self::Session { .. }
            | Self::CauseOrder { .. }
            | Self::BackToBaseline { .. }
            | Self::Isolated { .. }
            | Self::PrefixesReceived { .. }
            | Self::LimiterDrops { .. } => None,
        }
    }
}

impl Traffic {
    /// Time between two packets of one flow: no outage shorter than this can be told. TCP has no
    /// such grid.
    pub fn resolution(&self) -> Duration {
        let TrafficKind::Probe { packets_per_second, .. } = self.kind else {
            return Duration::ZERO;
        };
        let ns = u128::from(self.flows) * 1_000_000_000 / u128::from(packets_per_second);
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    pub const fn is_tcp(&self) -> bool {
        matches!(self.kind, TrafficKind::Tcp { .. })
    }
}

impl Convergence {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ideal => "ideal",
            Self::Documented => "documented",
        }
    }
}

impl Directions {
    pub const fn includes(self, direction: Direction) -> bool {
        match self {
            Self::Both => true,
            Self::ToAzure => matches!(direction, Direction::ToAzure),
            Self::ToOnprem => matches!(direction, Direction::ToOnprem),
        }
    }

    /// The directions it stands for.
    pub fn each(self) -> impl Iterator<Item = Direction> {
        [Direction::ToAzure, Direction::ToOnprem].into_iter().filter(move |&d| self.includes(d))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => place.fmt(f),
            Self::Session(session) => session.fmt(f),
            Self::Node(node) => node.fmt(f),
            Self::Link(link) => link.fmt(f),
            Self::Peering(peering) => peering.fmt(f),
            Self::Circuit(name) => f.write_str(name),
        }
    }
}
