//! From the octets of BGP UPDATEs to the changes that forwarding gets: the codec, the session, the
//! table. 4,000 routes (L-13), 6 prefixes an UPDATE, each UPDATE its own AS path;
//! `cargo bench --bench bgp_update`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use msee::control::bgp::{
    Action, ConnectionId, Direction, Family, Session, SessionConfig, SessionEvent,
};
use msee::control::rib::{Peer, PeerIndex, Rib, RibConfig};
use msee::control::route::{AsPath, Attributes, Origin, Update};
use msee::model::{
    Asn, AttachmentIndex, ConvergenceDelay, ExportPolicy, ImportPolicy, Instant, NeighborKind,
    Prefix, VrfIndex,
};

const ROUTES: usize = 4_000;
const PREFIXES_AN_UPDATE: usize = 6;
const CONNECTION: ConnectionId = ConnectionId(1);
const CUSTOMER_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
const MSEE_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);
const PEER: PeerIndex = PeerIndex(0);

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(15).measurement_time(Duration::from_secs(3));
    targets = update_to_change
}
criterion_main!(benches);

fn update_to_change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bgp update to change");
    group.throughput(Throughput::Elements(ROUTES as u64));
    group.bench_function("4,000 routes", |bench| {
        bench.iter_batched(established, receive, BatchSize::LargeInput);
    });
    group.finish();
}

/// Everything the timed part needs: the receiving session, its table, and the octets.
struct Scene {
    session: Session,
    rib: Rib,
    octets: Vec<u8>,
}

/// Returns the scene, so that dropping it is not measured.
fn receive(mut scene: Scene) -> Scene {
    let now = Instant::from_secs(2);
    let mut changes = 0;
    for segment in scene.octets.chunks(16 << 10) {
        scene.session.handle_bytes(CONNECTION, segment, now);
        while let Some(event) = scene.session.poll_event() {
            if let SessionEvent::Update(update) = event {
                scene.rib.update(PEER, &update, now);
            }
        }
        changes += scene.rib.poll_changes().len();
    }
    scene.rib.handle_timeout(now + Duration::from_millis(2));
    changes += scene.rib.poll_changes().len();
    assert!(changes >= ROUTES, "{changes} changes");
    scene
}

fn established() -> Scene {
    let msee = SessionConfig::new(Asn::MICROSOFT, customer(), MSEE_ADDRESS, Family::Ipv4);
    let edge = SessionConfig::new(customer(), Asn::MICROSOFT, CUSTOMER_ADDRESS, Family::Ipv4);
    let mut ends = [Session::new(msee, 1), Session::new(edge, 2)];
    let now = Instant::from_secs(1);
    for (end, direction) in ends.iter_mut().zip([Direction::Incoming, Direction::Outgoing]) {
        end.start(now);
        end.handle_connected(CONNECTION, direction, now);
    }
    while exchange(&mut ends, now) {}
    let mut octets = Vec::new();
    for update in updates() {
        ends[1].send_update(&update, now).expect("the session is established and has room");
        octets.extend(sent(&mut ends[1]));
    }
    let [session, _] = ends;
    Scene { session, rib: rib(now), octets }
}

/// Carries what each end has to say to the other; false when neither has anything.
fn exchange(ends: &mut [Session; 2], now: Instant) -> bool {
    let mut moved = false;
    for from in 0..2 {
        let octets = sent(&mut ends[from]);
        moved |= !octets.is_empty();
        ends[1 - from].handle_bytes(CONNECTION, &octets, now);
    }
    for end in ends {
        while end.poll_event().is_some() {}
    }
    moved
}

fn sent(session: &mut Session) -> Vec<u8> {
    let mut octets = Vec::new();
    while let Some(action) = session.poll_action() {
        if let Action::Send(_, message) = action {
            octets.extend(message);
        }
    }
    octets
}

fn rib(now: Instant) -> Rib {
    let config = RibConfig {
        vrf: VrfIndex(0),
        asn: Asn::MICROSOFT,
        router_id: MSEE_ADDRESS,
        max_paths: 8,
        convergence: ConvergenceDelay::default(),
        linger: RibConfig::LINGER,
    };
    let mut rib = Rib::new(config, 1);
    let peer = Peer {
        name: "ce1".to_owned(),
        kind: NeighborKind::PrivatePeering,
        attachment: AttachmentIndex(0),
        local: MSEE_ADDRESS.into(),
        peer: CUSTOMER_ADDRESS.into(),
        local_asn: Asn::MICROSOFT,
        peer_asn: customer(),
        ordinal: 0,
        import: ImportPolicy::default(),
        export: ExportPolicy::default(),
        add_path: false,
    };
    rib.add_peer(PEER, peer, now);
    rib.established(PEER, CUSTOMER_ADDRESS, false, now);
    rib
}

fn updates() -> impl Iterator<Item = Update> {
    (0..ROUTES.div_ceil(PREFIXES_AN_UPDATE)).map(|number| {
        let first = number * PREFIXES_AN_UPDATE;
        let path = [customer().get(), 3320, 1299, 64_700 + number as u32];
        Update {
            announced: (first..(first + PREFIXES_AN_UPDATE).min(ROUTES)).map(prefix).collect(),
            attributes: Some(Arc::new(Attributes {
                origin: Origin::Igp,
                as_path: AsPath::sequence(path.map(|asn| Asn::new(asn).expect("not zero"))),
                next_hop: CUSTOMER_ADDRESS.into(),
                med: None,
                local_preference: None,
                communities: Vec::new(),
                large_communities: Vec::new(),
            })),
            ..Update::default()
        }
    })
}

fn prefix(number: usize) -> Prefix {
    let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + ((number as u32) << 8)));
    Prefix::new(address, 24).expect("24 is a length")
}

fn customer() -> Asn {
    Asn::new(65_010).expect("not zero")
}
