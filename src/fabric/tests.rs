//! Links with faults, between two endpoints that count.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use proptest::prelude::*;

use crate::fabric::{
    Altered, Direction, Endpoint, Fabric, Fault, FaultScope, Impairment, LinkCapture, LinkConfig,
    LinkIndex, NodeIndex, Observer, RealTime,
};
use crate::io::capture::Capture;
use crate::io::gso::{self, Layout};
use crate::io::{Frame, Frames};
use crate::model::{Bandwidth, Instant, PortIndex};
use crate::router::{DropReason, Ledger};
use crate::wire::{ethertype, ipv4, protocol, tcp};

const FRAMES: u64 = 100;
const BYTES: usize = 976;
const DELAY: Duration = Duration::from_millis(1);
/// Ethernet, IPv4 and TCP.
const HEADERS: usize = 54;
/// Each segment has [`BYTES`].
const GSO: usize = BYTES - HEADERS;
const TCP_SEGMENTS: u64 = 10;
/// With 24 bytes of overhead a segment takes 1 ms.
const SUPER_RATE: Bandwidth = Bandwidth::from_mbps(8);
/// With 24 bytes of overhead a frame takes 100 ms.
const SLOW: Bandwidth = Bandwidth::from_bps(80_000);

/// Whose faults they are.
const OWNER: &str = "test";

#[test]
fn what_a_slow_rate_held_back_goes_on_at_once_when_it_is_mended() {
    let (mut fabric, link) = pair(None);
    impair(&mut fabric, link);
    fabric.run_until(Instant::from_millis(1050), &mut Nobody);
    assert_eq!(received(&fabric), 10);
    fabric.mend_link(link, OWNER);
    fabric.run_until(fabric.now() + DELAY, &mut Nobody);
    assert_eq!(received(&fabric), FRAMES);
    assert!(fabric.totals().held);
}

#[test]
fn a_mended_link_keeps_its_own_rate() {
    let (mut fabric, link) = pair(Some(Bandwidth::from_bps(800_000)));
    impair(&mut fabric, link);
    fabric.run_until(Instant::from_millis(1050), &mut Nobody);
    fabric.mend_link(link, OWNER);
    fabric.run_until(fabric.now() + DELAY + Duration::from_millis(205), &mut Nobody);
    assert_eq!(received(&fabric), 10 + 20);
}

#[test]
fn who_shares_a_link_mends_its_own_faults_only() {
    let (mut fabric, link) = pair(None);
    fabric.break_link(link, &Direction::BOTH, Fault::Cut, "another");
    fabric.break_link(link, &Direction::BOTH, Fault::Cut, OWNER);
    fabric.mend_link(link, OWNER);
    fabric.run_until(Instant::from_secs(1), &mut Nobody);
    assert_eq!(received(&fabric), 0);
}

#[test]
fn a_cut_loses_what_is_on_the_way_though_it_is_mended_at_once() {
    let (mut fabric, link) = pair(None);
    impair(&mut fabric, link);
    fabric.run_until(Instant::from_millis(1050), &mut Nobody);
    fabric.break_link(link, &Direction::BOTH, Fault::Cut, OWNER);
    fabric.mend_link(link, OWNER);
    fabric.run_until(Instant::from_secs(60), &mut Nobody);
    let totals = fabric.totals();
    assert_eq!(received(&fabric), 10);
    assert_eq!(totals.sum.dropped[DropReason::LinkDown as usize], FRAMES - 10);
    assert!(totals.held);
    assert_eq!(fabric.frames_in_use(), 0);
}

