//! Domains wired to one another, in virtual time: two MSEEs, a gateway, a VNet.

use super::*;
use crate::control::bgp::{AddPath, Established};
use crate::model::{ConvergenceDelay, ExportPolicy, ImportPolicy, OriginatedPrefix, SessionTtl};
use crate::wire::MacAddr;

const MSEES: [&str; 2] = ["10.1.255.196", "10.1.255.197"];
const GATEWAY: &str = "10.1.255.228";
const VNET: &str = "10.1.255.193";
const BLOCK: &str = "192.168.0.0/22";

fn neighbor(kind: NeighborKind, attachment: u16, ends: [&str; 2], peer_asn: Asn) -> NeighborConfig {
    let [local, peer] = ends.map(|text| text.parse().unwrap());
    NeighborConfig {
        name: format!("to {peer}"),
        kind,
        attachment: attachment.to_string(),
        local,
        peer,
        peer_asn,
        ordinal: attachment as u8,
        enabled: true,
        md5: None,
        ttl: SessionTtl::SINGLE_HOP,
        hold: Duration::from_mins(3),
        graceful_restart: GracefulRestart::Off,
        bfd: None,
        import: ImportPolicy::default(),
        export: ExportPolicy::default(),
    }
}

fn attachment(at: usize, own: &str, there: &str) -> (AttachmentIndex, Attachment) {
    let attachment = Attachment {
        carrier: true,
        name: at.to_string(),
        vrf: VrfIndex(0),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        addresses: vec![own.parse().unwrap()],
        on_link: vec![Prefix::from(there.parse::<IpAddr>().unwrap())],
    };
    (AttachmentIndex(at as u16), attachment)
}

fn vrf(asn: Asn, neighbors: Vec<NeighborConfig>, originated: &[&str]) -> VrfConfig {
    let one = |text: &&str| OriginatedPrefix { prefix: text.parse().unwrap() };
    VrfConfig {
        name: "main".to_owned(),
        asn,
        max_paths: 8,
        originated: originated.iter().map(one).collect(),
        statics: Vec::new(),
        neighbors,
        convergence: ConvergenceDelay::default(),
    }
}

fn msee(which: usize, originated: &[&str]) -> VrfConfig {
    let ends = [MSEES[which], GATEWAY];
    vrf(Asn::MICROSOFT, vec![neighbor(NeighborKind::Gateway, 0, ends, Asn::GATEWAY)], originated)
}

/// MSEEs 0 and 1, gateway 2, VNet 3. Attachments 0 and 1 of the gateway lead to the MSEEs and 2 to
/// the VNet; 0 and 1 of the VNet lead to the MSEEs, too, and 2 to the gateway.
struct Net {
    now: Instant,
    domains: [Domain; 4],
    log: EventLog,
    /// The first MSEE hears and says nothing.
    dead: bool,
}

impl Net {
    fn new(vnet_kind: NeighborKind) -> Self {
        let to_msee = |i: u16| {
            let ends = [GATEWAY, MSEES[usize::from(i)]];
            neighbor(NeighborKind::Msee, i, ends, Asn::MICROSOFT)
        };
        let to_vnet = neighbor(NeighborKind::EffectiveRoutes, 2, [GATEWAY, VNET], Asn::GATEWAY);
        let to_gateway = neighbor(vnet_kind, 2, [VNET, GATEWAY], Asn::GATEWAY);
        let configs = [
            msee(0, &[BLOCK]),
            msee(1, &[BLOCK]),
            vrf(Asn::GATEWAY, vec![to_msee(0), to_msee(1), to_vnet], &[]),
            vrf(Asn::GATEWAY, vec![to_gateway], &[]),
        ];
        let own = [MSEES[0], MSEES[1], GATEWAY, VNET];
        let links = [
            &[GATEWAY][..],
            &[GATEWAY],
            &[MSEES[0], MSEES[1], VNET],
            &[MSEES[0], MSEES[1], GATEWAY],
        ];
        let mut net = Self {
            now: Instant::ZERO,
            domains: std::array::from_fn(|i| {
                let id = Ipv4Addr::new(10, 0, 0, i as u8 + 1);
                Domain::new("net", VrfIndex(0), &configs[i], id, i as u64)
            }),
            log: EventLog::default(),
            dead: false,
        };
        for (i, config) in configs.iter().enumerate() {
            for (at, there) in links[i].iter().enumerate() {
                let (index, link) = attachment(at, own[i], there);
                net.domains[i].set_attachment(index, &link, net.now);
            }
            net.apply(i, config);
        }
        net
    }

