//! The congestion window: slow start and CUBIC (RFC 9438), in integers.
//!
//! Windows are in 1/65,536 of a byte, so that growth of less than a byte for an ACK adds up; times
//! in the curve are in 1/1,024 s, as in Linux.

use std::time::Duration;

use crate::model::Instant;

/// Segments of the initial window (RFC 6928).
const INITIAL_WINDOW: u64 = 10;
/// Segments of the smallest window after a loss.
const SEGMENTS_MIN: u64 = 2;
/// Fraction bits of windows.
const FRACTION: u32 = 16;
/// Fraction bits of seconds in the curve.
const TICK: u32 = 10;
/// Longest time from the plateau that the curve is drawn for: 128 s.
const SPAN_MAX: i64 = 128 << TICK;
/// The decrease factor, 0.7, in tenths (RFC 9438, 4.6).
const BETA: u64 = 7;
/// Fast convergence, (1 + 0.7) / 2, in hundredths (RFC 9438, 4.7).
const CONVERGENCE: u64 = 85;
/// C, 0.4, in tenths (RFC 9438, 5.1).
const C: i64 = 4;
/// The additive increase of the Reno-friendly region, 3 (1 - 0.7) / (1 + 0.7) = 9 / 17 (RFC 9438,
/// 4.3), as Linux rounds it (tcp_cubic.c: `beta_scale`). It keeps it past the window of before the
/// loss, where the RFC has one segment a round trip.
const ALPHA: (u64, u64) = (8, 15);
/// Part of the window that is grown by at least in a round trip while no loss has told where the
/// plateau is (tcp_cubic.c: bictcp_update, `ca->cnt = 20`).
const GROWTH_MIN: u64 = 20;
/// The same where the curve is flat (`ca->cnt = 100 * cwnd`, in windows).
const GROWTH_FLAT_SEGMENTS: u64 = 100;

/// The window of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cubic {
    segment: u64,
    window: u64,
    /// Bytes.
    threshold: u64,
    /// Just before the last reduction; zero after a timeout and before any loss.
    max: u64,
    epoch: Option<Epoch>,
    /// When the last ACK came, to leave out the time in which the window was not used.
    last_ack: Instant,
}

/// A stage of congestion avoidance.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    since: Instant,
    plateau: u64,
    /// From `since` to the plateau, in ticks.
    k: i64,
    /// What Reno would have (W_est).
    friendly: u64,
}

impl Cubic {
    pub const fn new(segment: u64) -> Self {
        Self {
            segment,
            window: (INITIAL_WINDOW * segment) << FRACTION,
            threshold: u64::MAX,
            max: 0,
            epoch: None,
            last_ack: Instant::ZERO,
        }
    }

    /// Bytes.
    pub const fn window(&self) -> u64 {
        self.window >> FRACTION
    }

    /// Bytes.
    pub const fn threshold(&self) -> u64 {
        self.threshold
    }

    pub const fn in_slow_start(&self) -> bool {
        self.window() < self.threshold
    }

    /// What recovery lets be in flight.
    pub const fn set_window(&mut self, bytes: u64) {
        self.window = bytes << FRACTION;
    }

    /// Bytes were acknowledged outside of recovery. The window grows only when it is what held the
    /// sender back (RFC 9438, 5.8; RFC 7661), and the curve stands still in between.
    pub fn acknowledged(
        &mut self,
        bytes: u64,
        limited: bool,
        min_round_trip: Duration,
        now: Instant,
    ) {
        let idle = now.since(self.last_ack);
        self.last_ack = now;
        if !limited {
            if let Some(epoch) = &mut self.epoch {
                epoch.since += idle;
            }
            return;
        }
        let mut bytes = bytes;
        if self.in_slow_start() {
            let grown = bytes.min(self.threshold - self.window());
            self.window += grown << FRACTION;
            bytes -= grown;
        }
        if bytes > 0 {
            self.avoid(bytes, min_round_trip, now);
        }
    }

    /// A loss was found: the threshold of the recovery that begins (RFC 9438, 4.6 and 4.7).
    pub fn reduce(&mut self) {
        let converge = self.window < self.max;
        self.max = if converge { self.window / 100 * CONVERGENCE } else { self.window };
        self.threshold = (self.window() * BETA / 10).max(SEGMENTS_MIN * self.segment);
        self.epoch = None;
    }

    /// The retransmission timer ran out: one segment, and a curve that begins at its plateau
    /// (RFC 9438, 4.8).
    pub const fn collapse(&mut self) {
        self.window = self.segment << FRACTION;
        self.max = 0;
        self.epoch = None;
    }