/// What a link does to ten super-frames of ten segments is what it does to a hundred frames.
#[test]
fn a_rate_and_a_delay_pass_super_frames_whole() {
    let (mut fabric, _) = super_pair(link_config(Some(SUPER_RATE)));
    // Ten segments of 976 bytes and 24 of overhead take 10 ms.
    fabric.run_until(Instant::from_nanos(10_999_999), &mut Nobody);
    assert_eq!(received(&fabric), 0);
    fabric.run_until(Instant::from_millis(11), &mut Nobody);
    assert_eq!(received(&fabric), 10);
    fabric.run_until(Instant::from_millis(51), &mut Nobody);
    assert_eq!(received(&fabric), 50);
    assert_eq!(forward(&fabric).queued, 50);
    fabric.run_until(Instant::from_secs(1), &mut Nobody);
    assert_eq!(received(&fabric), FRAMES);
    assert_eq!(frames_received(&fabric), 10);
    assert!(fabric.totals().held);
    assert_eq!(fabric.frames_in_use(), 0);
}

#[test]
fn each_segment_is_lost_or_delayed_by_itself() {
    let config = LinkConfig { loss_ppm: 300_000, ..link_config(None) };
    let (mut fabric, _) = super_pair(config);
    fabric.run_until(Instant::from_secs(1), &mut Nobody);
    let lost = forward(&fabric).dropped[DropReason::LinkLoss as usize];
    assert!((15..45).contains(&lost) && !lost.is_multiple_of(10), "{lost}");
    assert_eq!(received(&fabric), FRAMES - lost);
    assert_eq!(frames_received(&fabric), FRAMES - lost);
    assert!(fabric.totals().held);

    let config = LinkConfig { jitter: DELAY, ..link_config(None) };
    let (mut fabric, _) = super_pair(config);
    fabric.run_until(Instant::from_secs(1), &mut Nobody);
    assert_eq!(frames_received(&fabric), FRAMES);
    assert_eq!(fabric.frames_in_use(), 0);
}

/// The same frames arrive and the same are lost as when they come one by one.
#[test]
fn a_full_queue_takes_the_segments_that_fit() {
    let totals = [TCP_SEGMENTS, 1].map(|segments| {
        let counter = Counter { unsent: 5_000, segments, ..Counter::default() };
        let (mut fabric, _) = pair_of(counter, link_config(Some(SUPER_RATE)));
        fabric.run_until(Instant::from_secs(60), &mut Nobody);
        assert!(fabric.totals().held);
        assert_eq!(fabric.frames_in_use(), 0);
        let ledger = forward(&fabric).clone();
        (ledger.transmitted, ledger.dropped[DropReason::LinkFull as usize])
    });
    // 4 MiB take 4,194.304 frames of 1,000 bytes; one goes on the wire, one is begun.
    assert_eq!(totals, [(4_195, 805); 2]);
}

#[test]
fn a_cut_and_a_black_hole_take_super_frames_whole() {
    for (fault, passed) in [
        (Fault::Cut, 0),
        (Fault::Blackhole(FaultScope::All), 0),
        (Fault::Blackhole(FaultScope::Data), 0),
        (Fault::Blackhole(FaultScope::Control), FRAMES),
    ] {
        let (mut fabric, link) = super_pair(link_config(None));
        fabric.break_link(link, &Direction::BOTH, fault, OWNER);
        fabric.run_until(Instant::from_secs(1), &mut Nobody);
        let lost = forward(&fabric).dropped[DropReason::LinkDown as usize];
        assert_eq!((received(&fabric), lost), (passed, FRAMES - passed), "{fault:?}");
    }
    // On the way.
    let (mut fabric, link) = super_pair(link_config(Some(SUPER_RATE)));
    fabric.run_until(Instant::from_millis(25), &mut Nobody);
    fabric.break_link(link, &Direction::BOTH, Fault::Cut, OWNER);
    assert_eq!(received(&fabric), 20);
    assert_eq!(forward(&fabric).dropped[DropReason::LinkDown as usize], 80);
    assert_eq!(fabric.frames_in_use(), 0);
}

