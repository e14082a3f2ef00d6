//! What the limiter costs a packet that it lets pass and one that it does not. One core;
//! `cargo bench --bench limiter`.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use msee::model::{Bandwidth, Instant};
use msee::shaper::{Bucket, depth_bytes};

const PACKET_BYTES: u32 = 1_000;
const BURST: Duration = Duration::from_millis(5);

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(15).measurement_time(Duration::from_secs(2));
    targets = charge
}
criterion_main!(benches);

fn charge(criterion: &mut Criterion) {
    let rate = Bandwidth::from_mbps(1_000);
    let mut bench = criterion.benchmark_group("limiter");
    bench.throughput(Throughput::Elements(1));

    // A packet every 8 µs is the rate itself.
    let bucket = Bucket::new(rate, depth_bytes(rate, BURST));
    let mut now_ns = 0;
    bench.bench_function("conforming", |b| {
        b.iter(|| {
            now_ns += 8_000;
            bucket.charge(Instant::from_nanos(now_ns), PACKET_BYTES)
        });
    });
    assert_eq!(bucket.counters().surplus_packets, 0);

    let bucket = Bucket::new(Bandwidth::from_bps(0), 0);
    bench.bench_function("surplus", |b| {
        b.iter(|| bucket.charge(Instant::from_nanos(1), PACKET_BYTES));
    });
    assert_eq!(bucket.counters().conforming_packets, 0);
    bench.finish();
}
