//! What passes in the long run, at once, under change and from two threads.

use proptest::prelude::*;

use super::*;
use crate::model::Random;

const BURST: Duration = Duration::from_millis(5);

fn bucket(rate: Bandwidth) -> Bucket {
    Bucket::new(rate, depth_bytes(rate, BURST))
}

/// A sender of packets of random size, spaced so that `offered` of 1,000 parts of the rate come.
struct Sender {
    now_ps: u128,
    rate: Bandwidth,
    offered: u128,
    sizes: std::ops::RangeInclusive<u32>,
    random: Random,
}

impl Sender {
    fn new(
        rate: Bandwidth,
        offered: u128,
        sizes: std::ops::RangeInclusive<u32>,
        seed: u64,
    ) -> Self {
        Self { now_ps: 0, rate, offered, sizes, random: Random::new(seed, "sizes") }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos((self.now_ps / 1_000) as u64)
    }

    fn send(&mut self, bucket: &Bucket) -> Conform {
        let (least, most) = (*self.sizes.start(), *self.sizes.end());
        let bytes = least + self.random.below(u64::from(most - least + 1)) as u32;
        let ps = u128::from(bytes) * 8_000_000_000_000 * 1_000;
        self.now_ps += ps / (u128::from(self.rate.bps()) * self.offered);
        bucket.charge(self.now(), bytes)
    }

    /// Until the bucket is empty, as after this only the rate counts.
    fn exhaust(&mut self, bucket: &Bucket) {
        while self.send(bucket) == Conform::Yes {}
    }

    /// Bytes that conform while `span` passes.
    fn send_for(&mut self, bucket: &Bucket, span: Duration) -> u64 {
        let (before, end) = (bucket.counters().conforming_bytes, self.now() + span);
        while self.now() < end {
            let _ = self.send(bucket);
        }
        bucket.counters().conforming_bytes - before
    }
}

/// What `rate` carries in `span`, bytes.
fn line_bytes(rate: Bandwidth, span: Duration) -> u64 {
    (u128::from(rate.bps()) * span.as_nanos() / 8_000_000_000) as u64
}

/// In how long `rate` carries `bytes`.
fn time_for(bytes: u64, rate: Bandwidth) -> Duration {
    Duration::from_nanos((u128::from(bytes) * 8_000_000_000 / u128::from(rate.bps())) as u64)
}

fn assert_within(actual: u64, expected: u64, parts_per_million: u64) {
    let off = actual.abs_diff(expected) * 1_000_000 / expected;
    assert!(off <= parts_per_million, "{actual} instead of {expected}: {off} ppm off");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// F-70, F-71: delivered 1×, whatever is offered above it.
    #[test]
    fn the_long_run_rate_is_exact(
        rate in prop::sample::select(vec![50, 300, 1_000, 10_000, 100_000]),
        offered in 1_200..=2_000_u128,
        least in 64..=1_500_u32,
        seed: u64,
    ) {
        let rate = Bandwidth::from_mbps(rate);
        let bucket = bucket(rate);
        let mut sender = Sender::new(rate, offered, least..=1_500, seed);
        sender.exhaust(&bucket);
        let span = time_for(10_000_000, rate);
        let passed = sender.send_for(&bucket, span);
        assert_within(passed, line_bytes(rate, span), 1_000);
        let counters = bucket.counters();
        prop_assert!(counters.surplus_packets > 0);
        // Offered bytes are all counted, on one side or the other.
        let offered_bytes = counters.conforming_bytes + counters.surplus_bytes;
        let all = sender.now_ps * u128::from(rate.bps()) * offered / 8_000_000_000_000_000;
        assert_within(offered_bytes, all as u64, 200);
    }

    /// Exactly the depth passes at one moment, to the last byte, and then nothing does.
    #[test]
    fn a_burst_of_the_depth_passes_at_once(
        mbps in 1..=100_000_u64,
        bytes in 64..=1_500_u32,
        at in 0..1_000_000_000_000_u64,
    ) {
        let depth = 15_000;
        let bucket = Bucket::new(Bandwidth::from_mbps(mbps), depth);
        let now = Instant::from_nanos(at);
        for _ in 0..depth / u64::from(bytes) {
            prop_assert_eq!(bucket.charge(now, bytes), Conform::Yes);
        }
        prop_assert_eq!(bucket.charge(now, (depth % u64::from(bytes)) as u32), Conform::Yes);
        prop_assert_eq!(bucket.charge(now, bytes), Conform::No);
    }

    /// Any number of packets at once is charged as they are one by one.
    #[test]
    fn many_at_once_are_each_of_them(
        kbps in 0..=100_000_000_u64,
        depth in 0..100_000_u64,
        charges in prop::collection::vec((0..100_000_000_u64, 0..=9_000_u32, 0..60_u64), 1..20),
    ) {
        let rate = Bandwidth::from_bps(kbps * 1_000);
        let (together, alone) = (Bucket::new(rate, depth), Bucket::new(rate, depth));
        let mut now = Instant::ZERO;
        for (pause_ns, bytes, count) in charges {
            now += Duration::from_nanos(pause_ns);
            let conform = (0..count).filter(|_| alone.charge(now, bytes) == Conform::Yes).count();
            prop_assert_eq!(together.charge_many(now, bytes, count), conform as u64);
        }
        prop_assert_eq!(together.counters(), alone.counters());
    }

    /// Any rate, odd ones included: a byte's cost is exact to 0.01 %.
    #[test]
    fn costs_are_exact_to_a_ten_thousandth(
        bps in 50_000_000..=100_000_000_000_u64,
        bytes in 64..=65_535_u32,
    ) {
        let bucket = Bucket::new(Bandwidth::from_bps(bps), 15_000);
        let exact_fs = u128::from(bytes) * 8_000_000_000_000_000 / u128::from(bps);
        let off = (u128::from(bucket.cost_ps(bytes)) * 1_000).abs_diff(exact_fs);
        prop_assert!(off * 10_000 <= exact_fs, "{} fs of {}", off, exact_fs);
    }
}