#[test]
fn a_super_frame_that_is_none_is_malformed() {
    let counter = Counter { unsent: 100, segments: 10, lies: true, ..Counter::default() };
    // Only a link that has to look into them sees it.
    let (mut fabric, _) = pair_of(counter, link_config(Some(SUPER_RATE)));
    fabric.run_until(Instant::from_secs(1), &mut Nobody);
    assert_eq!(forward(&fabric).dropped[DropReason::Malformed as usize], 100);
    assert!(fabric.totals().held);
}

/// A capture has what arrived and what was lost, for each reason as many packets as the books.
#[test]
fn a_capture_has_every_segment_with_what_became_of_it() {
    let lossy = LinkConfig { loss_ppm: 300_000, ..link_config(None) };
    let cases = [(5_000, link_config(Some(SUPER_RATE)), None), (FRAMES, lossy, None)];
    let cut = (FRAMES, link_config(Some(SUPER_RATE)), Some(Instant::from_millis(25)));
    for (case, (unsent, config, cut_at)) in cases.into_iter().chain([cut]).enumerate() {
        let counter = Counter { unsent, segments: TCP_SEGMENTS, ..Counter::default() };
        let (mut fabric, link) = pair_of(counter, config);
        let path = std::env::temp_dir().join(format!("msee-links-{}-{case}", std::process::id()));
        let file = Capture::new(File::create(&path).unwrap(), Duration::ZERO);
        let mut capture = LinkCapture::new(file);
        capture.add_link(link, "link", ["source", "sink"]);
        let capture = Arc::new(Mutex::new(capture));
        fabric.begin_capture(Arc::clone(&capture));
        if let Some(at) = cut_at {
            fabric.run_until(at, &mut Nobody);
            fabric.break_link(link, &Direction::BOTH, Fault::Cut, OWNER);
        }
        fabric.run_until(Instant::from_secs(60), &mut Nobody);
        fabric.keep_captures(|_| false);
        Arc::into_inner(capture).unwrap().into_inner().unwrap().finish().unwrap();
        assert_eq!(fabric.frames_in_use(), 0);
        let captured = captured(&path);
        std::fs::remove_file(&path).unwrap();
        let ledger = forward(&fabric);
        let lost = DropReason::ALL.iter().map(|reason| (reason.name(), *reason as usize));
        let lost = lost.map(|(name, at)| (format!("dropped: {name}"), ledger.dropped[at]));
        let arrived = (String::new(), ledger.transmitted);
        let booked = lost.chain([arrived]).filter(|(_, packets)| *packets > 0).collect();
        assert_eq!(captured, booked);
        assert_eq!(captured.len(), 2, "some arrive and some are lost");
    }
}

/// Packets on the wire, by the comment that says why they were lost.
fn captured(path: &Path) -> BTreeMap<String, u64> {
    let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
    let mut captured = BTreeMap::new();
    while let Some(block) = reader.next_block() {
        let Block::EnhancedPacket(packet) = block.unwrap() else { continue };
        let (mut lost, mut packets) = (String::new(), 1);
        for option in &packet.options {
            let EnhancedPacketOption::Comment(text) = option else { continue };
            match text.strip_prefix("super-frame: ").and_then(|rest| rest.split_once(' ')) {
                Some((segments, _)) => packets = segments.parse().unwrap(),
                None => lost = text.to_string(),
            }
        }
        *captured.entry(lost).or_default() += packets;
    }
    captured
}

/// Sends all its frames at zero, and counts what it gets.
#[derive(Debug, Default)]
struct Counter {
    unsent: u64,
    /// Of each super-frame; 1 for segments whose checksum is left to be completed, 0 for frames without
    /// anything in them.
    segments: u64,
    /// Whether what it sends as super-frames is something else.
    lies: bool,
    frames_received: u64,
    contents: Vec<Vec<u8>>,
    outbox: VecDeque<Frame>,
    ledger: Ledger,
}

