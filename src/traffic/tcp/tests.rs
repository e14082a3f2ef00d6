//! One end against a script (`fixtures/tcp`), two ends on a wire that loses, doubles and reorders,
//! and two hosts with a policer between them (`hosts`).

mod hosts;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use proptest::prelude::*;

use crate::model::{Bandwidth, Instant, Random};
use crate::traffic::tcp::application::Application;
use crate::traffic::tcp::content::Content;
use crate::traffic::tcp::flow::{Role, conversation};
use crate::traffic::tcp::ranges::Ranges;
use crate::traffic::tcp::receiver::{Receiver, ReceiverConfig};
use crate::traffic::tcp::record::TcpReceived;
use crate::traffic::tcp::segment::{Segment, Timestamps, distance};
use crate::traffic::tcp::sender::{Outgoing, Sender, SenderConfig};
use crate::traffic::tcp::{TcpMeter, TcpSent};
use crate::wire::tcp::{Flags, View};

const FIXTURES: &str = "fixtures/tcp";
/// Payload of a full segment: traces count in it.
const SEGMENT: u64 = 1_000;
const MSS: u16 = 1_012;
/// The peer's first sequence number in a trace; its stream wraps around at once.
const PEER_ISN: u32 = u32::MAX - 1_500;

/// Each line of a trace is a comment, or `MILLISECONDS SIGN WORDS`: `<` injects a segment, `>` is
/// one that the end under test sends, `=` asks the sender for its state, `.` only lets time pass.
/// The first line that is no comment says which end is under test. Data and ACKs are counted in
/// full segments of 1,000 bytes. All that is sent must be in the trace and nothing else;
/// `UPDATE_FIXTURES=1` writes what is sent into it instead.
#[test]
fn traces_are_followed() {
    let mut paths: Vec<_> =
        fs::read_dir(FIXTURES).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 10);
    for path in paths {
        play(&path);
    }
}

fn play(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let mut player: Option<Player> = None;
    let mut output = String::new();
    for line in text.lines() {
        if line.starts_with('#') || line.is_empty() {
            writeln!(output, "{line}").unwrap();
            continue;
        }
        let Some(player) = &mut player else {
            player = Some(Player::new(line));
            writeln!(output, "{line}").unwrap();
            continue;
        };
        let mut words = line.split_whitespace();
        let at = milliseconds(words.next().unwrap());
        match (words.next().unwrap(), words.collect::<Vec<_>>()) {
            (">", _) => {}
            (sign, words) => player.play(at, sign, &words, &mut output),
        }
    }
    if env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(path, &output).unwrap();
    }
    assert!(text == output, "{}: expected\n{text}\nbut got\n{output}", path.display());
}

enum End {
    Sender(Box<Sender>),
    Receiver(Box<Receiver>),
}

/// One end that is played a trace.
struct Player {
    now: Instant,
    end: End,
    /// The sequence number of the first byte of the end's stream.
    own: u32,
    /// Segments sent so far, to tell what is sent again.
    highest: u64,
}

impl Player {
    fn new(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let end = match words.next() {
            Some("sender") => End::Sender(Box::new(Sender::new(sender_config(words)))),
            Some("receiver") => End::Receiver(Box::new(Receiver::new(receiver_config()))),
            other => panic!("{other:?} is no end"),
        };
        Self { now: Instant::ZERO, end, own: 0, highest: 0 }
    }

    fn play(&mut self, at: Instant, sign: &str, words: &[&str], output: &mut String) {
        self.run_until(at, output);
        let stamp = stamp(self.now);
        match (sign, &mut self.end) {
            ("<", _) => {
                writeln!(output, "{stamp} < {}", words.join(" ")).unwrap();
                let segment = self.parse(words);
                match &mut self.end {
                    End::Sender(sender) => sender.handle_segment(&segment, at),
                    End::Receiver(receiver) => receiver.handle_segment(&segment, at),
                }
                self.collect(output);
            }
            ("=", End::Sender(sender)) => {
                let [window, pipe] = [sender.window(), sender.pipe()]
                    .map(|bytes| format!("{}.{:03}", bytes / SEGMENT, bytes % SEGMENT));
                writeln!(output, "{stamp} = cwnd {window} pipe {pipe}").unwrap();
            }
            (".", _) => writeln!(output, "{stamp} .").unwrap(),
            (sign, _) => panic!("{sign} is no sign for this end"),
        }
    }