    fn apply(&mut self, domain: usize, config: &VrfConfig) {
        let attachments = (0..3).map(|at| (at.to_string(), AttachmentIndex(at))).collect();
        self.domains[domain].apply(config, &attachments, self.now);
    }

    fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now <= until {
            for domain in self.domains.iter_mut().skip(usize::from(self.dead)) {
                domain.handle_timeout(self.now);
            }
            while self.carry() {}
            let alive = self.domains.iter().skip(usize::from(self.dead));
            let due = alive.map(Domain::poll_timeout).min();
            self.now = due.expect("three are always there").max(self.now);
        }
        self.now = until;
    }

    fn carry(&mut self) -> bool {
        let mut carried = false;
        for from in usize::from(self.dead)..4 {
            self.domains[from].run(self.now, &mut self.log);
            while let Some((attachment, _, packet)) = self.domains[from].poll_transmit() {
                let (to, there) = match (from, attachment.0) {
                    (2, 2) => (3, 2),
                    (2, msee) => (usize::from(msee), 0),
                    (3, _) => (2, 2),
                    (msee, _) => (2, msee as u16),
                };
                if to > 0 || !self.dead {
                    self.domains[to].receive(AttachmentIndex(there), &packet, self.now);
                }
                carried = true;
            }
        }
        carried
    }

    /// The first MSEE's control is another process, over forwarding that went on.
    fn start_again(&mut self, config: &VrfConfig) {
        let id = Ipv4Addr::new(10, 0, 0, 1);
        let mut domain = Domain::new("net", VrfIndex(0), config, id, 77);
        domain.start_again(BTreeSet::new(), self.now);
        let (index, link) = attachment(0, MSEES[0], GATEWAY);
        domain.set_attachment(index, &link, self.now);
        self.domains[0] = domain;
        self.dead = false;
        self.apply(0, config);
    }

    /// Next hops that the VNet uses for the block.
    fn used(&self) -> Vec<String> {
        let rows = self.domains[3].rib().loc_rib();
        let block = BLOCK.parse().unwrap();
        let paths = rows.into_iter().filter(|row| row.prefix == block).flat_map(|row| row.paths);
        paths.filter(|path| path.multipath).map(|path| path.next_hop.to_string()).collect()
    }
}

/// A gateway tells its VNet both MSEEs and takes one back (9.6). A neighbour that does not tell
/// paths apart hears of one at a time and is never without.
#[test]
fn a_vnet_learns_of_every_msee_and_another_neighbour_of_one() {
    for (kind, both) in [(NeighborKind::EffectiveRoutes, true), (NeighborKind::Internal, false)] {
        let mut net = Net::new(kind);
        net.run_for(Duration::from_secs(30));
        let expected = if both { &MSEES[..] } else { &MSEES[..1] };
        assert_eq!(net.used(), expected, "{kind:?}");

        net.apply(0, &msee(0, &[]));
        net.run_for(Duration::from_secs(30));
        assert_eq!(net.used(), MSEES[1..], "{kind:?}");

        net.apply(0, &msee(0, &[BLOCK]));
        net.run_for(Duration::from_secs(30));
        assert_eq!(net.used(), expected, "{kind:?}");
    }
}

fn graceful(mut config: VrfConfig, mode: GracefulRestart) -> VrfConfig {
    config.neighbors.iter_mut().for_each(|neighbor| neighbor.graceful_restart = mode);
    config
}

