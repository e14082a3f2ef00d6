//! What a packet costs on its whole path in memory: two tags in, limiter, lookup in its VRF,
//! rewrite, two tags out. One core, batches of 64; `cargo bench --bench data_path`.
//!
//! Every VRF leads packets back to where they came from, so that a frame that left is a frame that
//! comes in: the frames of the pool go round, and nothing is built while the clock runs.

use std::net::Ipv4Addr;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use msee::dataplane::Forwarding;
use msee::io::{Frame, Frames};
use msee::model::{
    AttachmentEntry, AttachmentIndex, Bandwidth, Change, Encapsulation, FlowHash, GroupIndex,
    InnerService, Instant, LimiterIndex, LimiterParameters, Member, PortEntry, PortIndex, Random,
    VlanId, VrfIndex,
};
use msee::wire::{MacAddr, ethernet, ethertype, ipv4, protocol, udp, vlan};

const PORT: PortIndex = PortIndex(0);
const PORT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const INNER_TAG: u16 = 100;
const GROUP: GroupIndex = GroupIndex(1);
/// Frames that go round: as many as a port's ring has.
const FRAMES: usize = 1_024;
const BATCH: usize = 64;
/// Rounds until the frames are made anew, because their TTL counts down.
const ROUNDS: usize = 200;
const PAYLOAD_BYTES: usize = 18;

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(15).measurement_time(Duration::from_secs(3));
    targets = data_path
}
criterion_main!(benches);

fn data_path(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("data path");
    bench.throughput(Throughput::Elements(1));
    for (vrfs, routes) in [(1_000_u16, 100_u32), (1, 4_000)] {
        let mut ring = Ring::new(vrfs, routes);
        bench.bench_function(format!("{vrfs} VRFs x {routes} routes"), |b| {
            b.iter_custom(|packets| ring.forward(packets));
        });
    }
    bench.finish();
}

/// A router and the frames that go round in it.
struct Ring {
    forwarding: Forwarding,
    pool: Frames,
    frames: Vec<Frame>,
    back: Vec<Frame>,
    templates: Vec<Vec<u8>>,
    now: Instant,
}

impl Ring {
    fn new(vrfs: u16, routes: u32) -> Self {
        let mut forwarding = Forwarding::new(1, 1, FlowHash::Asymmetric);
        forwarding.apply(&router(vrfs, routes), Instant::ZERO);
        assert_eq!(forwarding.refused_changes(), 0);
        let mut random = Random::new(1, "frames");
        let mut template = || {
            let vrf = random.below(u64::from(vrfs)) as u16;
            let route = random.below(u64::from(routes)) as u32;
            frame(vrf, prefix(route) | random.below(256) as u32, random.next_u32() as u16)
        };
        let templates = (0..FRAMES).map(|_| template()).collect();
        let (pool, now) = (Frames::new(), Instant::ZERO);
        Self { forwarding, pool, frames: Vec::new(), back: Vec::new(), templates, now }
    }

    /// The time that `packets` packets take at the speed of the median round: one in which the
    /// host took the core away says nothing about the path.
    fn forward(&mut self, packets: u64) -> Duration {
        let rounds = (packets as usize).div_ceil(FRAMES);
        let mut spent = Vec::with_capacity(rounds);
        for round in 0..rounds {
            if round % ROUNDS == 0 {
                self.refill();
            }
            let begun = clock();
            self.round();
            spent.push(begun.elapsed());
        }
        let ledger = self.forwarding.ledger();
        assert_eq!(ledger.received, ledger.transmitted, "{ledger:?}");
        spent.sort_unstable();
        spent[rounds / 2].mul_f64(packets as f64 / FRAMES as f64)
    }

    fn round(&mut self) {
        while !self.frames.is_empty() {
            let batch = self.frames.drain(self.frames.len() - BATCH..);
            self.now += Duration::from_micros(2);
            self.forwarding.receive(PORT, batch, &mut self.pool, self.now);
            while let Some((_, frame)) = self.forwarding.poll_transmit() {
                self.back.push(frame);
            }
        }
        std::mem::swap(&mut self.frames, &mut self.back);
    }