impl Endpoint for Counter {
    fn receive(&mut self, mut frame: Frame, frames: &mut Frames, _: Instant) {
        gso::complete_checksum(&mut frame, frames);
        self.frames_received += 1;
        self.contents.push(frames.bytes(&frame).to_vec());
        self.ledger.received += frame.meta.wire_packets();
        self.ledger.consumed += frame.meta.wire_packets();
        frames.free(frame);
    }

    fn handle_timeout(&mut self, _: Instant, frames: &mut Frames) {
        let unsent = std::mem::take(&mut self.unsent);
        self.ledger.originated += unsent;
        for _ in 0..unsent / self.segments.max(1) {
            let bytes = match self.segments {
                0 => vec![0; BYTES],
                segments if self.lies => vec![0; BYTES * segments as usize],
                segments => tcp_frame(segments as usize * GSO),
            };
            let mut frame = frames.allocate_from(&bytes).unwrap();
            if self.segments > 1 {
                (frame.meta.gso_size, frame.meta.segments) = (GSO as u16, self.segments as u16);
            }
            if self.segments == 1 {
                let layout = Layout::measure(&bytes, GSO as u16).unwrap();
                layout.make_partial(&mut frame, frames);
            }
            self.outbox.push_back(frame);
        }
    }

    fn poll_timeout(&self) -> Instant {
        if self.unsent > 0 { Instant::ZERO } else { Instant::NEVER }
    }

    fn poll_transmit(&mut self) -> Option<Frame> {
        let frame = self.outbox.pop_front()?;
        self.ledger.transmitted += frame.meta.wire_packets();
        Some(frame)
    }

    fn ledger(&self) -> Ledger {
        let queued = self.outbox.iter().map(|frame| frame.meta.wire_packets()).sum();
        Ledger { queued, ..self.ledger.clone() }
    }
}

fn tcp_frame(payload_len: usize) -> Vec<u8> {
    let (source, destination) = (Ipv4Addr::new(10, 1, 0, 10), Ipv4Addr::new(10, 2, 0, 4));
    let tcp = tcp::Repr {
        source_port: 40_000,
        destination_port: 5001,
        sequence: 0,
        acknowledgement: 0,
        flags: tcp::Flags::ACK,
        window: 0,
        urgent: 0,
        options: &[],
        payload_len,
    };
    let ip = ipv4::Repr {
        source,
        destination,
        protocol: protocol::TCP,
        ttl: 64,
        dscp: 0,
        identification: 0,
        dont_fragment: true,
        payload_len: tcp.buffer_len(),
    };
    let mut frame = vec![0; HEADERS + payload_len];
    frame[12..14].copy_from_slice(&ethertype::IPV4.to_be_bytes());
    ip.emit(&mut frame[14..]);
    tcp.emit(source.into(), destination.into(), &vec![0; payload_len], &mut frame[34..]);
    frame
}

fn link_config(rate: Option<Bandwidth>) -> LinkConfig {
    LinkConfig { rate, delay: DELAY, ..LinkConfig::named("link") }
}

fn pair(rate: Option<Bandwidth>) -> (Fabric<Counter>, LinkIndex) {
    pair_of(Counter { unsent: FRAMES, ..Counter::default() }, link_config(rate))
}

fn super_pair(config: LinkConfig) -> (Fabric<Counter>, LinkIndex) {
    let counter = Counter { unsent: FRAMES, segments: TCP_SEGMENTS, ..Counter::default() };
    pair_of(counter, config)
}

fn pair_of(counter: Counter, config: LinkConfig) -> (Fabric<Counter>, LinkIndex) {
    let mut fabric = Fabric::new(1);
    let source = fabric.add_endpoint(counter);
    let sink = fabric.add_endpoint(Counter::default());
    let link = fabric.add_link(config, [(source, PortIndex(0)), (sink, PortIndex(0))]);
    (fabric, link)
}

fn forward(fabric: &Fabric<Counter>) -> &Ledger {
    fabric.link_ledgers().next().expect("there is a link").1
}

fn frames_received(fabric: &Fabric<Counter>) -> u64 {
    fabric.endpoint(NodeIndex(1)).expect("the sink").frames_received
}

