//! A flood on one circuit's tags is nobody else's concern: sessions of other circuits stay up and their
//! packets pass, on the flooded port, too.
//!
//! ```text
//!   flood ──┐
//!   flow ◄──┤ t1 ══ t0  router under test  o0 ══ o1 ├──► flow      `flooded` and `same` on t0,
//!   peer ───┘                                       └── peer       `other` on o0
//! ```
//!
//! The peer is a router of ours in a thread of its own, with BGP and BFD on each of the three. The router's
//! capacity is measured first; half of it is harmless, and above it BFD stays up. For longer floods:
//! `MSEE_FLOOD_SECONDS=60 cargo nextest run --release --test flood --no-capture`.

#[path = "support/isolated.rs"]
mod isolated;
#[path = "support/skip.rs"]
mod skip;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use etherparse::PacketBuilder;
use isolated::run;
use msee::dataplane::DropReason;
use msee::fabric::{Direction, Fabric, LinkConfig, LinkIndex, NodeIndex, Observer, RealTime};
use msee::io::packet::{Mode, PacketPort};
use msee::io::{Frames, Port, PortCounters};
use msee::lab::HostNode;
use msee::model::{
    AddressOnLink, Asn, AttachmentConfig, BfdConfig, ConvergenceDelay, Encapsulation, ExportPolicy,
    FlowHash, GracefulRestart, ImportPolicy, Instant, NeighborConfig, NeighborKind, PortConfig,
    PortIndex, Role, RouterConfig, Service, SessionTtl, StaticRoute, VlanId, VrfConfig,
};
use msee::router::Ledger;
use msee::sys::clock;
use msee::sys::packet::{Interface, Sender, Socket, TransmitPath, VnetHeader};
use msee::telemetry::EventKind;
use msee::wire::{MacAddr, arp, ethernet, ethertype, vlan};

/// How long a flood at half the capacity lasts where nobody says otherwise.
const SECONDS: u64 = 3;
/// How long the capacity is measured, and what comes before.
const MEASURED: Duration = Duration::from_millis(800);
const WARM_UP: Duration = Duration::from_millis(300);
/// A flood above the capacity: more than twice the detection time.
const ABOVE: Duration = Duration::from_secs(2);
/// Packets a second of the flow in each direction.
const FLOW: u32 = 1_000;
/// What of it may be lost, parts of a million.
const LOSS_MAX_PPM: u64 = 1_000;
/// After which a host that keeps the router from running may make it lose packets: a receive queue of an
/// ordinary user holds no more of a flood.
const STALL_MAX: Duration = Duration::from_millis(2);
/// BFD's interval (L-12). A host that sleeps longer may bring it down.
const INTERVAL: Duration = Duration::from_millis(300);
/// How often a busy host has another chance.
const ATTEMPTS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(20);
/// Frames of a system call.
const BATCH: usize = 32;

const ROUTER_MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
const PEER_MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 1, 1]), MacAddr([2, 0, 0, 0, 1, 2])];
/// Where the flow goes to.
const FLOW_PORT: u16 = 5_001;

/// Name, port, tags and the third octet of the addresses of each attachment.
const ATTACHMENTS: [(&str, usize, [u16; 2], u8); 3] =
    [("flooded", 0, [2_101, 100], 0), ("same", 0, [2_102, 100], 1), ("other", 1, [2_103, 100], 2)];

/// What a flood consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    UnknownTags,
    ArpStorm,
    TtlOne,
    ToUs,
    ToBgp,
}

#[test]
fn unknown_tags_harm_nobody() {
    withstands("unknown_tags_harm_nobody", Kind::UnknownTags);
}

#[test]
fn an_arp_storm_harms_nobody() {
    withstands("an_arp_storm_harms_nobody", Kind::ArpStorm);
}

#[test]
fn packets_that_expire_harm_nobody() {
    withstands("packets_that_expire_harm_nobody", Kind::TtlOne);
}

#[test]
fn packets_to_the_router_harm_nobody() {
    withstands("packets_to_the_router_harm_nobody", Kind::ToUs);
}

#[test]
fn segments_to_bgp_harm_nobody() {
    withstands("segments_to_bgp_harm_nobody", Kind::ToBgp);
}