#[test]
fn what_is_offered_below_the_rate_all_passes() {
    let rate = Bandwidth::from_mbps(300);
    let bucket = bucket(rate);
    let mut sender = Sender::new(rate, 990, 64..=1_500, 1);
    sender.send_for(&bucket, Duration::from_secs(1));
    assert_eq!(bucket.counters().surplus_packets, 0);
}

/// F-74: an average of 1× in bursts of 10 ms at port speed is cut to the depth and what the rate
/// carries meanwhile.
#[test]
fn microbursts_are_cut_although_the_average_conforms() {
    let (rate, port) = (Bandwidth::from_mbps(1_000), Bandwidth::from_mbps(10_000));
    let bucket = bucket(rate);
    let mut sender = Sender::new(port, 1_000, 1_500..=1_500, 1);
    for _ in 0..10 {
        let passed = sender.send_for(&bucket, Duration::from_millis(10));
        assert_within(passed, line_bytes(rate, Duration::from_millis(15)), 10_000);
        sender.now_ps += 90_000_000_000;
    }
    let counters = bucket.counters();
    assert_within(counters.surplus_bytes, 10 * (12_500_000 - 1_875_000), 10_000);
}

/// A burst, then a pause: what comes back is what the pause refills, and never above the depth.
#[test]
fn an_empty_bucket_refills_at_its_rate() {
    let bucket = Bucket::new(Bandwidth::from_mbps(100), 15_000);
    let passes =
        |ms| (0..100).take_while(|_| bucket.charge(at_ms(ms), 1_000) == Conform::Yes).count();
    assert_eq!(passes(0), 15);
    assert_eq!(passes(0), 0);
    // 100 Mbps carry 12.5 kB in a millisecond.
    assert_eq!(passes(1), 12);
    assert_eq!(passes(1_000), 15);
}