fn impair(fabric: &mut Fabric<Counter>, link: LinkIndex) {
    let slow = Impairment { rate: Some(SLOW), ..Impairment::default() };
    fabric.break_link(link, &Direction::BOTH, Fault::Impair(slow), OWNER);
}

fn received(fabric: &Fabric<Counter>) -> u64 {
    fabric.ledger(NodeIndex(1)).received
}

struct Nobody;

impl Observer for Nobody {
    fn frame(&mut self, _: LinkIndex, _: Direction, _: &[u8], _: Instant) {}
}

/// Sleeps in its first turn, as a process does that the host keeps from running.
#[derive(Debug)]
struct Sleeper(Option<Duration>);

impl Endpoint for Sleeper {
    fn receive(&mut self, frame: Frame, frames: &mut Frames, _: Instant) {
        frames.free(frame);
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Frames) {
        if let Some(nap) = self.0.take() {
            std::thread::sleep(nap);
        }
    }

    fn poll_timeout(&self) -> Instant {
        if self.0.is_some() { Instant::from_millis(5) } else { Instant::NEVER }
    }

    fn poll_transmit(&mut self) -> Option<Frame> {
        None
    }

    fn ledger(&self) -> Ledger {
        Ledger::default()
    }
}

/// Also one longer than what is left of the run.
#[test]
fn a_stall_of_the_host_is_measured_whole() {
    const NAP: Duration = Duration::from_millis(60);
    let mut fabric = Fabric::new(1);
    let sleeper = fabric.add_endpoint(Sleeper(None));
    fabric.with_endpoint(sleeper, |sleeper| sleeper.0 = Some(NAP));
    let mut time = RealTime::start();
    time.take_longest_stall();
    time.run_until(&mut fabric, Instant::from_millis(20), &mut Nobody);
    assert!(time.take_longest_stall() >= NAP);
}

/// Each frame at its time, one that is given out of order behind the one before it, and a flood in
/// parts: whoever else has something to do at that time does it between them.
#[test]
fn a_sender_sends_each_frame_at_its_time_and_a_flood_in_parts() {
    const FLOOD: u64 = 1_000;
    let (mut fabric, link) = pair_of(Counter::default(), link_config(None));
    let sender = fabric.add_sender(link, Direction::Forward);
    let frame = || vec![7; 60];
    fabric.with_sender(sender, |sender| {
        for ms in [10, 30, 20, 50] {
            sender.send_at(Instant::from_millis(ms), frame());
        }
    });
    let before = Duration::from_nanos(1);
    for (ms, sent) in [(10, 1), (30, 3), (50, 4)] {
        let at = Instant::from_millis(ms);
        fabric.run_until(at - before, &mut Nobody);
        assert!(forward(&fabric).received < sent, "before {ms} ms");
        fabric.run_until(at, &mut Nobody);
        assert_eq!(forward(&fabric).received, sent, "at {ms} ms");
        assert!(fabric.totals().held);
    }
    let begun = fabric.now() + Duration::from_millis(1);
    fabric.with_sender(sender, |sender| (0..FLOOD).for_each(|_| sender.send_at(begun, frame())));
    fabric.run_until(begun, &mut Nobody);
    let at_once = forward(&fabric).received - 4;
    assert!((1..=64).contains(&at_once), "{at_once}");
    assert!(!fabric.with_sender(sender, |sender| sender.is_idle()));
    fabric.run_until(begun + Duration::from_millis(1), &mut Nobody);
    assert_eq!(forward(&fabric).received, FLOOD + 4);
    assert!(fabric.with_sender(sender, |sender| sender.is_idle()));
    assert!(
        fabric.with_sender(sender, crate::fabric::Sender::take_latest) > Duration::from_micros(500)
    );
    fabric.run_until(fabric.now() + DELAY, &mut Nobody);
    assert_eq!(received(&fabric), FLOOD + 4);
    assert_eq!(fabric.ledger(sender).originated, FLOOD + 4);
    assert!(fabric.totals().held);
}