    /// Runs the timers before `at`, and those of `at` before what comes then.
    fn run_until(&mut self, at: Instant, output: &mut String) {
        loop {
            let next = match &self.end {
                End::Sender(sender) => sender.poll_timeout(),
                End::Receiver(receiver) => receiver.poll_timeout(),
            };
            if next > at {
                self.now = at;
                return;
            }
            assert!(next >= self.now, "a deadline is in the past");
            self.now = next;
            match &mut self.end {
                End::Sender(sender) => sender.handle_timeout(next),
                End::Receiver(receiver) => receiver.handle_timeout(next),
            }
            self.collect(output);
        }
    }

    fn collect(&mut self, output: &mut String) {
        loop {
            let outgoing = match &mut self.end {
                End::Sender(sender) => sender.poll_transmit(self.now),
                End::Receiver(receiver) => {
                    receiver.poll_transmit(self.now).map(|segment| Outgoing { segment, offset: 0 })
                }
            };
            let Some(outgoing) = outgoing else { return };
            let described = self.describe(&outgoing);
            writeln!(output, "{} > {described}", stamp(self.now)).unwrap();
        }
    }

    fn parse(&self, words: &[&str]) -> Segment {
        let control = |flags| Segment { flags, window: u16::MAX, ..Segment::default() };
        let peer = |segments: &str| PEER_ISN.wrapping_add(1).wrapping_add(bytes(segments) as u32);
        let own = |segments: &str| self.own.wrapping_add(bytes(segments) as u32);
        match words {
            ["syn"] => Segment { mss: Some(MSS), sequence: PEER_ISN, ..control(Flags::SYN) },
            ["syn-ack"] => Segment {
                mss: Some(MSS),
                sequence: PEER_ISN,
                acknowledgement: self.own,
                window_scale: Some(7),
                ..control(Flags::SYN | Flags::ACK)
            },
            ["rst"] => Segment { sequence: peer("0"), ..control(Flags::RST) },
            ["ack", place, sacks @ ..] => {
                let mut segment = Segment {
                    sequence: peer("0"),
                    acknowledgement: own(place),
                    ..control(Flags::ACK)
                };
                for block in sacks {
                    let (left, right) = block.split_once("..").unwrap();
                    segment.sacks.push((own(left), own(right)));
                }
                segment
            }
            ["data", range] => {
                let (start, end) = range.split_once("..").unwrap();
                Segment {
                    sequence: peer(start),
                    acknowledgement: self.own,
                    len: (bytes(end) - bytes(start)) as u32,
                    ..control(Flags::ACK)
                }
            }
            other => panic!("{other:?} is no segment"),
        }
    }

    fn describe(&mut self, outgoing: &Outgoing) -> String {
        let segment = &outgoing.segment;
        let flags = segment.flags;
        if flags.contains(Flags::RST) {
            return "rst".to_owned();
        }
        if flags.contains(Flags::SYN) {
            self.own = segment.sequence.wrapping_add(1);
            let scale = segment.window_scale.unwrap();
            let kind = if flags.contains(Flags::ACK) { "syn-ack" } else { "syn" };
            return format!("{kind} mss {} scale {scale}", segment.mss.unwrap());
        }
        if segment.len > 0 {
            let (start, end) = (outgoing.offset, outgoing.offset + u64::from(segment.len));
            assert_eq!(segment.sequence, self.own.wrapping_add(start as u32));
            let kind = if start < self.highest { "again" } else { "data" };
            self.highest = self.highest.max(end);
            return format!("{kind} {}..{}", segments(start), segments(end));
        }
        let first = PEER_ISN.wrapping_add(1);
        let place = |sequence| segments(distance(first, sequence) as u64);
        let mut described = format!("ack {}", place(segment.acknowledgement));
        for (left, right) in segment.sacks.iter() {
            write!(described, " {}..{}", place(left), place(right)).unwrap();
        }
        described
    }
}

