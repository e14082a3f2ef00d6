//! Domains wired to one another, in virtual time: two MSEEs, a gateway, a VNet.

use super::*;
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
        bfd: None,
        import: ImportPolicy::default(),
        export: ExportPolicy::default(),
    }
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
        };
        for (i, config) in configs.iter().enumerate() {
            for (at, there) in links[i].iter().enumerate() {
                let attachment = Attachment {
                    carrier: true,
                    name: at.to_string(),
                    vrf: VrfIndex(0),
                    mac: MacAddr([2, 0, 0, 0, 0, 1]),
                    mtu: 1500,
                    addresses: vec![own[i].parse().unwrap()],
                    on_link: vec![Prefix::from(there.parse::<IpAddr>().unwrap())],
                };
                net.domains[i].set_attachment(AttachmentIndex(at as u16), &attachment, net.now);
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
            for domain in &mut self.domains {
                domain.handle_timeout(self.now);
            }
            while self.carry() {}
            let due = self.domains.iter().map(Domain::poll_timeout).min();
            self.now = due.expect("there are four").max(self.now);
        }
        self.now = until;
    }

    fn carry(&mut self) -> bool {
        let mut carried = false;
        for from in 0..4 {
            self.domains[from].run(self.now, &mut self.log);
            while let Some((attachment, _, packet)) = self.domains[from].poll_transmit() {
                let (to, there) = match (from, attachment.0) {
                    (2, 2) => (3, 2),
                    (2, msee) => (usize::from(msee), 0),
                    (3, _) => (2, 2),
                    (msee, _) => (2, msee as u16),
                };
                self.domains[to].receive(AttachmentIndex(there), &packet, self.now);
                carried = true;
            }
        }
        carried
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