/// What a link with a fault gave to its far end, and its books when nothing is on the way any more.
fn altered(
    seed: u64,
    config: LinkConfig,
    counter: Counter,
    impairment: Impairment,
) -> (Fabric<Counter>, Altered) {
    let mut fabric = Fabric::new(seed);
    let source = fabric.add_endpoint(counter);
    let sink = fabric.add_endpoint(Counter::default());
    let link = fabric.add_link(config, [(source, PortIndex(0)), (sink, PortIndex(0))]);
    fabric.break_link(link, &[Direction::Forward], Fault::Impair(impairment), OWNER);
    for ms in [2, 5, 50] {
        fabric.run_until(Instant::from_millis(ms), &mut Nobody);
        assert!(fabric.totals().held, "at {ms} ms: {:?}", fabric.totals());
    }
    fabric.run_until(Instant::from_secs(60), &mut Nobody);
    assert!(fabric.totals().held, "{:?}", fabric.totals());
    assert_eq!(fabric.frames_in_use(), 0);
    let altered = fabric.altered().next().expect("there is a link").1;
    (fabric, altered)
}

fn shares(of: [u32; 5]) -> Impairment {
    let [loss_ppm, corrupt_ppm, truncate_ppm, duplicate_ppm, reorder_ppm] = of;
    Impairment {
        loss_ppm,
        corrupt_ppm,
        truncate_ppm,
        duplicate_ppm,
        reorder_ppm,
        ..Impairment::default()
    }
}

proptest! {
    /// Every packet of every mix is in the books, and the seed says all of it.
    #[test]
    fn every_mix_of_faults_balances_and_repeats(
        seed: u64,
        of in prop::array::uniform5(prop::sample::select(vec![0, 10_000, 300_000, 1_000_000])),
        jitter_ms in prop::sample::select(vec![0, 3]),
        rate in prop::sample::select(vec![None, Some(SUPER_RATE)]),
        segments in prop::sample::select(vec![0, TCP_SEGMENTS]),
    ) {
        let run = || {
            let impairment = Impairment { jitter: Duration::from_millis(jitter_ms), ..shares(of) };
            let counter = Counter { unsent: FRAMES, segments, ..Counter::default() };
            let (fabric, altered) = altered(seed, link_config(rate), counter, impairment);
            let ledger = forward(&fabric).clone();
            let received = fabric.endpoint(NodeIndex(1)).expect("the sink").contents.clone();
            (ledger, altered, received)
        };
        let (ledger, altered, received) = run();
        prop_assert_eq!(ledger.received, FRAMES);
        prop_assert_eq!(ledger.originated, altered.duplicated);
        prop_assert_eq!(ledger.transmitted + ledger.dropped_total(), FRAMES + altered.duplicated);
        let untouched = FRAMES - ledger.dropped_total();
        prop_assert!(altered.corrupted <= untouched && altered.truncated <= untouched);
        if of[0] == 0 {
            let all = |share: u32, counted| share != 1_000_000 || counted == untouched;
            prop_assert!(all(of[1], altered.corrupted) && all(of[2], altered.truncated));
            prop_assert!(all(of[3], altered.duplicated) && all(of[4], altered.reordered));
        }
        prop_assert_eq!(run(), (ledger, altered, received));
    }
}