/// The first MSEE and the gateway are in these modes, and up.
fn net_with(msee_mode: GracefulRestart, gateway_mode: GracefulRestart) -> (Net, VrfConfig) {
    let mut net = Net::new(NeighborKind::EffectiveRoutes);
    let config = graceful(msee(0, &[BLOCK]), msee_mode);
    net.apply(0, &config);
    let gateway = graceful(net.domains[2].config.clone(), gateway_mode);
    net.apply(2, &gateway);
    net.run_for(Duration::from_secs(30));
    assert_eq!(net.used(), MSEES);
    (net, config)
}

/// What the gateway does of each loss of its session with an MSEE that would be kept for: how many
/// MSEEs the VNet uses a moment later, and after the 120 s that the MSEE may be away.
#[test]
fn a_gateway_keeps_routes_for_a_lost_connection_and_nothing_else() {
    type Loss = fn(&mut Net);
    const TO_MSEE: AttachmentIndex = AttachmentIndex(0);
    fn lose_connection(net: &mut Net) {
        net.domains[0].drop_transports(TO_MSEE, net.now);
        net.carry();
        net.dead = true;
    }
    fn bfd(net: &mut Net, up: bool) {
        net.domains[2].bfd(TO_MSEE, MSEES[0].parse().unwrap(), up, net.now);
    }
    fn reset(net: &mut Net) {
        net.domains[2].reset(&format!("to {}", MSEES[0]), net.now);
    }
    fn carrier(net: &mut Net) {
        net.domains[2].carrier(TO_MSEE, false, net.now);
    }
    fn shut(net: &mut Net) {
        let mut config = net.domains[2].config.clone();
        config.neighbors[0].enabled = false;
        net.apply(2, &config);
    }
    let losses: [(&str, Loss, [usize; 2]); 13] = [
        ("connection", lose_connection, [2, 1]),
        (
            "connection, the path works again",
            |net| {
                bfd(net, false);
                net.run_for(Duration::from_secs(10));
                bfd(net, true);
                assert_eq!(net.used(), MSEES);
                lose_connection(net);
            },
            [2, 1],
        ),
        (
            "connection, the path does not work",
            |net| {
                bfd(net, false);
                net.run_for(Duration::from_secs(10));
                assert_eq!(net.used(), MSEES);
                lose_connection(net);
            },
            [1, 1],
        ),
        (
            "BFD",
            |net| {
                bfd(net, false);
                net.dead = true;
            },
            [1, 1],
        ),
        (
            "carrier",
            |net| {
                carrier(net);
                net.dead = true;
            },
            [1, 1],
        ),
        (
            "reset",
            |net| {
                reset(net);
                net.dead = true;
            },
            [1, 1],
        ),
        (
            "shut",
            |net| {
                shut(net);
                net.dead = true;
            },
            [1, 1],
        ),
        (
            "the peer's NOTIFICATION",
            |net| {
                net.domains[0].reset(&format!("to {GATEWAY}"), net.now);
                net.carry();
                net.dead = true;
            },
            [1, 1],
        ),
        (
            "hold timer",
            |net| {
                net.dead = true;
                net.run_for(Duration::from_secs(179));
            },
            [1, 1],
        ),
        (
            "connection, then BFD",
            |net| {
                lose_connection(net);
                net.run_for(Duration::from_secs(5));
                bfd(net, false);
            },
            [1, 1],
        ),
        (
            "connection, then carrier",
            |net| {
                lose_connection(net);
                net.run_for(Duration::from_secs(5));
                carrier(net);
            },
            [1, 1],
        ),
        (
            "connection, then reset",
            |net| {
                lose_connection(net);
                net.run_for(Duration::from_secs(5));
                reset(net);
            },
            [1, 1],
        ),
        (
            "connection, then shut",
            |net| {
                lose_connection(net);
                net.run_for(Duration::from_secs(5));
                shut(net);
            },
            [1, 1],
        ),
    ];
    for (name, lose, expected) in losses {
        let (mut net, _) = net_with(GracefulRestart::Full, GracefulRestart::Helper);
        lose(&mut net);
        let used = [3, 120].map(|seconds| {
            net.run_for(Duration::from_secs(seconds));
            net.used().len()
        });
        assert_eq!(used, expected, "{name}");
    }
}