/// `mbps=` is what the application writes, else as much as goes through; `stop=`, in ms, when it
/// ends.
fn sender_config<'a>(words: impl Iterator<Item = &'a str>) -> SenderConfig {
    let mut rate = None;
    let mut stop = Instant::NEVER;
    for word in words {
        match word.split_once('=').unwrap() {
            ("mbps", value) => rate = Some(Bandwidth::from_mbps(value.parse().unwrap())),
            ("stop", value) => stop = milliseconds(value),
            other => panic!("{other:?} is no parameter"),
        }
    }
    let application = Application::new(rate, Instant::ZERO, stop, SEGMENT);
    SenderConfig { mss: MSS, key: 0x1234_5678_9abc_def0, application }
}

fn receiver_config() -> ReceiverConfig {
    ReceiverConfig { mss: MSS, key: 7, start: Instant::ZERO }
}

fn milliseconds(text: &str) -> Instant {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    assert!(fraction.len() == 3 || fraction == "0", "{text} has no three digits");
    let micros: u64 = fraction.parse().unwrap();
    Instant::from_millis(whole.parse().unwrap()) + Duration::from_micros(micros)
}

fn stamp(at: Instant) -> String {
    let micros = at.as_nanos() / 1_000;
    format!("{:>8}.{:03}", micros / 1_000, micros % 1_000)
}

fn bytes(text: &str) -> u64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    whole.parse::<u64>().unwrap() * SEGMENT + fraction.parse::<u64>().unwrap()
}

fn segments(bytes: u64) -> String {
    match bytes % SEGMENT {
        0 => (bytes / SEGMENT).to_string(),
        rest => format!("{}.{rest:03}", bytes / SEGMENT),
    }
}

/// A sender and a receiver, and what is on the way between them.
struct Pair {
    now: Instant,
    sender: Sender,
    receiver: Receiver,
    /// By arrival, then by the order in which it was sent; true when it goes to the receiver.
    wire: BTreeMap<(Instant, u64), (Segment, bool)>,
    /// Segments sent so far, and the last one of each end.
    count: u64,
    last: [Segment; 2],
    delay: Duration,
    random: Random,
    /// In millionths of segments.
    loss: u32,
    reordered: u32,
    doubled: u32,
    /// Nothing arrives that is sent in this time.
    dark: (Instant, Instant),
}

impl Pair {
    fn new(config: SenderConfig, delay: Duration) -> Self {
        Self {
            now: Instant::ZERO,
            sender: Sender::new(config),
            receiver: Receiver::new(receiver_config()),
            wire: BTreeMap::new(),
            count: 0,
            last: [Segment::default(); 2],
            delay,
            random: Random::new(1, "tcp pair"),
            loss: 0,
            reordered: 0,
            doubled: 0,
            dark: (Instant::NEVER, Instant::NEVER),
        }
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            self.sender.handle_timeout(self.now);
            self.receiver.handle_timeout(self.now);
            self.collect();
            let arrival = self.wire.keys().next().map_or(Instant::NEVER, |(at, _)| *at);
            let next = arrival.min(self.sender.poll_timeout()).min(self.receiver.poll_timeout());
            if next > end {
                self.now = end;
                return;
            }
            assert!(next >= self.now, "a deadline is in the past");
            self.now = next;
            while let Some(entry) = self.wire.first_entry()
                && entry.key().0 <= self.now
            {
                let (segment, to_receiver) = entry.remove();
                if to_receiver {
                    self.receiver.handle_segment(&segment, self.now);
                } else {
                    self.sender.handle_segment(&segment, self.now);
                }
                self.collect();
            }
        }
    }

    fn collect(&mut self) {
        while let Some(outgoing) = self.sender.poll_transmit(self.now) {
            let mut rest = outgoing.segment;
            // Super-frames are split, as a limiter would, or all would share one fate.
            while rest.len > SEGMENT as u32 {
                self.put(Segment { len: SEGMENT as u32, ..rest }, true);
                rest.sequence = rest.sequence.wrapping_add(SEGMENT as u32);
                rest.len -= SEGMENT as u32;
            }
            self.put(rest, true);
        }
        while let Some(segment) = self.receiver.poll_transmit(self.now) {
            self.put(segment, false);
        }
    }

    fn put(&mut self, segment: Segment, to_receiver: bool) {
        self.last[usize::from(!to_receiver)] = segment;
        let is_dark = (self.dark.0..self.dark.1).contains(&self.now);
        let copies = 1 + u32::from(self.random.one_in_million(self.doubled));
        for _ in 0..copies {
            if is_dark || self.random.one_in_million(self.loss) {
                continue;
            }
            let late = self.random.one_in_million(self.reordered);
            let delay = self.delay * if late { 2 } else { 1 };
            self.wire.insert((self.now + delay, self.count), (segment, to_receiver));
            self.count += 1;
        }
    }

    fn delivered(&self) -> u64 {
        TcpMeter::new(self.sender.record(), self.receiver.record(), self.now)
            .window(Instant::ZERO, Instant::NEVER)
            .delivered_bytes
    }

    fn window(&self, from: Instant, to: Instant) -> super::TcpWindow {
        TcpMeter::new(self.sender.record(), self.receiver.record(), self.now).window(from, to)
    }
}