fn at_ms(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// F-23: raising 50 to 100 Mbps loses nothing that conforms to either, counters stay, and
/// the rate doubles from that moment on.
#[test]
fn a_live_doubling_keeps_state_and_doubles_the_rate() {
    let (slow, fast) = (Bandwidth::from_mbps(50), Bandwidth::from_mbps(100));
    let bucket = bucket(slow);
    let mut sender = Sender::new(fast, 1_500, 64..=1_500, 9);
    sender.exhaust(&bucket);
    let span = Duration::from_secs(2);
    assert_within(sender.send_for(&bucket, span), line_bytes(slow, span), 1_000);
    let before = bucket.counters();
    bucket.set_parameters(fast, depth_bytes(fast, BURST), sender.now());
    assert_eq!(bucket.counters(), before);
    assert_eq!(bucket.charge(sender.now(), 15_000), Conform::No, "the change refilled it");
    assert_within(sender.send_for(&bucket, span), line_bytes(fast, span), 1_000);
}

#[test]
fn a_stream_that_conforms_loses_nothing_when_the_rate_is_raised() {
    let bucket = bucket(Bandwidth::from_mbps(50));
    let mut sender = Sender::new(Bandwidth::from_mbps(49), 1_000, 64..=1_500, 9);
    sender.send_for(&bucket, Duration::from_secs(1));
    let fast = Bandwidth::from_mbps(100);
    bucket.set_parameters(fast, depth_bytes(fast, BURST), sender.now());
    sender.rate = Bandwidth::from_mbps(98);
    sender.send_for(&bucket, Duration::from_secs(1));
    assert_eq!(bucket.counters().surplus_packets, 0);
}

/// An emptied bucket of 10 Mbps needs 12 ms to fill; at 1 Gbps it goes on at once.
#[test]
fn a_raise_by_a_hundred_does_not_wait_for_what_was_spent_slowly() {
    let (slow, fast) = (Bandwidth::from_mbps(10), Bandwidth::from_mbps(1_000));
    let bucket = bucket(slow);
    let mut sender = Sender::new(fast, 1_500, 64..=1_500, 9);
    sender.exhaust(&bucket);
    bucket.set_parameters(fast, depth_bytes(fast, BURST), sender.now());
    let later = sender.now() + Duration::from_micros(12);
    assert_eq!(bucket.charge(later, 1_500), Conform::Yes);
}

/// F-72.
#[test]
fn directions_are_independent() {
    let rate = Bandwidth::from_mbps(50);
    let [towards_azure, from_azure] = [bucket(rate), bucket(rate)];
    Sender::new(rate, 2_000, 64..=1_500, 1).exhaust(&towards_azure);
    assert_eq!(towards_azure.charge(Instant::ZERO, 1_500), Conform::No);
    assert_eq!(from_azure.charge(Instant::ZERO, 1_500), Conform::Yes);
}

/// F-73: two senders on one bucket get 1× together, whatever their turns.
#[test]
fn two_threads_share_a_bucket_without_exceeding_it() {
    let rate = Bandwidth::from_mbps(1_000);
    let bucket = bucket(rate);
    let span = Duration::from_millis(200);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let bucket = &bucket;
            scope.spawn(move || {
                Sender::new(rate, 1_000, 64..=1_500, seed).send_for(bucket, span);
            });
        }
    });
    let counters = bucket.counters();
    // The threads run apart in virtual time, so the bucket may idle in one's past but not lend.
    let most = line_bytes(rate, span) + depth_bytes(rate, BURST);
    assert!(counters.conforming_bytes <= most + 1_500);
    assert!(counters.surplus_bytes > 0);
}

/// As the clock stands still, exactly the depth passes, however the threads interleave.
#[test]
fn at_one_moment_two_threads_get_the_depth_and_no_more() {
    let bucket = Bucket::new(Bandwidth::from_mbps(1_000), 1_500_000);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    let _ = bucket.charge(Instant::ZERO, 100);
                }
            });
        }
    });
    let expected = Counters {
        conforming_packets: 15_000,
        conforming_bytes: 1_500_000,
        surplus_packets: 5_000,
        surplus_bytes: 500_000,
    };
    assert_eq!(bucket.counters(), expected);
}

/// Months between two packets, past the wrap of the clock in picoseconds, do not block a bucket.
#[test]
fn a_bucket_works_after_any_pause() {
    for days in [0, 1, 100, 150, 213, 214, 300, 10_000] {
        let bucket = Bucket::new(Bandwidth::from_mbps(50), 15_000);
        assert_eq!(bucket.charge(Instant::ZERO, 15_000), Conform::Yes);
        let later = Instant::from_secs(days * 86_400 + 1);
        assert_eq!(bucket.charge(later, 15_000), Conform::Yes, "{days} days");
        assert_eq!(bucket.charge(later, 1_500), Conform::No, "{days} days");
    }
}

#[test]
fn extreme_parameters_neither_panic_nor_leak() {
    let closed = Bucket::new(Bandwidth::from_bps(0), u64::MAX);
    assert_eq!(closed.charge(Instant::from_secs(1), 1), Conform::No);
    let crawling = Bucket::new(Bandwidth::from_bps(1), u64::MAX);
    // An hour of one bit a second is 450 bytes.
    assert_eq!(crawling.charge(Instant::from_secs(1), 450), Conform::Yes);
    assert_eq!(crawling.charge(Instant::from_secs(1), 1), Conform::No);
    let flying = Bucket::new(Bandwidth::from_bps(u64::MAX), u64::MAX);
    assert_eq!(flying.charge(Instant::NEVER, u32::MAX), Conform::Yes);
}

#[test]
fn a_bucket_is_as_deep_as_its_burst_and_never_below_ten_frames() {
    assert_eq!(depth_bytes(Bandwidth::from_mbps(1_000), BURST), 625_000);
    assert_eq!(depth_bytes(Bandwidth::from_mbps(50), BURST), 31_250);
    assert_eq!(depth_bytes(Bandwidth::from_mbps(10), BURST), 15_000);
    assert_eq!(depth_bytes(Bandwidth::from_bps(u64::MAX), Duration::MAX), u64::MAX);
}