    fn refill(&mut self) {
        for frame in self.frames.drain(..) {
            self.pool.free(frame);
        }
        for template in &self.templates {
            self.frames.push(self.pool.allocate_from(template).expect("the pool is larger"));
        }
    }
}

/// The benchmark's clock is the host's; the router's is [`Ring::now`].
#[allow(clippy::disallowed_types)]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

fn router(vrfs: u16, routes: u32) -> Vec<Change> {
    let entry = PortEntry { name: "port".to_owned(), mac: PORT_MAC };
    let mut changes = vec![Change::Port { index: PORT, entry }];
    for vrf in 0..vrfs {
        changes.extend(circuit(vrf, routes));
    }
    changes
}

fn circuit(number: u16, routes: u32) -> Vec<Change> {
    let (index, vrf, limiter) = (AttachmentIndex(number), VrfIndex(number), LimiterIndex(number));
    let id = |tag: u16| VlanId::new(u64::from(tag)).expect("1 to 4094");
    let peer = Ipv4Addr::new(172, 16, 0, 1).into();
    let entry = AttachmentEntry {
        name: format!("circuit {number}"),
        port: PORT,
        encapsulation: Encapsulation::QinQ { outer: id(number + 2), inner: id(INNER_TAG) },
        service: InnerService::Vrf(vrf),
        mtu: 1500,
        addresses: vec![Ipv4Addr::new(172, 16, 0, 2).into()],
        ingress_limiters: vec![limiter],
        egress_limiters: Vec::new(),
        polices_control: false,
        answers_icmp: true,
    };
    let parameters =
        LimiterParameters { rate: Bandwidth::from_mbps(1_000_000), depth_bytes: 1 << 30 };
    let member = Member { attachment: index, next_hop: Some(peer), ordinal: 0 };
    let mut changes = vec![
        Change::Limiter { index: limiter, parameters: Some(parameters) },
        Change::Attachment { index, entry: Some(entry) },
        Change::Neighbor { attachment: index, address: peer, mac: Some(PORT_MAC) },
        Change::Group { vrf, group: GROUP, members: vec![member] },
    ];
    let prefixes = (0..routes).map(|route| format!("{}/24", Ipv4Addr::from(prefix(route))));
    changes.extend(prefixes.map(|prefix| Change::Route {
        vrf,
        prefix: prefix.parse().expect("a prefix"),
        group: Some(GROUP),
    }));
    changes
}

/// Every second /24 of 10.0.0.0/8, so that no two are neighbours.
const fn prefix(route: u32) -> u32 {
    0x0a00_0000 | route << 9
}

fn frame(vrf: u16, destination: u32, source_port: u16) -> Vec<u8> {
    let (source, destination) = (Ipv4Addr::new(10, 255, 0, 1), Ipv4Addr::from(destination));
    let header = ipv4::Repr {
        source,
        destination,
        protocol: protocol::UDP,
        ttl: 255,
        dscp: 0,
        identification: 0,
        dont_fragment: true,
        payload_len: udp::HEADER_LEN + PAYLOAD_BYTES,
    };
    let mut packet = vec![0; ipv4::MIN_HEADER_LEN + udp::HEADER_LEN + PAYLOAD_BYTES];
    header.emit(&mut packet);
    let datagram = udp::Repr { source_port, destination_port: 5001, payload_len: PAYLOAD_BYTES };
    let payload = [0; PAYLOAD_BYTES];
    datagram.emit(source.into(), destination.into(), &payload, &mut packet[20..]);

    let front = ethernet::Repr {
        destination: PORT_MAC,
        source: MacAddr([2, 0, 0, 0, 0, 2]),
        ethertype: ethertype::IPV4,
    };
    let mut bytes = vec![0; ethernet::HEADER_LEN];
    front.emit(&mut bytes);
    bytes.extend(packet);
    for tag in [INNER_TAG, vrf + 2] {
        bytes.splice(0..0, [0; vlan::TAG_LEN]);
        vlan::push(&mut bytes, tag);
    }
    bytes
}