fn withstands(name: &str, kind: Kind) {
    // Each takes all of a small host.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    isolated::isolated(name, || {
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        for [ours, theirs] in [["t0", "t1"], ["o0", "o1"]] {
            let veth = format!("link add {ours} mtu 1508 type veth peer name {theirs} mtu 1508");
            run("ip", &veth);
            run("ip", &format!("link set {ours} up"));
            run("ip", &format!("link set {theirs} up"));
        }
        flood(kind);
    });
}

fn flood(kind: Kind) {
    let seconds = std::env::var("MSEE_FLOOD_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let router = Node::start(router(), ["t0", "o0"]);
    let peer = Node::start(peer(), ["t1", "o1"]);
    await_sessions(&router, &peer);
    let flow = Flow::start();
    let flooder = Flooder::new(kind);

    let mut flooded = flooder.send(None, WARM_UP);
    let (before, begun) = (router.status(), clock::monotonic());
    flooded += flooder.send(None, MEASURED);
    let measured = clock::monotonic().saturating_sub(begun).as_secs_f64();
    let received = router.status().trunk.received - before.trunk.received;
    let capacity = received as f64 / measured;
    println!("{kind:?}: capacity {capacity:.0}/s");
    thread::sleep(WARM_UP);

    // At half the capacity.
    let half = Duration::from_secs(seconds);
    let undisturbed = (0..ATTEMPTS).any(|_| {
        let before = Moment::of(&router, &peer, &flow);
        let sent = flooder.send(Some(capacity / 2.0), half);
        flooded += sent;
        thread::sleep(WARM_UP);
        let after = Moment::of(&router, &peer, &flow);
        println!("half for {half:?}: {sent} packets; {}", after.since(&before));
        assert!(sent > 0);
        let lost_little = |way: usize| {
            let sent = after.flow[way][0] - before.flow[way][0];
            sent > 0 && after.lost(way, &before) * 1_000_000 <= sent * LOSS_MAX_PPM
        };
        let fine = after.downs() == before.downs() && (0..2).all(lost_little);
        let stalled = after.router.stall > STALL_MAX || after.peer.stall > INTERVAL;
        assert!(fine || stalled, "the host ran well, and the flood did harm");
        fine
    });

    // Above it.
    let survived = (0..ATTEMPTS).any(|_| {
        let before = Moment::of(&router, &peer, &flow);
        let sent = flooder.send(None, ABOVE.max(half / 6));
        flooded += sent;
        let after = Moment::of(&router, &peer, &flow);
        println!("above: {sent} packets; {}", after.since(&before));
        let fine = after.downs() == before.downs();
        let stalled = after.router.stall.max(after.peer.stall) > INTERVAL;
        assert!(fine || stalled, "the host ran well, and the flood ended a session");
        if !fine {
            await_sessions(&router, &peer);
        }
        fine
    });

    // Every packet is somewhere.
    let [flow_sent, _] = flow.stop();
    thread::sleep(WARM_UP);
    let peer = peer.stop();
    thread::sleep(WARM_UP);
    let router = router.stop();
    let PortCounters { received, receive_dropped, kernel_dropped, .. } = router.trunk;
    assert_eq!(
        flooded + flow_sent + peer.trunk.transmitted,
        received + receive_dropped + kernel_dropped,
        "sent and received on the trunk"
    );
    let (reason, floor) = (kind.reason(), flooded.saturating_sub(kernel_dropped));
    let named = router.ledger.dropped[reason as usize];
    assert!(named <= flooded && named + router.ledger.consumed >= floor, "{reason:?}: {named}");
    for other in DropReason::ALL.iter().filter(|other| **other != reason) {
        assert_eq!(router.ledger.dropped[*other as usize], 0, "{other:?}");
    }
    if !undisturbed {
        println!("{kind:?}: the host stood still each time; what the flow lost says nothing");
    }
    if !survived {
        skip::skipped(&format!("a flood of {kind:?}: the host was too busy each time"));
    }
}

fn await_sessions(router: &Node, peer: &Node) {
    let patience_ends = clock::monotonic() + PATIENCE;
    while [router, peer].iter().any(|node| node.status().up != 2 * ATTACHMENTS.len()) {
        assert!(clock::monotonic() < patience_ends, "BGP and BFD come up");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Everything that is counted, at one moment.
struct Moment {
    router: Status,
    peer: Status,
    flow: [[u64; 2]; 2],
}

impl Moment {
    fn of(router: &Node, peer: &Node, flow: &Flow) -> Self {
        Self { router: router.take_status(), peer: peer.take_status(), flow: flow.counts() }
    }

    fn downs(&self) -> [usize; 2] {
        [self.router.bfd_downs, self.peer.bfd_downs]
    }

    /// Of the flow in a direction.
    fn lost(&self, way: usize, before: &Self) -> u64 {
        let [sent, arrived] = [0, 1].map(|end| self.flow[way][end] - before.flow[way][end]);
        sent.saturating_sub(arrived)
    }

    fn since(&self, before: &Self) -> String {
        let lost = [0, 1].map(|way| {
            format!("{}/{}", self.lost(way, before), self.flow[way][0] - before.flow[way][0])
        });
        let drops = DropReason::ALL.iter().map(|reason| {
            let [now, then] = [self, before].map(|at| at.router.ledger.dropped[*reason as usize]);
            (reason.name(), now - then)
        });
        let drops: Vec<_> = drops.filter(|(_, packets)| *packets > 0).collect();
        let [now, then] = [&self.router, &before.router];
        format!(
            "flow lost {lost:?}; received {}, kernel-dropped {}, {drops:?}, consumed {}; BFD down {:?}, \
             BGP down {:?}; longest stall {:?}",
            now.trunk.received - then.trunk.received,
            now.trunk.kernel_dropped - then.trunk.kernel_dropped,
            now.ledger.consumed - then.ledger.consumed,
            [now.bfd_downs - then.bfd_downs, self.peer.bfd_downs - before.peer.bfd_downs],
            [now.bgp_downs - then.bgp_downs, self.peer.bgp_downs - before.peer.bgp_downs],
            now.stall,
        )
    }
}

impl Kind {
    /// What becomes of what the router cannot take or answer.
    const fn reason(self) -> DropReason {
        match self {
            Self::UnknownTags => DropReason::UnknownTags,
            Self::ArpStorm | Self::ToUs | Self::ToBgp => DropReason::PuntFull,
            Self::TtlOne => DropReason::TtlExpired,
        }
    }

    fn frame(self, number: u8) -> Vec<u8> {
        let (_, _, tags, _) = ATTACHMENTS[0];
        let source = [172, 16, 0, 10 + number % 200];
        let ip = || PacketBuilder::ethernet2(PEER_MACS[0].0, ROUTER_MACS[0].0);
        let mut bytes = Vec::new();
        match self {
            Self::UnknownTags => {
                let udp = ip().ipv4(source, [10, 2, 0, 1], 64).udp(number.into(), 9);
                udp.write(&mut bytes, &[0; 18]).unwrap();
                return behind([tags[0], 999], bytes);
            }
            Self::TtlOne => {
                let udp = ip().ipv4(source, [10, 0, 0, 1], 1).udp(number.into(), 9);
                udp.write(&mut bytes, &[0; 18]).unwrap();
            }
            Self::ToUs => {
                let echo = ip().ipv4(source, [172, 16, 0, 1], 64).icmpv4_echo_request(1, 1);
                echo.write(&mut bytes, &[0; 18]).unwrap();
            }
            Self::ToBgp => {
                let syn = ip().ipv4(source, [172, 16, 0, 1], 1).tcp(40_000, 179, 1, 1_000).syn();
                syn.write(&mut bytes, &[]).unwrap();
            }
            Self::ArpStorm => {
                bytes = vec![0; 60];
                let header = ethernet::Repr {
                    destination: MacAddr::BROADCAST,
                    source: MacAddr([2, 0, 0, 0, 2, number]),
                    ethertype: ethertype::ARP,
                };
                header.emit(&mut bytes);
                let request = arp::Repr {
                    operation: arp::Operation::Request,
                    sender_mac: header.source,
                    sender: source.into(),
                    target_mac: MacAddr::default(),
                    target: Ipv4Addr::new(172, 16, 0, 1),
                };
                request.emit(&mut bytes[ethernet::HEADER_LEN..]);
            }
        }
        behind(tags, bytes)
    }
}

fn behind(tags: [u16; 2], mut frame: Vec<u8>) -> Vec<u8> {
    for tag in tags.into_iter().rev() {
        frame.splice(0..0, [0; vlan::TAG_LEN]);
        vlan::push(&mut frame, tag);
    }
    frame
}

/// Sends one kind of frame on the trunk.
struct Flooder {
    socket: Socket,
    /// Each with its header in front.
    frames: Vec<Vec<u8>>,
}

impl Flooder {
    fn new(kind: Kind) -> Self {
        let interface = Interface::by_name("t1").unwrap();
        let socket = Socket::transmitting(&interface, TransmitPath::Driver).unwrap();
        let header = VnetHeader::default().to_bytes();
        let frames = (0..=u8::MAX).map(|number| [&header[..], &kind.frame(number)].concat());
        Self { socket, frames: frames.collect() }
    }

    /// So many a second, or all that it can, for so long; returns how many.
    fn send(&self, rate: Option<f64>, span: Duration) -> u64 {
        let mut sender = Sender::new(BATCH);
        let pause =
            rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(BATCH as f64 / rate));
        let begun = clock::monotonic();
        let (mut sent, mut next) = (0, begun);
        loop {
            let now = clock::monotonic();
            if now >= begun + span {
                return sent;
            }
            if now < next {
                thread::sleep(next.saturating_sub(now));
                continue;
            }
            // Who was kept from sending does not catch up: a train of them is above the rate.
            next = next.max(now.saturating_sub(pause)) + pause;
            let at = sent as usize % self.frames.len();
            let batch = self.frames[at..].iter().take(BATCH).map(Vec::as_slice);
            // What the kernel does not take was not sent.
            sent += sender.send(&self.socket, batch).unwrap_or(0) as u64;
        }
    }
}

/// Packets from `same` to `other` and back, through the router, in a thread.
struct Flow {
    stop: Arc<AtomicBool>,
    counts: Arc<Mutex<[[u64; 2]; 2]>>,
    thread: JoinHandle<[u64; 2]>,
}

impl Flow {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Mutex::default());
        let (asked, shown) = (stop.clone(), counts.clone());
        let thread = thread::spawn(move || exchange(&asked, &shown));
        Self { stop, counts, thread }
    }

    /// Sent and arrived, of each direction.
    fn counts(&self) -> [[u64; 2]; 2] {
        *self.counts.lock().unwrap()
    }

    /// What it sent from each port.
    fn stop(self) -> [u64; 2] {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn exchange(stop: &AtomicBool, counts: &Mutex<[[u64; 2]; 2]>) -> [u64; 2] {
    let mut frames = Frames::new();
    let mut ports = ["t1", "o1"].map(open);
    let packets = [(1, [10, 2, 0, 1]), (2, [10, 1, 0, 1])].map(|(at, destination)| {
        let (_, port, tags, third) = ATTACHMENTS[at];
        let ethernet = PacketBuilder::ethernet2(PEER_MACS[port].0, ROUTER_MACS[port].0);
        let datagram = ethernet.ipv4([172, 16, third, 2], destination, 64).udp(5_000, FLOW_PORT);
        let mut bytes = Vec::new();
        datagram.write(&mut bytes, &[0; 64]).unwrap();
        behind(tags, bytes)
    });
    let begun = clock::monotonic();
    let mut seen = [[0_u64; 2]; 2];
    let mut arrived = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let due =
            clock::monotonic().saturating_sub(begun).as_millis() as u64 * u64::from(FLOW) / 1_000;
        for (way, port) in ports.iter_mut().enumerate() {
            while seen[way][0] < due {
                port.transmit(frames.allocate_from(&packets[way]).unwrap(), &mut frames);
                seen[way][0] += 1;
            }
            port.flush(&mut frames);
            while {
                port.receive(64, &mut arrived, &mut frames, Instant::ZERO + clock::monotonic());
                !arrived.is_empty()
            } {
                for frame in arrived.drain(..) {
                    let is_flow = is_of_flow(frames.bytes(&frame));
                    seen[1 - way][1] += u64::from(is_flow);
                    frames.free(frame);
                }
            }
        }
        *counts.lock().unwrap() = seen;
        thread::sleep(Duration::from_micros(500));
    }
    ports.map(|mut port| port.counters().transmitted)
}

/// Behind two tags and a header without options.
fn is_of_flow(bytes: &[u8]) -> bool {
    const PORT: usize = ethernet::HEADER_LEN + 2 * vlan::TAG_LEN + 20 + 2;
    bytes.get(PORT..PORT + 2) == Some(&FLOW_PORT.to_be_bytes())
}

fn open(name: &str) -> PacketPort {
    PacketPort::open(Interface::by_name(name).unwrap(), Mode::VnetHdr).unwrap()
}

/// A router in a thread.
struct Node {
    stop: Arc<AtomicBool>,
    status: Arc<Mutex<Status>>,
    thread: JoinHandle<()>,
}

#[derive(Clone, Default, Debug)]
struct Status {
    ledger: Ledger,
    trunk: PortCounters,
    /// Sessions of BGP and BFD.
    up: usize,
    bfd_downs: usize,
    bgp_downs: usize,
    stall: Duration,
}

impl Node {
    fn start(config: RouterConfig, ports: [&'static str; 2]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let status = Arc::new(Mutex::default());
        let (asked, shown) = (stop.clone(), status.clone());
        // What the other end sends arrives from now on.
        let ports = ports.map(|name| (name, open(name)));
        let thread = thread::spawn(move || run_node(&config, ports, &asked, &shown));
        Self { stop, status, thread }
    }

    fn status(&self) -> Status {
        self.status.lock().unwrap().clone()
    }

    /// The longest stall is the one since it was last taken.
    fn take_status(&self) -> Status {
        let mut status = self.status.lock().unwrap();
        let taken = status.clone();
        status.stall = Duration::ZERO;
        taken
    }

    fn stop(self) -> Status {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.status.lock().unwrap().clone()
    }
}

struct Nobody;

impl Observer for Nobody {
    fn frame(&mut self, _: LinkIndex, _: Direction, _: &[u8], _: Instant) {}
}

fn run_node(
    config: &RouterConfig,
    ports: [(&str, PacketPort); 2],
    stop: &AtomicBool,
    status: &Mutex<Status>,
) {
    let mut fabric = Fabric::<HostNode>::new(1);
    let router = fabric.add_router(config);
    let outside = ports.map(|(name, port)| (name, fabric.add_port(Box::new(port))));
    for ((name, port), index) in outside.into_iter().zip([PortIndex(0), PortIndex(1)]) {
        fabric.add_link(LinkConfig::named(name), [(port, PortIndex(0)), (router, index)]);
    }
    let mut time = RealTime::start();
    while !stop.load(Ordering::Relaxed) {
        let end = time.now() + Duration::from_millis(10);
        time.run_until(&mut fabric, end, &mut Nobody);
        let stall = time.take_longest_stall();
        let seen = status_of(&mut fabric, router, outside[0].1);
        let mut status = status.lock().unwrap();
        *status = Status {
            stall: status.stall.max(stall),
            bfd_downs: status.bfd_downs + seen.bfd_downs,
            bgp_downs: status.bgp_downs + seen.bgp_downs,
            ..seen
        };
    }
    let totals = fabric.totals();
    assert!(totals.held, "every packet is accounted for: {:?}", totals.sum);
}

/// With the sessions that went down since this was last asked.
fn status_of(fabric: &mut Fabric<HostNode>, router: NodeIndex, trunk: NodeIndex) -> Status {
    let trunk = fabric.port_counters(trunk);
    let now = fabric.now();
    let events = fabric.take_events();
    let count = |kind| events.iter().filter(|event| event.kind == kind).count();
    let (bfd_downs, bgp_downs) = (count(EventKind::BfdDown), count(EventKind::BgpDown));
    let snapshot = fabric.router(router).unwrap().snapshot(now);
    let sessions = snapshot.vrfs.iter().flat_map(|vrf| &vrf.sessions);
    let up = sessions.filter(|session| session.established).count()
        + snapshot.bfd.iter().filter(|session| session.state == "Up").count();
    Status { ledger: fabric.ledger(router), trunk, up, bfd_downs, bgp_downs, stall: Duration::ZERO }
}

/// An MSEE: the flooded circuit, and another on two ports.
fn router() -> RouterConfig {
    let mut config = node("msee", Role::Msee, ROUTER_MACS, 1);
    let customer = Asn::new(CUSTOMER).unwrap();
    config.vrfs = vec![vrf("flooded", Asn::MICROSOFT), vrf("circuit", Asn::MICROSOFT)];
    for (at, (name, _, _, third)) in ATTACHMENTS.into_iter().enumerate() {
        let vrf = &mut config.vrfs[at.min(1)];
        vrf.neighbors.push(neighbor(name, NeighborKind::PrivatePeering, third, [1, 2], customer));
        vrf.statics.push(StaticRoute {
            prefix: format!("10.{third}.0.0/16").parse().unwrap(),
            attachment: name.to_owned(),
            next_hop: address(third, 2),
        });
        config.attachments[at].service = Service::Vrf(vrf.name.clone());
    }
    config
}

/// The customer of all three, each in a table of its own.
fn peer() -> RouterConfig {
    let mut config = node("peer", Role::Edge, PEER_MACS, 2);
    for (name, _, _, third) in ATTACHMENTS {
        let mut vrf = vrf(name, Asn::new(CUSTOMER).unwrap());
        let msee = Asn::MICROSOFT;
        vrf.neighbors.push(neighbor(name, NeighborKind::Provider, third, [2, 1], msee));
        config.vrfs.push(vrf);
    }
    config
}

const CUSTOMER: u32 = 65_010;

fn node(name: &str, role: Role, macs: [MacAddr; 2], last: u8) -> RouterConfig {
    let port = |index: usize| ["trunk", "other"][index].to_owned();
    let id = |tag: u16| VlanId::new(u64::from(tag)).unwrap();
    let attachments = ATTACHMENTS.map(|(name, at, tags, third)| AttachmentConfig {
        name: name.to_owned(),
        port: port(at),
        encapsulation: Encapsulation::QinQ { outer: id(tags[0]), inner: id(tags[1]) },
        service: Service::Vrf(name.to_owned()),
        mtu: 1500,
        addresses: vec![AddressOnLink {
            address: address(third, last),
            on_link: format!("172.16.{third}.0/24").parse().unwrap(),
        }],
        ingress_limiters: Vec::new(),
        egress_limiters: Vec::new(),
        polices_control: false,
        answers_icmp: true,
    });
    RouterConfig {
        name: name.to_owned(),
        role,
        router_id: Ipv4Addr::new(10, 255, 0, last),
        hash: FlowHash::Asymmetric,
        announces_addresses: false,
        ports: [0, 1].map(|at| PortConfig { name: port(at), mac: macs[at] }).to_vec(),
        limiters: Vec::new(),
        vrfs: Vec::new(),
        attachments: attachments.to_vec(),
    }
}

fn vrf(name: &str, asn: Asn) -> VrfConfig {
    VrfConfig {
        name: name.to_owned(),
        asn,
        max_paths: 1,
        originated: Vec::new(),
        statics: Vec::new(),
        neighbors: Vec::new(),
        convergence: ConvergenceDelay::default(),
    }
}

fn neighbor(
    name: &str,
    kind: NeighborKind,
    third: u8,
    [local, peer]: [u8; 2],
    peer_asn: Asn,
) -> NeighborConfig {
    NeighborConfig {
        name: name.to_owned(),
        kind,
        attachment: name.to_owned(),
        local: address(third, local),
        peer: address(third, peer),
        peer_asn,
        ordinal: 0,
        enabled: true,
        md5: None,
        ttl: SessionTtl::SINGLE_HOP,
        hold: Duration::from_mins(3),
        graceful_restart: GracefulRestart::Off,
        bfd: Some(BfdConfig {
            desired_min_tx: INTERVAL,
            required_min_rx: INTERVAL,
            detect_mult: 3,
        }),
        import: ImportPolicy::default(),
        export: ExportPolicy::default(),
    }
}

const fn address(third: u8, last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(172, 16, third, last))
}