fn config(kbps: Option<u64>, stop: Instant) -> SenderConfig {
    let rate = kbps.map(|kbps| Bandwidth::from_bps(kbps * 1_000));
    let application = Application::new(rate, Instant::ZERO, stop, SEGMENT);
    SenderConfig { mss: MSS, key: 0x1234_5678_9abc_def0, application }
}

/// Neighbours' names and numbers, at every place of a key: four bytes are enough to tell.
#[test]
fn four_bytes_tell_neighbouring_streams_apart() {
    let streams = [(1, 7), (2, 7), (3, 7), (1, 8), (1, 9), (2, 8)].map(|(a, b)| Content::new(a, b));
    for offset in 53_067_439_750..53_067_439_750 + 64 * 8 {
        let payloads = streams.map(|stream| {
            let mut payload = [0; 4];
            stream.write(offset, 1_000, &mut payload);
            payload
        });
        for (at, payload) in payloads.iter().enumerate() {
            let takers = streams.iter().filter(|stream| stream.matches(offset, 1_000, payload));
            assert_eq!(takers.count(), 1, "stream {at} at {offset}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The receiver counts in-order bytes only, and the books of the scoreboard would overflow if
    /// anything were counted twice.
    #[test]
    fn whatever_the_wire_does_every_byte_arrives_once(
        seed: u64, loss in 0_u32..200_000, reordered in 0_u32..200_000, doubled in 0_u32..100_000,
        delay_us in 1_u64..50_000, kbps in prop::option::of(100_u64..100_000),
    ) {
        let mut pair = Pair::new(
            config(kbps, Instant::from_millis(1_500)), Duration::from_micros(delay_us),
        );
        pair.random = Random::new(seed, "tcp pair");
        (pair.loss, pair.reordered, pair.doubled) = (loss, reordered, doubled);
        pair.run_until(Instant::from_millis(1_500));
        // A whole wire, so that the end does not wait for two minutes of back-off.
        (pair.loss, pair.reordered) = (0, 0);
        pair.run_until(Instant::from_secs(400));
        prop_assert_eq!(pair.sender.pipe(), 0);
        let sent = pair.sender.sent_bytes();
        prop_assert_eq!(pair.delivered(), sent);
        let window = pair.window(Instant::ZERO, Instant::NEVER);
        // Nothing is sent when the handshake took until the stop.
        prop_assert!(sent > 0 || window.timeouts > 0);
        prop_assert_eq!(window.resets, 0);
        let needed = sent.div_ceil(SEGMENT);
        prop_assert!(window.segments >= needed);
        if (loss, reordered, doubled) == (0, 0, 0) {
            prop_assert_eq!(window.segments, needed);
        }
    }

    #[test]
    fn ranges_are_a_set(
        inserted in prop::collection::vec((0_u64..60, 1_u64..12), 0..20), below in 0_u64..80,
    ) {
        let mut ranges = Ranges::default();
        let mut oracle = std::collections::BTreeSet::new();
        for (start, len) in inserted {
            let added: Vec<u64> =
                ranges.insert(start..start + len).into_iter().flatten().collect();
            let fresh: Vec<u64> =
                (start..start + len).filter(|place| oracle.insert(*place)).collect();
            prop_assert_eq!(added, fresh);
        }
        ranges.remove_below(below);
        oracle.retain(|place| *place >= below);
        let all: Vec<u64> = ranges.iter().cloned().flatten().collect();
        prop_assert_eq!(all, oracle.iter().copied().collect::<Vec<_>>());
        for place in 0..80 {
            let found = ranges.containing(place).is_some_and(|range| range.contains(&place));
            prop_assert_eq!(found, oracle.contains(&place));
        }
        let touching = ranges.iter().zip(ranges.iter().skip(1)).any(|(a, b)| a.end >= b.start);
        prop_assert!(!touching);
    }

    #[test]
    fn segments_pass_through_their_wire_form(
        sequence: u32, acknowledgement: u32, window: u16, mss: Option<u16>,
        scale in prop::option::of(0_u8..=14), sack_permitted: bool, clock: Option<(u32, u32)>,
        sacks in prop::collection::vec(any::<(u32, u32)>(), 0..=3),
    ) {
        let mut segment = Segment {
            sequence, acknowledgement, flags: Flags::ACK, window,
            timestamps: clock.map(|(value, echo)| Timestamps { value, echo }),
            ..Segment::default()
        };
        // Options of a SYN and SACK blocks are not in one segment.
        if sacks.is_empty() {
            (segment.mss, segment.window_scale) = (mss, scale);
            segment.sack_permitted = sack_permitted;
        }
        for block in sacks {
            segment.sacks.push(block);
        }
        let bytes = segment.with_repr((1, 2), |repr| {
            let mut bytes = vec![0; repr.buffer_len()];
            repr.emit([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), &[], &mut bytes);
            bytes
        });
        prop_assert_eq!(Segment::parse(&View::new(&bytes).unwrap()), segment);
    }

    /// A super-frame's content is that of its parts, and no byte of the samples can change.
    #[test]
    fn content_is_told_from_any_other(
        offset in 0_u64..1 << 40, len in 1_usize..5_000, cut in 1_usize..4, flip: u8,
    ) {
        let (ours, other) = (Content::new(1, 7), Content::new(2, 7));
        let mut payload = vec![0; len];
        ours.write(offset, 1_000, &mut payload);
        prop_assert!(ours.matches(offset, 1_000, &payload));
        let at = (cut * 1_000).min(len);
        prop_assert!(ours.matches(offset, 1_000, &payload[..at]));
        prop_assert!(ours.matches(offset + at as u64, 1_000, &payload[at..]));
        if len >= 4 {
            prop_assert!(!other.matches(offset, 1_000, &payload));
            prop_assert!(!Content::new(1, 8).matches(offset, 1_000, &payload));
            prop_assert!(!ours.matches(offset + 1_000, 1_000, &payload));
        }
        payload[0] ^= flip | 1;
        prop_assert!(!ours.matches(offset, 1_000, &payload));
    }

    #[test]
    fn any_segment_is_taken(
        sequence: u32, acknowledgement: u32, flags: u8, window: u16, len in 0_u32..70_000,
        sack: (u32, u32), near: bool,
    ) {
        let mut pair =
            Pair::new(config(Some(8_000), Instant::from_secs(1)), Duration::from_millis(5));
        pair.run_until(Instant::from_millis(100));
        let mut segment = Segment {
            sequence, acknowledgement, flags: Flags(flags), window, len, ..Segment::default()
        };
        if near {
            let last = pair.last[0];
            segment.sequence = last.sequence.wrapping_add(sequence % 100_000);
            segment.acknowledgement = last.sequence.wrapping_sub(acknowledgement % 100_000);
            let edge = |edge: u32| last.sequence.wrapping_sub(edge % 100_000);
            segment.sacks.push((edge(sack.0), edge(sack.1)));
        } else {
            segment.sacks.push(sack);
        }
        pair.sender.handle_segment(&segment, pair.now);
        pair.receiver.handle_segment(&segment, pair.now);
        pair.run_until(Instant::from_secs(3));
    }
}

/// RFC 6298, 5.5: timeouts, each twice as long as the one before up to two minutes. From the first
/// at 210 ms, ten take 214.8 s and each of the next 120 s: the fifteenth is after 814.8 s and at the
/// sixteenth, after 934.8 s, the connection is given up. A second later it is opened again; SYNs
/// leave then and after 1, 3, 7, 15, 31 and 63 s, of which the last one, at 1,008.8 s, arrives.
#[test]
fn a_connection_that_hears_nothing_is_given_up_and_opened_again() {
    let mut pair =
        Pair::new(config(Some(100), Instant::from_secs(1_200)), Duration::from_millis(5));
    pair.dark = (Instant::from_secs(10), Instant::from_secs(1_000));
    pair.run_until(Instant::from_secs(900));
    let window = pair.window(Instant::ZERO, Instant::NEVER);
    assert_eq!((window.timeouts, window.resets), (15, 0));
    pair.run_until(Instant::from_secs(999));
    let window = pair.window(Instant::from_secs(5), Instant::NEVER);
    assert_eq!((window.timeouts, window.resets), (15 + 1 + 5, 1));
    assert_eq!(window.longest_stall.as_secs(), 988);

    pair.run_until(Instant::from_secs(1_300));
    let window = pair.window(Instant::from_secs(5), Instant::NEVER);
    assert_eq!((window.timeouts, window.resets), (15 + 1 + 6, 1));
    assert_eq!(window.longest_stall.as_millis() / 100, 9_988);
    // 12,500 bytes a second while there was light, and what the connection took in the dark: its
    // send buffer of 4 MiB, filled after 335 s. The application does not catch up.
    let delivered = pair.delivered();
    let lit = 12_500 * (10 + 1_200 - 1_009);
    assert!((lit + 4_180_000..lit + 4_200_000).contains(&delivered), "{delivered}");
}

/// One segment in a thousand is lost at 10 ms. Reno's share of the loss rate alone (RFC 9438, 5.1.1:
/// 1.22 / sqrt(p) segments a round trip) is 39 segments, 31 Mbps; CUBIC is not below it.
#[test]
fn random_loss_costs_no_timeouts() {
    let mut pair = Pair::new(config(None, Instant::from_secs(10)), Duration::from_millis(5));
    pair.loss = 1_000;
    pair.run_until(Instant::from_secs(10));
    let window = pair.window(Instant::from_secs(1), Instant::from_secs(10));
    assert!((25_000_000..60_000_000).contains(&window.goodput_bps), "{window:?}");
    assert!(window.timeouts <= 2, "{window:?}");
    let lost = window.segments / 1_000;
    assert!((lost / 2..lost * 2).contains(&window.retransmitted), "{window:?}");
}

/// RFC 7661 in spirit: a window that the application does not fill stays near what it uses.
#[test]
fn an_application_that_writes_little_does_not_grow_the_window() {
    let round_trip = Duration::from_millis(20);
    let mut pair = Pair::new(config(Some(8_000), Instant::from_secs(60)), round_trip / 2);
    pair.run_until(Instant::from_secs(60));
    // 8 Mbps in 20 ms are 20 segments; what waited for the first round trips made it 46 once. A
    // window that grew with every ACK would be at 4 MiB in a second.
    assert!(pair.sender.window() <= 100 * SEGMENT, "{}", pair.sender.window());
    let second = pair.window(Instant::from_secs(30), Instant::from_secs(31));
    assert!(second.goodput_bps.abs_diff(8_000_000) < 80_000, "{}", second.goodput_bps);
    assert_eq!((second.retransmitted, second.longest_stall), (0, Duration::ZERO));
}

#[test]
fn sequence_numbers_wrap_around() {
    // The first one is 0xffff_0000.
    let config = SenderConfig { key: 0xffff << 48, ..config(Some(8_000), Instant::from_secs(1)) };
    let mut pair = Pair::new(config, Duration::from_millis(5));
    pair.loss = 10_000;
    pair.run_until(Instant::from_secs(1));
    assert!(pair.last[0].sequence < 1 << 30);
    assert!(pair.delivered() > 900_000, "{}", pair.delivered());
}

#[test]
fn a_reset_is_heard_in_its_place_only() {
    let mut pair = Pair::new(config(Some(8_000), Instant::from_secs(5)), Duration::from_millis(5));
    pair.run_until(Instant::from_secs(1));
    let sequence = pair.last[1].sequence;
    for (off, resets) in [(1, 0), (0, 1)] {
        pair.sender.handle_segment(&Segment::reset(sequence.wrapping_add(off)), pair.now);
        let window = pair.window(Instant::ZERO, Instant::NEVER);
        assert_eq!(window.resets, resets);
    }
    pair.run_until(Instant::from_secs(8));
    let window = pair.window(Instant::ZERO, Instant::NEVER);
    assert_eq!(window.longest_stall.as_millis() / 100, 10);
    assert!(pair.delivered() > 4_900_000);
}

#[test]
fn ports_tell_a_flow_and_its_direction() {
    assert_eq!(conversation(20_000, 5_001), Some((0, Role::Receiver)));
    assert_eq!(conversation(5_001, 59_999), Some((39_999, Role::Sender)));
    for other in [(60_000, 5_001), (19_999, 5_001), (5_001, 5_001), (179, 5_001), (5_001, 179)] {
        assert_eq!(conversation(other.0, other.1), None);
    }
    for port in [20_000, 49_152, 59_999] {
        assert_eq!(conversation(port, 179), None);
        assert_eq!(conversation(179, port), None);
    }
}

mod meter {
    use super::*;

    const fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn received(deliveries: &[u64]) -> TcpReceived {
        let mut received = TcpReceived::new(Instant::ZERO);
        for at in deliveries {
            received.deliver(1_000, ms(*at));
        }
        received
    }

    fn busy(spans: &[(u64, u64)]) -> TcpSent {
        let mut sent = TcpSent::new();
        for (since, until) in spans {
            sent.set_busy(true, ms(*since));
            sent.set_busy(false, ms(*until));
        }
        sent
    }

    #[test]
    fn bytes_belong_to_the_window_in_which_their_bin_begins() {
        let received = received(&[0, 9, 10, 1_000, 1_005, 1_990, 2_500]);
        let sent = TcpSent::new();
        let meter = TcpMeter::new(&sent, &received, ms(3_000));
        let window = meter.window(ms(0), ms(2_500));
        assert_eq!(window.delivered_bytes, 6_000);
        assert_eq!(window.goodput_bps, 6_000 * 8 * 10 / 25);
        assert_eq!(window.per_second_bps, [24_000, 24_000]);
        assert_eq!(meter.delivered_in_bins(ms(0), Duration::from_millis(10), 3), [2_000, 1_000, 0]);
        assert_eq!(meter.delivered_in_bins(ms(1_000), Duration::from_secs(1), 2), [3_000, 1_000]);
    }

    /// Silence counts while there is something to send, from when there is, in the window in which
    /// it has lasted 50 ms.
    #[test]
    fn a_stall_is_silence_with_data_waiting() {
        let received = received(&[10, 900, 2_000]);
        let sent = busy(&[(5, 20), (400, 905), (1_000, 1_030), (1_900, 2_010)]);
        let meter = TcpMeter::new(&sent, &received, ms(3_000));
        let stall = |from, to| meter.window(ms(from), ms(to)).longest_stall.as_millis();
        assert_eq!(stall(0, 3_000), 500);
        assert_eq!((stall(0, 450), stall(450, 500), stall(451, 1_900)), (0, 500, 0));
        assert_eq!(stall(1_900, 3_000), 100);
    }

    #[test]
    fn a_stall_without_an_end_lasts_to_the_end_of_the_run() {
        let received = received(&[10, 100]);
        let mut sent = TcpSent::new();
        sent.set_busy(true, ms(0));
        let meter = TcpMeter::new(&sent, &received, ms(3_000));
        assert_eq!(meter.window(ms(50), ms(200)).longest_stall.as_millis(), 2_900);
        assert_eq!(meter.window(ms(151), ms(200)).longest_stall.as_millis(), 0);
    }

    #[test]
    fn round_trips_are_known_to_a_part_in_128() {
        let mut sent = TcpSent::new();
        for (at, micros) in [(50, 10_000), (150, 10_050), (1_050, 99)] {
            sent.round_trip(Duration::from_micros(micros), ms(at));
        }
        let latency = sent.latency(ms(0), ms(1_000));
        assert_eq!((latency.count(), latency.min_us()), (2, Some(9_984)));
        assert_eq!(sent.latency(ms(1_000), ms(2_000)).max_us(), Some(99));
    }
}