/// One bit, behind the Ethernet header.
#[test]
fn a_corrupted_frame_has_one_other_bit_and_a_truncated_one_no_end() {
    let frames = || Counter { unsent: FRAMES, ..Counter::default() };
    let (corrupted, counted) =
        altered(1, link_config(None), frames(), shares([0, 500_000, 0, 0, 0]));
    let received = &corrupted.endpoint(NodeIndex(1)).expect("the sink").contents;
    let bits = |frame: &[u8]| frame.iter().map(|byte| byte.count_ones()).sum::<u32>();
    assert!(received.iter().all(|frame| frame.len() == BYTES && bits(frame) <= 1));
    assert!(received.iter().all(|frame| bits(&frame[..14]) == 0));
    let spoilt = received.iter().filter(|frame| bits(frame) == 1).count() as u64;
    assert_eq!(spoilt, counted.corrupted);
    assert!((30..=70).contains(&spoilt), "{spoilt}");

    let (truncated, counted) =
        altered(1, link_config(None), frames(), shares([0, 0, 500_000, 0, 0]));
    let received = &truncated.endpoint(NodeIndex(1)).expect("the sink").contents;
    assert!(received.iter().all(|frame| (14..=BYTES).contains(&frame.len())));
    let short = received.iter().filter(|frame| frame.len() < BYTES).count() as u64;
    assert_eq!(short, counted.truncated);
    assert!((30..=70).contains(&short), "{short}");
}

/// Its checksum was left to be completed: it is that of what was sent, not of what was spoilt.
#[test]
fn a_corrupted_segment_has_a_wrong_checksum() {
    let config = link_config(None);
    let segments = Counter { unsent: FRAMES, segments: 1, ..Counter::default() };
    let (fabric, _) = altered(1, config, segments, shares([0, 1_000_000, 0, 0, 0]));
    let received = &fabric.endpoint(NodeIndex(1)).expect("the sink").contents;
    assert_eq!(received.len() as u64, FRAMES);
    for frame in received {
        let ip = etherparse::SlicedPacket::from_ethernet(frame);
        let is_right = ip.is_ok_and(|packet| match (packet.net, packet.transport) {
            (Some(etherparse::NetSlice::Ipv4(ip)), Some(etherparse::TransportSlice::Tcp(tcp))) => {
                let header = ip.header();
                let (from, to) = (header.source(), header.destination());
                header.header_checksum() == header.to_header().calc_header_checksum()
                    && tcp.calc_checksum_ipv4(from, to).unwrap() == tcp.checksum()
            }
            _ => false,
        });
        assert!(!is_right, "{frame:?}");
    }
}

/// What is held back lets the next frame pass, and goes on alone after a while when none comes.
#[test]
fn a_reordered_frame_is_behind_the_next_or_late() {
    const APART_MS: u64 = 10;
    let run = |share: u32, count: u8, end_ms: u64| {
        let (mut fabric, link) = pair_of(Counter::default(), link_config(None));
        let sender = fabric.add_sender(link, Direction::Forward);
        let reorder = Fault::Impair(shares([0, 0, 0, 0, share]));
        fabric.break_link(link, &[Direction::Forward], reorder, OWNER);
        fabric.with_sender(sender, |sender| {
            let at = |number: u8| Instant::from_millis(APART_MS * u64::from(number));
            (0..count).for_each(|number| sender.send_at(at(number), vec![number; 60]));
        });
        fabric.run_until(Instant::from_millis(end_ms), &mut Nobody);
        let contents = &fabric.endpoint(NodeIndex(1)).expect("the sink").contents;
        let order: Vec<_> = contents.iter().map(|frame| frame[0]).collect();
        let reordered = fabric.altered().next().expect("there is a link").1.reordered;
        (order, reordered)
    };
    // DELAY, and 100 ms that none overtakes it in.
    assert_eq!(run(1_000_000, 1, 100), (vec![], 1));
    assert_eq!(run(1_000_000, 1, 101), (vec![0], 1));

    let (order, reordered) = run(500_000, 100, 2_000);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    let overtaken = |at: usize| order[..at].iter().any(|before| *before > order[at]);
    let overtaken = (0..order.len()).filter(|at| overtaken(*at)).count() as u64;
    assert!((30..=70).contains(&reordered), "{reordered}");
    // Of the last ones, none comes behind them.
    assert!((reordered - 5..=reordered).contains(&overtaken), "{overtaken} of {reordered}");
}
