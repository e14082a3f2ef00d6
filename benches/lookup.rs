//! Lookups a second in one VRF and in 1,000, and what it takes to build a table and to lose a
//! next hop. One core; `cargo bench --bench lookup`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ipnet::{IpNet, Ipv4Net};
use msee::fib::{AdjacencyIndex, Fib, IntervalTree4, IntervalTree6, View, pin};
use msee::model::{GroupIndex, Prefix, Random};

/// The limit of routes on private peering (F-40).
const ROUTES: usize = 4_000;
const VRFS: usize = 1_000;
/// Packets of the test, more than the caches remember.
const PACKETS: usize = 1 << 17;
const BATCH: usize = 64;

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(15).measurement_time(Duration::from_secs(2));
    targets = one_vrf, many_vrfs, build, lose_next_hop
}
criterion_main!(benches);

fn one_vrf(criterion: &mut Criterion) {
    let mut random = Random::new(1, "one");
    let fib = table(&mut random);
    let packets: Vec<u32> = (0..PACKETS).map(|_| address(&mut random)).collect();
    let mut groups = [GroupIndex::NO_ROUTE; BATCH];
    let mut bench = criterion.benchmark_group("lookup/1 VRF");
    bench.throughput(Throughput::Elements(PACKETS as u64));
    bench.bench_function("batch of 64", |b| {
        b.iter(|| {
            for batch in packets.chunks(BATCH) {
                let guard = pin();
                fib.view(&guard).lookup4(batch, &mut groups);
                black_box(&groups);
            }
        });
    });
    bench.finish();
}

fn many_vrfs(criterion: &mut Criterion) {
    let mut random = Random::new(1, "many");
    let fibs: Vec<Fib> = (0..VRFS).map(|_| table(&mut random)).collect();
    let guard = pin();
    let bytes: usize = fibs.iter().map(|fib| fib.view(&guard).tree4().memory_bytes()).sum();
    drop(guard);
    println!("{VRFS} VRFs × {ROUTES} routes: {:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let packets: Vec<(usize, u32)> =
        (0..PACKETS).map(|_| (random.below(VRFS as u64) as usize, address(&mut random))).collect();

    let mut bench = criterion.benchmark_group("lookup/1,000 VRFs");
    bench.throughput(Throughput::Elements(PACKETS as u64));
    for batch in [1, 32, 64] {
        bench.bench_function(format!("batch of {batch}"), |b| {
            b.iter(|| packets.chunks(batch).for_each(|packets| mixed(&fibs, packets)));
        });
    }
    bench.bench_function("batch of 64, to the adjacency", |b| {
        b.iter(|| packets.chunks(BATCH).for_each(|packets| to_adjacency(&fibs, packets)));
    });
    bench.finish();
}

/// One batch of packets, each of any VRF, under one guard.
fn mixed(fibs: &[Fib], packets: &[(usize, u32)]) {
    let guard = pin();
    let none = fibs[0].view(&guard).tree4();
    let mut trees: [&IntervalTree4; BATCH] = [none; BATCH];
    let mut addresses = [0; BATCH];
    let mut groups = [GroupIndex::NO_ROUTE; BATCH];
    for (lane, &(vrf, address)) in packets.iter().enumerate() {
        trees[lane] = fibs[vrf].view(&guard).tree4();
        addresses[lane] = address;
    }
    let lanes = packets.len();
    IntervalTree4::lookup_mixed(&trees[..lanes], &addresses[..lanes], &mut groups[..lanes]);
    black_box(&groups);
}

/// As [`mixed`], and the bucket of each.
fn to_adjacency(fibs: &[Fib], packets: &[(usize, u32)]) {
    let guard = pin();
    let views: Vec<View> = packets.iter().map(|(vrf, _)| fibs[*vrf].view(&guard)).collect();
    let trees: Vec<_> = views.iter().map(|view| view.tree4()).collect();
    let addresses: Vec<_> = packets.iter().map(|(_, address)| *address).collect();
    let mut groups = [GroupIndex::NO_ROUTE; BATCH];
    IntervalTree4::lookup_mixed(&trees, &addresses, &mut groups[..packets.len()]);
    for ((view, group), address) in views.iter().zip(groups).zip(addresses) {
        black_box(view.bucket(group, address.wrapping_mul(0x9e37_79b9)));
    }
}

fn build(criterion: &mut Criterion) {
    let mut fib = table(&mut Random::new(1, "build"));
    let sorted: Vec<_> = fib
        .routes()
        .filter_map(|(prefix, group)| match prefix {
            IpNet::V4(prefix) => Some((prefix.network().to_bits(), prefix.prefix_len(), group)),
            IpNet::V6(_) => None,
        })
        .collect();
    let sorted6: Vec<_> =
        sorted.iter().map(|&(first, len, group)| (u128::from(first) << 96, len, group)).collect();
    let mut bench = criterion.benchmark_group("build/4,000 routes");
    bench.bench_function("IPv4 tree", |b| {
        b.iter(|| IntervalTree4::build(sorted.iter().copied()));
    });
    bench.bench_function("IPv6 tree", |b| {
        b.iter(|| IntervalTree6::build(sorted6.iter().copied()));
    });
    let changed: Prefix = "10.9.0.0/16".parse().expect("a prefix");
    let mut turn = 0;
    bench.bench_function("one change published", |b| {
        b.iter(|| {
            turn = turn % 2 + 1;
            fib.set_route(changed, Some(GroupIndex(turn)));
            fib.publish()
        });
    });
    bench.finish();
}

fn lose_next_hop(criterion: &mut Criterion) {
    let mut fib = table(&mut Random::new(1, "lose"));
    let mut alive = true;
    criterion.bench_function("next hop lost or regained, 8 groups", |b| {
        b.iter(|| {
            alive = !alive;
            fib.set_alive(AdjacencyIndex(0), alive)
        });
    });
}

/// A customer's table: half the prefixes apart from one another, half inside others, all in
/// 10.0.0.0/8, leading to eight groups of two next hops.
fn table(random: &mut Random) -> Fib {
    let mut fib = Fib::new();
    for group in 1..=8 {
        let members = vec![(AdjacencyIndex(0), 0), (AdjacencyIndex(group), group as u8)];
        fib.set_group(GroupIndex(group), members);
    }
    while fib.routes().count() < ROUTES {
        for _ in fib.routes().count()..ROUTES {
            let len = 20 + random.below(9) as u8;
            let prefix = Ipv4Net::new(address(random).into(), len).expect("a length up to 28");
            let group = GroupIndex(1 + random.below(8) as u16);
            fib.set_route(IpNet::V4(prefix.trunc()), Some(group));
        }
    }
    let _ = fib.publish();
    fib
}

fn address(random: &mut Random) -> u32 {
    10 << 24 | random.next_u32() >> 8
}