    /// Linux's bictcp_update: how much the window grows in a round trip, by the curve, by Reno, and at
    /// most half.
    fn avoid(&mut self, bytes: u64, min_round_trip: Duration, now: Instant) {
        let mut epoch = self.epoch.unwrap_or_else(|| self.begin(now));
        let acked = u128::from(bytes * self.segment) << (2 * FRACTION);
        epoch.friendly += (acked / u128::from(self.window)) as u64 * ALPHA.0 / ALPHA.1;
        self.epoch = Some(epoch);

        // RFC 9438, 4.2: where the curve is a round trip later.
        let elapsed = ticks(now.since(epoch.since)) + ticks(min_round_trip);
        let flat = (self.segment << FRACTION) / GROWTH_FLAT_SEGMENTS;
        let by_curve = self.curve(&epoch, elapsed).saturating_sub(self.window).max(flat);
        let unknown = if self.max == 0 { self.window / GROWTH_MIN } else { 0 };
        // RFC 9438, 4.3.
        let by_reno = epoch.friendly.saturating_sub(self.window);
        let growth = by_curve.max(unknown).max(by_reno).min(self.window / 2);
        let grown = u128::from(growth) * (u128::from(bytes) << FRACTION) / u128::from(self.window);
        self.window += grown as u64;
    }

    fn begin(&self, now: Instant) -> Epoch {
        let plateau = self.max.max(self.window);
        let k = if self.window < self.max { self.time_to_plateau() } else { 0 };
        Epoch { since: now, plateau, k, friendly: self.window }
    }

    /// K, the cube root of (W_max - cwnd) / C (RFC 9438, 4.2), in ticks.
    fn time_to_plateau(&self) -> i64 {
        let below = u128::from(self.max - self.window);
        let cube = (below << (3 * TICK)) * 10 / (u128::from(self.segment) << FRACTION) / C as u128;
        cube_root(cube) as i64
    }

    /// W_cubic after so many ticks.
    fn curve(&self, epoch: &Epoch, elapsed: i64) -> u64 {
        let span = (elapsed - epoch.k).clamp(-SPAN_MAX, SPAN_MAX);
        // |span|^3 is at most 2^51, so that the product needs more than 64 bits before the shift.
        let cubed = i128::from(span * span * span) * i128::from(self.segment);
        let change = (cubed >> (3 * TICK - FRACTION)) as i64 / 10 * C;
        epoch.plateau.saturating_add_signed(change)
    }
}

fn ticks(span: Duration) -> i64 {
    ((span.as_nanos() as u64).min(u64::MAX >> TICK) << TICK) as i64 / 1_000_000_000
}