/// Whether the gateway's forwarding moves when the process of the first MSEE starts again after 5 s,
/// and how many MSEEs the VNet uses in the end.
#[test]
fn a_restart_moves_nothing_where_both_ends_agree_on_it() {
    use GracefulRestart::{Full, Helper, Off};
    for (modes, announces, moves, last) in [
        ([Full, Helper], true, false, 2),
        ([Full, Full], true, false, 2),
        // What is not said again goes with the End-of-RIB.
        ([Full, Helper], false, true, 1),
        ([Helper, Full], true, true, 2),
        ([Off, Helper], true, true, 2),
        ([Full, Off], true, true, 2),
    ] {
        let (mut net, config) = net_with(modes[0], modes[1]);
        net.dead = true;
        net.run_for(Duration::from_secs(5));
        net.domains[2].take_changes();
        let none = VrfConfig { originated: Vec::new(), ..config.clone() };
        net.start_again(if announces { &config } else { &none });
        net.run_for(Duration::from_secs(200));
        let changes = net.domains[2].take_changes();
        let moved = changes.iter().any(|change| matches!(change, Change::Route { .. }));
        assert_eq!(moved, moves, "{modes:?} {announces}");
        assert_eq!(net.used().len(), last, "{modes:?} {announces}");
        assert!(net.domains.iter().all(Domain::is_settled));
    }
}

/// RFC 4724, 4.2: a neighbour whose forwarding began anew, or that says nothing of restarts any more.
#[test]
fn what_is_kept_goes_when_its_neighbour_has_not_kept_it() {
    let graceful = |preserved| Graceful { restarted: true, preserved, keep: None };
    for (graceful, left) in [(Some(graceful(true)), 1), (Some(graceful(false)), 0), (None, 0)] {
        let (mut net, _) = net_with(GracefulRestart::Full, GracefulRestart::Helper);
        net.domains[0].drop_transports(AttachmentIndex(0), net.now);
        net.carry();
        let gateway = &mut net.domains[2];
        let msee = |(_, peer): &(&PeerIndex, &Peer)| peer.config.peer.to_string() == MSEES[0];
        let (&index, peer) = gateway.peers.iter().find(msee).unwrap();
        assert!(peer.has_kept_routes());
        assert_eq!(gateway.rib.received(index), 1);
        let back = SessionEvent::Established(Established {
            peer_id: Ipv4Addr::new(10, 0, 0, 1),
            hold: Duration::ZERO,
            keepalive: Duration::ZERO,
            four_octet: true,
            route_refresh: true,
            enhanced_refresh: true,
            add_path: AddPath::NONE,
            graceful,
        });
        gateway.handle_session_event(index, back, net.now, &mut net.log);
        assert_eq!(gateway.rib.received(index), left, "{graceful:?}");
    }
}

/// RFC 4724, 4.1: nothing is announced before the neighbours have told everything, or a time.
#[test]
fn who_starts_again_announces_nothing_before_it_has_heard_all() {
    let (mut net, config) = net_with(GracefulRestart::Full, GracefulRestart::Full);
    // A neighbour that never comes up.
    let mut config = config;
    let absent = NeighborConfig {
        name: "absent".to_owned(),
        peer: "10.1.255.230".parse().unwrap(),
        ..config.neighbors[0].clone()
    };
    config.neighbors.push(absent);
    net.dead = true;
    net.run_for(Duration::from_secs(5));
    net.start_again(&config);
    net.run_for(SELECTION_DEFERRAL.saturating_sub(Duration::from_secs(1)));
    assert!(
        net.domains[0].take_changes().iter().all(|change| matches!(change, Change::Bfd { .. }))
    );
    assert!(!net.domains[0].is_settled());
    let stale =
        |net: &Net| net.domains[2].peers.values().filter(|peer| peer.has_kept_routes()).count();
    assert_eq!(stale(&net), 1);
    assert_eq!(net.used(), MSEES);
    net.run_for(Duration::from_secs(2));
    assert!(net.domains[0].is_settled());
    assert!(!net.domains[0].take_changes().is_empty());
    assert_eq!(stale(&net), 0);
    assert_eq!(net.used(), MSEES);
}
