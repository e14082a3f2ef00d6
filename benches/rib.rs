//! How long the table needs when a neighbour with 10,000 routes is lost: from the loss to the last
//! withdrawal at the gateways and the last change for forwarding.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

use msee::control::rib::{Loss, Peer, PeerIndex, Rib, RibConfig};
use msee::control::route::{AsPath, Attributes, Origin, Update};
use msee::model::{
    Asn, AttachmentIndex, ConvergenceDelay, ExportPolicy, ImportPolicy, Instant, NeighborKind,
    Prefix, VrfIndex,
};

const ROUTES: u32 = 10_000;
const GATEWAYS: u16 = 4;
const CUSTOMER: PeerIndex = PeerIndex(0);

fn peer_loss(c: &mut Criterion) {
    c.bench_function("rib/lose 10,000 routes, 4 gateways", |b| {
        b.iter_batched(full, lose, BatchSize::LargeInput);
    });
    c.bench_function("rib/learn 10,000 routes, 4 gateways", |b| {
        b.iter_batched(empty, |mut rib| learn(&mut rib), BatchSize::LargeInput);
    });
}

/// Returns the table, so that dropping it is not measured.
fn lose(mut rib: Rib) -> Rib {
    let now = Instant::from_secs(10);
    rib.closed(CUSTOMER, Loss::Failed, now);
    assert_eq!(drain(&mut rib), ROUTES as usize * usize::from(GATEWAYS));
    rib
}

fn full() -> Rib {
    let mut rib = empty();
    learn(&mut rib);
    rib
}

fn empty() -> Rib {
    let config = RibConfig {
        vrf: VrfIndex(0),
        asn: Asn::MICROSOFT,
        router_id: Ipv4Addr::new(9, 9, 9, 9),
        max_paths: 8,
        convergence: ConvergenceDelay::default(),
        linger: RibConfig::LINGER,
    };
    let mut rib = Rib::new(config, 1);
    for n in 0..=GATEWAYS {
        let now = Instant::ZERO;
        rib.add_peer(PeerIndex(n), peer(n), now);
        rib.established(PeerIndex(n), Ipv4Addr::new(1, 1, 1, n as u8), false, now);
    }
    rib
}

fn peer(n: u16) -> Peer {
    let kind = if n == 0 { NeighborKind::PrivatePeering } else { NeighborKind::Gateway };
    let address = |host| IpAddr::V4(Ipv4Addr::new(172, 16, n as u8, host));
    Peer {
        name: format!("peer {n}"),
        kind,
        attachment: AttachmentIndex(n),
        local: address(1),
        peer: address(2),
        local_asn: Asn::MICROSOFT,
        peer_asn: Asn::GATEWAY,
        ordinal: n as u8,
        import: ImportPolicy::default(),
        export: ExportPolicy::default(),
        add_path: false,
    }
}

fn learn(rib: &mut Rib) {
    let prefixes: Vec<_> = (0..ROUTES)
        .map(|n| Prefix::new(Ipv4Addr::from(0x0a00_0000 + n * 256).into(), 24).expect("a /24"))
        .collect();
    for some in prefixes.chunks(500) {
        let attributes = Attributes {
            origin: Origin::Igp,
            as_path: AsPath::sequence([Asn::new(65010).expect("not zero")]),
            next_hop: IpAddr::V4(Ipv4Addr::new(172, 16, 0, 2)),
            med: None,
            local_preference: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
        };
        let update = Update {
            announced: some.to_vec(),
            attributes: Some(Arc::new(attributes)),
            ..Update::default()
        };
        rib.update(CUSTOMER, &update, Instant::ZERO);
    }
    rib.handle_timeout(Instant::ZERO + Duration::from_millis(2));
    drain(rib);
}

/// Takes everything out; how many withdrawals there were.
fn drain(rib: &mut Rib) -> usize {
    let mut withdrawn = 0;
    std::hint::black_box(rib.poll_changes());
    for n in 0..=GATEWAYS {
        while let Some(update) = rib.poll_export(PeerIndex(n)) {
            withdrawn += update.withdrawn.len();
        }
    }
    withdrawn
}

criterion_group!(benches, peer_loss);
criterion_main!(benches);
