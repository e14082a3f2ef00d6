//! A super-frame is its segments: whatever happens to them one by one happens to it.

use super::*;
use crate::dataplane::Traffic;
use crate::io::gso::Layout;
use crate::io::{Frame, Meta};
use crate::shaper;

/// IP and TCP headers, with 12 bytes of options.
const HEADERS: u64 = 52;
const GSO: u16 = 1448;
const FULL: u64 = HEADERS + GSO as u64;
const SEGMENTS: u64 = 40;
const WHOLE: usize = SEGMENTS as usize * GSO as usize;

const NOTHING: [u64; 0] = [];

/// A TCP packet with so much payload.
fn tcp4(source: Ipv4Addr, destination: Ipv4Addr, ttl: u8, payload_len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload_len).map(|at| (at % 251) as u8).collect();
    let repr = tcp::Repr {
        source_port: 40_000,
        destination_port: 5001,
        sequence: 1,
        acknowledgement: 1,
        flags: tcp::Flags::ACK | tcp::Flags::PSH,
        window: 1_000,
        urgent: 0,
        options: &[1; 12],
        payload_len,
    };
    let mut segment = vec![0; repr.buffer_len()];
    repr.emit(source.into(), destination.into(), &payload, &mut segment);
    ip4(source, destination, ttl, protocol::TCP, &segment)
}

/// From the customer's edge of the first circuit, to a VM.
fn to_vm(payload_len: usize) -> Vec<u8> {
    ce_frame(0, &tcp4(SITE_HOST, VM, 64, payload_len))
}

impl Rig {
    fn super_frame(&mut self, bytes: &[u8], gso_size: u16, segments: u64) -> Frame {
        let mut frame = self.pool.allocate_from(bytes).unwrap();
        frame.meta = Meta { gso_size, segments: segments as u16, vni: None };
        frame
    }

    /// Sends 40 segments, and returns the segments of each frame that leaves.
    fn send_forty(&mut self, port: PortIndex, bytes: &[u8]) -> Vec<u64> {
        let frame = self.super_frame(bytes, GSO, SEGMENTS);
        self.forwarding.receive(port, [frame], &mut self.pool, self.now);
        self.sent_segments()
    }

    fn sent_segments(&mut self) -> Vec<u64> {
        let mut segments = Vec::new();
        while let Some((_, frame)) = self.forwarding.poll_transmit() {
            if frame.meta.is_super_frame() {
                assert!(Layout::of(self.pool.bytes(&frame), frame.meta).is_some());
            }
            segments.push(frame.meta.wire_packets());
            self.pool.free(frame);
        }
        assert!(self.forwarding.ledger().holds());
        segments
    }

    fn limit_ce(&mut self, parameters: [LimiterParameters; 2]) {
        let ce = AttachmentEntry { ingress_limiters: vec![IN], ..ce_entry(0) };
        let core = AttachmentEntry { egress_limiters: vec![OUT], ..core_entry(0) };
        let [inward, outward] = parameters.map(Some);
        self.apply(&[
            Change::Limiter { index: IN, parameters: inward },
            Change::Limiter { index: OUT, parameters: outward },
            attachment(CE[0], ce),
            attachment(CORE[0], core),
        ]);
    }
}

/// A bucket that has tokens for so many tenths of a full segment, and gets no more of note.
const fn tokens(tenths: u64) -> LimiterParameters {
    LimiterParameters { rate: Bandwidth::from_mbps(1), depth_bytes: FULL * tenths / 10 }
}

const PLENTY: LimiterParameters = tokens(10_000);