/// The largest number whose cube is not more.
fn cube_root(number: u128) -> u64 {
    let mut root = 0_u128;
    for bit in (0..42).rev() {
        let candidate = root | 1 << bit;
        if candidate * candidate * candidate <= number {
            root = candidate;
        }
    }
    root as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1_000;

    /// In congestion avoidance at 700 segments after a loss at 1,000.
    fn after_loss() -> Cubic {
        let mut cubic = Cubic::new(SEGMENT);
        cubic.set_window(1_000 * SEGMENT);
        cubic.reduce();
        cubic.set_window(cubic.threshold());
        cubic
    }

    /// A window is acknowledged each round trip, segment by segment.
    fn run(cubic: &mut Cubic, round_trip: Duration, from: Instant, until: Instant) {
        let mut now = from;
        while now < until {
            let segments = cubic.window() / SEGMENT;
            for place in 0..segments {
                let at = now + round_trip * place as u32 / segments as u32;
                if at < until {
                    cubic.acknowledged(SEGMENT, true, round_trip, at);
                }
            }
            now += round_trip;
        }
    }

    #[test]
    fn a_loss_takes_three_tenths_and_competition_lowers_the_plateau() {
        let mut cubic = after_loss();
        assert_eq!((cubic.window(), cubic.max), (700 * SEGMENT, (1_000 * SEGMENT) << FRACTION));
        // A second loss below the first: W_max = 700 * 0.85 (RFC 9438, 4.7).
        cubic.reduce();
        assert_eq!(cubic.threshold(), 490 * SEGMENT);
        assert_eq!(cubic.max >> FRACTION, 595 * SEGMENT);
    }

    /// RFC 9438, 4.2 with W_max = 1,000 and cwnd_epoch = 700: K = cbrt(300 / 0.4) = 9.086 s, and
    /// W(t) = 0.4 (t - 9.086)^3 + 1,000. W(3) = 909.9, W(9.086) = 1,000, W(12) = 1,009.9,
    /// W(15) = 1,082.7. The window is behind W(t + RTT) by what it grows in a round trip.
    #[test]
    fn the_window_follows_the_curve() {
        let round_trip = Duration::from_millis(100);
        for (seconds, expected) in [(3, 909), (9, 999), (12, 1_009), (15, 1_082)] {
            let mut cubic = after_loss();
            run(&mut cubic, round_trip, Instant::ZERO, Instant::from_secs(seconds));
            let window = cubic.window() / SEGMENT;
            assert!(window.abs_diff(expected) <= 3, "{seconds} s: {window}");
        }
        let cubic = after_loss();
        // 9.0856 s in 1/1,024 s.
        assert_eq!(cubic.time_to_plateau(), 9_303);
    }

    /// RFC 9438, 4.3: at 1 ms the curve is slower than Reno. From 70 segments, W_est grows by 8/15
    /// of a segment a round trip: 26.7 segments in 50 round trips.
    #[test]
    fn at_a_short_round_trip_it_is_as_fast_as_reno() {
        let mut cubic = Cubic::new(SEGMENT);
        cubic.set_window(100 * SEGMENT);
        cubic.reduce();
        cubic.set_window(cubic.threshold());
        run(&mut cubic, Duration::from_millis(1), Instant::ZERO, Instant::from_millis(50));
        let window = cubic.window() / SEGMENT;
        assert!((95..=97).contains(&window), "{window}");
        // Past the window of before the loss it is no faster in Linux.
        run(
            &mut cubic,
            Duration::from_millis(1),
            Instant::from_millis(50),
            Instant::from_millis(100),
        );
        let window = cubic.window() / SEGMENT;
        assert!((120..=125).contains(&window), "{window}");
    }

    #[test]
    fn slow_start_doubles_and_ends_at_the_threshold() {
        let mut cubic = Cubic::new(SEGMENT);
        cubic.threshold = 25 * SEGMENT;
        run(&mut cubic, Duration::from_millis(100), Instant::ZERO, Instant::from_millis(100));
        assert_eq!(cubic.window(), 20 * SEGMENT);
        run(
            &mut cubic,
            Duration::from_millis(100),
            Instant::from_millis(100),
            Instant::from_millis(200),
        );
        assert_eq!(cubic.window() / SEGMENT, 25);
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow_and_the_curve_waits() {
        let round_trip = Duration::from_millis(100);
        let mut cubic = after_loss();
        run(&mut cubic, round_trip, Instant::ZERO, Instant::from_secs(3));
        let before = cubic.window();
        for ms in 30..600 {
            cubic.acknowledged(SEGMENT, false, round_trip, Instant::from_millis(ms * 100));
        }
        assert_eq!(cubic.window(), before);
        cubic.acknowledged(SEGMENT, true, round_trip, Instant::from_secs(60));
        assert!(cubic.window() - before < SEGMENT);
    }

    #[test]
    fn after_a_timeout_the_plateau_is_where_avoidance_begins() {
        let mut cubic = after_loss();
        cubic.reduce();
        cubic.collapse();
        assert_eq!(cubic.window(), SEGMENT);
        let epoch = cubic.begin(Instant::ZERO);
        assert_eq!((epoch.k, epoch.plateau), (0, cubic.window));
    }

    /// tcp_cubic.c, bictcp_update: a twentieth a round trip while no plateau is known, where the curve
    /// would give nothing: 100 * 1.05^10 = 163.
    #[test]
    fn without_a_plateau_the_window_grows_by_a_twentieth() {
        let round_trip = Duration::from_millis(10);
        let mut cubic = Cubic::new(SEGMENT);
        (cubic.threshold, cubic.window) = (0, (100 * SEGMENT) << FRACTION);
        run(&mut cubic, round_trip, Instant::ZERO, Instant::from_millis(100));
        let window = cubic.window() / SEGMENT;
        assert!((161..=164).contains(&window), "{window}");
    }

    #[test]
    fn cube_roots() {
        for root in [0_u128, 1, 2, 9_303, 131_072, 1 << 41] {
            assert_eq!(u128::from(cube_root(root * root * root)), root);
            if root > 1 {
                assert_eq!(u128::from(cube_root(root * root * root - 1)), root - 1);
            }
        }
    }
}