#[test]
fn what_conforms_goes_on_and_the_surplus_is_counted_in_segments() {
    let mut rig = Rig::new();
    rig.limit_ce([tokens(175), PLENTY]);
    assert_eq!(rig.send_forty(CE_PORT, &to_vm(WHOLE)), [17]);
    assert_eq!(rig.dropped(DropReason::RateLimited), 23);
    assert_eq!(rig.forwarding.ledger().received, 40);
    let ce = rig.forwarding.counters(CE[0]);
    assert_eq!(ce.received, Traffic { packets: 40, bytes: 40 * FULL });
    assert_eq!(ce.dropped[DropReason::RateLimited as usize], 23);
    let core = rig.forwarding.counters(CORE[0]);
    assert_eq!(core.transmitted, Traffic { packets: 17, bytes: 17 * FULL });
    let counters = shaper::Counters {
        conforming_packets: 17,
        conforming_bytes: 17 * FULL,
        surplus_packets: 23,
        surplus_bytes: 23 * FULL,
    };
    assert_eq!(rig.forwarding.limiter_counters(IN), Some(counters));
    // Nothing is left for another.
    assert_eq!(rig.send_forty(CE_PORT, &to_vm(WHOLE)), NOTHING);
    assert_eq!(rig.dropped(DropReason::RateLimited), 63);
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn of_what_ingress_let_pass_egress_takes_what_it_can_without_refund() {
    let mut rig = Rig::new();
    rig.limit_ce([tokens(300), tokens(10)]);
    assert_eq!(rig.send_forty(CE_PORT, &to_vm(WHOLE)), [1]);
    let counters = |rig: &Rig, limiter| {
        let counters = rig.forwarding.limiter_counters(limiter).unwrap();
        (counters.conforming_packets, counters.surplus_packets)
    };
    assert_eq!(counters(&rig, IN), (30, 10));
    assert_eq!(counters(&rig, OUT), (1, 29));
    assert_eq!(rig.dropped(DropReason::RateLimited), 39);
}

#[test]
fn a_short_last_segment_fits_where_a_full_one_does_not() {
    for (tenths, parts) in [(175, vec![17, 1]), (5, vec![1]), (2, vec![]), (395, vec![40])] {
        let mut rig = Rig::new();
        rig.limit_ce([tokens(tenths), PLENTY]);
        // The last has 400 bytes.
        let sent = rig.send_forty(CE_PORT, &to_vm(WHOLE - GSO as usize + 348));
        assert_eq!(sent, parts, "{tenths}");
        let passed: u64 = parts.iter().sum();
        assert_eq!(rig.dropped(DropReason::RateLimited), 40 - passed);
        let full = passed.saturating_sub(1);
        let bytes = if passed > 0 { full * FULL + 400 } else { 0 };
        let counters = rig.forwarding.counters(CORE[0]);
        assert_eq!(counters.transmitted, Traffic { packets: passed, bytes });
        assert_eq!(rig.forwarding.counters(CE[0]).received.bytes, 39 * FULL + 400);
        assert_eq!(rig.pool.in_use(), 0);
    }
}

#[test]
fn who_takes_what_is_dropped_gets_the_very_segments() {
    let mut rig = Rig::new();
    rig.limit_ce([tokens(175), PLENTY]);
    rig.forwarding.keep_dropped(true);
    let whole = to_vm(WHOLE);
    let payload = &whole[whole.len() - WHOLE..];
    // Some and the last, then all.
    for parts in [&[(17, 39), (39, 40)][..], &[(0, 40)]] {
        rig.send_forty(CE_PORT, &whole);
        let dropped = rig.forwarding.take_dropped();
        assert_eq!(dropped.len(), parts.len());
        for ((frame, reason), &(from, to)) in dropped.into_iter().zip(parts) {
            assert_eq!(reason, DropReason::RateLimited);
            assert_eq!(frame.meta.wire_packets(), (to - from) as u64);
            let segments = &payload[from * GSO as usize..to * GSO as usize];
            assert!(rig.pool.bytes(&frame).ends_with(segments));
            rig.pool.free(frame);
        }
        assert_eq!(rig.pool.in_use(), 0);
    }
    rig.forwarding.keep_dropped(false);
    rig.send_forty(CE_PORT, &whole);
    assert!(rig.forwarding.take_dropped().is_empty());
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn a_segment_that_no_frame_is_free_for_is_counted() {
    let mut rig = Rig::new();
    let mtu = |entry: AttachmentEntry| AttachmentEntry { mtu: 9_200, ..entry };
    let limited = AttachmentEntry { ingress_limiters: vec![IN], ..mtu(ce_entry(0)) };
    rig.apply(&[
        Change::Limiter { index: IN, parameters: Some(tokens(100)) },
        attachment(CE[0], limited),
        attachment(CORE[0], mtu(core_entry(0))),
    ]);
    let frame = rig.super_frame(&to_vm(23_000), 9_000, 3);
    let hogged: Vec<_> = std::iter::from_fn(|| rig.pool.allocate(9_000)).collect();
    rig.forwarding.receive(CE_PORT, [frame], &mut rig.pool, rig.now);
    assert_eq!(rig.sent_segments(), [1]);
    assert_eq!(rig.dropped(DropReason::RateLimited), 1);
    assert_eq!(rig.dropped(DropReason::NoBuffer), 1);
    for frame in hogged {
        rig.pool.free(frame);
    }
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn the_mtu_is_held_against_the_segments() {
    let mut rig = Rig::new();
    assert_eq!(rig.send_forty(CE_PORT, &to_vm(WHOLE)), [40]);
    // One byte more in each, and each is told of.
    let frame = rig.super_frame(&to_vm(WHOLE + 40), GSO + 1, 40);
    rig.forwarding.receive(CE_PORT, [frame], &mut rig.pool, rig.now);
    assert_eq!(rig.sent_segments(), NOTHING);
    let punts = rig.punts();
    assert_eq!(punts.len(), 40);
    for punted in punts {
        assert_eq!(punted.class, PuntClass::TooLarge { mtu: 1500 });
        assert_eq!(punted.packet.len(), 1501);
    }
    // Cross-connects drop without a word.
    let bytes = framed(mac(1, 1), mac(2, 2), &[10], ethertype::IPV4, &tcp4(VM, VM, 9, WHOLE));
    assert_eq!(rig.send_forty(LEFT_PORT, &bytes), [40]);
    let larger = tcp4(VM, VM, 9, WHOLE + 40);
    let bytes = framed(mac(1, 1), mac(2, 2), &[10], ethertype::IPV4, &larger);
    let frame = rig.super_frame(&bytes, GSO + 1, 40);
    rig.forwarding.receive(LEFT_PORT, [frame], &mut rig.pool, rig.now);
    assert_eq!(rig.sent_segments(), NOTHING);
    assert_eq!(rig.dropped(DropReason::TooLarge), 40);
}

#[test]
fn every_segment_runs_out_of_time_to_live() {
    let mut rig = Rig::new();
    let bytes = ce_frame(0, &tcp4(SITE_HOST, VM, 1, WHOLE));
    assert_eq!(rig.send_forty(CE_PORT, &bytes), NOTHING);
    assert_eq!(rig.punts().len(), 40);
    // Of 40 more, those above the limit of errors are lost for the same reason.
    assert_eq!(rig.send_forty(CE_PORT, &bytes), NOTHING);
    assert_eq!(rig.punts().len(), 10);
    assert_eq!(rig.dropped(DropReason::TtlExpired), 30);
    rig.apply(&[attachment(CE[0], AttachmentEntry { answers_icmp: false, ..ce_entry(0) })]);
    assert_eq!(rig.send_forty(CE_PORT, &bytes), NOTHING);
    assert_eq!(rig.dropped(DropReason::TtlExpired), 70);
}

#[test]
fn the_router_itself_gets_ordinary_segments() {
    let mut rig = Rig::new();
    let bytes = ce_frame(0, &tcp4(CE_PEER, OURS, 1, WHOLE));
    assert_eq!(rig.send_forty(CE_PORT, &bytes), NOTHING);
    assert_eq!(rig.forwarding.ledger().consumed, 40);
    let punts = rig.punts();
    assert_eq!(punts.len(), 40);
    for (at, punted) in punts.iter().enumerate() {
        assert_eq!(punted.class, PuntClass::Tcp);
        let packet = ipv4::View::new(&punted.packet).unwrap();
        assert!(packet.verify_checksum());
        let segment = tcp::View::new(packet.payload()).unwrap();
        assert!(segment.verify_checksum(CE_PEER.into(), OURS.into()));
        assert_eq!(segment.sequence(), 1 + at as u32 * u32::from(GSO));
    }
    // Nor does who waits for a MAC.
    rig.apply(&[Change::Neighbor { attachment: CE[0], address: CE_PEER.into(), mac: None }]);
    let from_core = tcp4(VM, SITE_HOST, 64, WHOLE);
    let bytes = frame(port_mac(CORE_PORT), mac(GATEWAY_MACS[0], 0), &[], &from_core);
    let mut frame = rig.super_frame(&bytes, GSO, SEGMENTS);
    frame.meta.vni = Some(1000);
    rig.forwarding.receive(CORE_PORT, [frame], &mut rig.pool, rig.now);
    let punts = rig.punts();
    assert_eq!(punts.len(), 40);
    for punted in punts {
        assert!(matches!(punted.class, PuntClass::Glean { .. }));
        let packet = ipv4::View::new(&punted.packet).unwrap();
        assert_eq!((packet.ttl(), packet.total_len() as u64), (63, FULL));
    }
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn a_frame_that_is_not_what_its_meta_says_is_malformed() {
    let udp = ce_frame(0, &udp4(SITE_HOST, VM, 64, 1, 2_000));
    let cross = framed(mac(1, 1), mac(2, 2), &[10], ethertype::IPV4, &tcp4(VM, VM, 9, 2_000));
    let lies = [
        (CE_PORT, to_vm(WHOLE), GSO, 39),
        (CE_PORT, to_vm(WHOLE), GSO, 41),
        (CE_PORT, to_vm(WHOLE), 0, 40),
        (CE_PORT, udp, GSO, 3),
        (LEFT_PORT, cross, GSO, 3),
    ];
    for (port, bytes, gso_size, segments) in lies {
        let mut rig = Rig::new();
        let frame = rig.super_frame(&bytes, gso_size, segments);
        rig.forwarding.receive(port, [frame], &mut rig.pool, rig.now);
        assert_eq!(rig.sent_segments(), NOTHING);
        assert_eq!(rig.dropped(DropReason::Malformed), segments);
        assert_eq!(rig.pool.in_use(), 0);
    }
}

/// What a host sends at once.
#[derive(Clone, Debug)]
struct Burst {
    after_us: u64,
    /// Over the cross-connect.
    across: bool,
    payload_len: usize,
    gso_size: u16,
}

fn burst() -> impl Strategy<Value = Burst> {
    let payload = prop_oneof![1..3_000_usize, 1..60_000_usize];
    (0..20_000_u64, any::<bool>(), payload, 200..=GSO).prop_map(
        |(after_us, across, payload_len, gso_size)| Burst {
            after_us,
            across,
            payload_len,
            gso_size,
        },
    )
}

/// All that a router does with some bursts.
#[derive(PartialEq, Debug)]
struct Outcome {
    /// Every segment, in the order they leave.
    segments: Vec<(PortIndex, Vec<u8>)>,
    limiters: [Option<shaper::Counters>; 2],
    dropped: Vec<u64>,
    received: [Traffic; 2],
    transmitted: [Traffic; 2],
}

fn outcome(bursts: &[Burst], limiters: [LimiterParameters; 2], whole: bool) -> Outcome {
    let mut rig = Rig::new();
    rig.limit_ce(limiters);
    let left = entry(LEFT_PORT, Encapsulation::Dot1q(vlan(10)), InnerService::CrossConnect(RIGHT));
    rig.apply(&[attachment(LEFT, AttachmentEntry { ingress_limiters: vec![OUT], ..left })]);
    let mut segments = Vec::new();
    for burst in bursts {
        rig.now += Duration::from_micros(burst.after_us);
        let packet = tcp4(SITE_HOST, VM, 64, burst.payload_len);
        let (port, bytes) = if burst.across {
            (LEFT_PORT, framed(mac(1, 1), mac(2, 2), &[10], ethertype::IPV4, &packet))
        } else {
            (CE_PORT, ce_frame(0, &packet))
        };
        let count = burst.payload_len.div_ceil(burst.gso_size as usize) as u64;
        let frame = rig.super_frame(&bytes, burst.gso_size, count);
        let frames = match Layout::of(rig.pool.bytes(&frame), frame.meta) {
            Some(layout) if !whole => layout.segment(frame, &mut rig.pool).frames,
            Some(_) | None => vec![frame],
        };
        rig.forwarding.receive(port, frames, &mut rig.pool, rig.now);
        while let Some((port, frame)) = rig.forwarding.poll_transmit() {
            let frames = match Layout::of(rig.pool.bytes(&frame), frame.meta) {
                Some(layout) => layout.segment(frame, &mut rig.pool).frames,
                None => vec![frame],
            };
            for frame in frames {
                segments.push((port, rig.pool.bytes(&frame).to_vec()));
                rig.pool.free(frame);
            }
        }
    }
    assert!(rig.forwarding.ledger().holds());
    assert_eq!(rig.pool.in_use(), 0);
    Outcome {
        segments,
        limiters: [IN, OUT].map(|limiter| rig.forwarding.limiter_counters(limiter)),
        dropped: rig.forwarding.ledger().dropped.to_vec(),
        received: [CE[0], LEFT].map(|at| rig.forwarding.counters(at).received),
        transmitted: [CORE[0], RIGHT].map(|at| rig.forwarding.counters(at).transmitted),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The same bytes leave, and every book is the same, whether a host sends super-frames or cuts
    /// them itself; one limiter is met alone, the other behind it and by another attachment.
    #[test]
    fn super_frames_are_treated_as_their_segments(
        bursts in prop::collection::vec(burst(), 1..12),
        mbps: [u8; 2],
        tenths in (1..400_u64, 1..400_u64),
    ) {
        let limiters = [(mbps[0], tenths.0), (mbps[1], tenths.1)].map(|(mbps, tenths)| {
            LimiterParameters { rate: Bandwidth::from_mbps(mbps.into()), ..tokens(tenths) }
        });
        prop_assert_eq!(outcome(&bursts, limiters, true), outcome(&bursts, limiters, false));
    }
}
