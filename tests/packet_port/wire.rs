//! What leaves one port is what arrives at another, byte for byte.

use std::time::Duration;

use etherparse::{PacketBuilder, VlanId};
use msee::io::gso::Layout;
use msee::io::packet::{Mode, PacketPort};
use msee::io::{Frame, Frames, Port};
use msee::model::Instant;
use msee::sys::clock;
use msee::sys::packet::Interface;
use msee::wire::vlan::Tags;

use crate::namespaces::{isolated, run, veth};
use crate::relay::{now, open};

/// How long nothing has to come before a test believes that nothing will.
const PATIENCE: Duration = Duration::from_secs(2);

/// Ports at the ends of a veth pair whose frames have room for two tags.
fn pair([first, second]: [Mode; 2]) -> ([PacketPort; 2], Frames) {
    veth(["p0", "p1"], 1508);
    ([open("p0", first), open("p1", second)], Frames::new())
}

pub fn send(port: &mut PacketPort, bytes: &[u8], frames: &mut Frames) {
    let frame = frames.allocate_from(bytes).unwrap();
    port.transmit(frame, frames);
    port.flush(frames);
}

/// Receives until there are `count` frames, or nothing has come for long.
pub fn receive(port: &mut PacketPort, count: usize, frames: &mut Frames) -> Vec<Frame> {
    let mut received = Vec::new();
    let mut patience_ends = clock::monotonic() + PATIENCE;
    while received.len() < count && clock::monotonic() < patience_ends {
        let before = received.len();
        port.receive(64, &mut received, frames, now());
        if received.len() > before {
            patience_ends = clock::monotonic() + PATIENCE;
        }
    }
    received
}

pub fn bytes_of(received: Vec<Frame>, frames: &mut Frames) -> Vec<Vec<u8>> {
    let bytes = received.iter().map(|frame| frames.bytes(frame).to_vec()).collect();
    for frame in received {
        frames.free(frame);
    }
    bytes
}

/// An Ethernet frame with these tags, each TPID and control information, and so much payload.
fn tagged(tags: &[(u16, u16)], ethertype: u16, payload_len: usize) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    for (tpid, control) in tags {
        bytes.extend(tpid.to_be_bytes());
        bytes.extend(control.to_be_bytes());
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend((0..payload_len).map(|at| at as u8));
    bytes
}

#[test]
fn tags_come_back_as_they_were() {
    isolated("wire::tags_come_back_as_they_were", || {
        let (mut ends, mut frames) = pair([Mode::VnetHdr; 2]);
        let tag_sets: [&[(u16, u16)]; 8] = [
            &[],
            &[(0x8100, 100)],
            &[(0x88a8, 100)],
            // Priority tag: the whole control information is zero.
            &[(0x8100, 0)],
            // Priority 7, drop eligible, id 4095.
            &[(0x8100, 0xffff)],
            &[(0x8100, 2101), (0x8100, 100)],
            &[(0x88a8, 2101), (0x8100, 100)],
            &[(0x8100, 2101), (0x88a8, 0)],
        ];
        let mut sent = Vec::new();
        for tags in tag_sets {
            for payload_len in [46, 100, 1500] {
                sent.push(tagged(tags, 0x88b5, payload_len));
            }
        }
        for direction in 0..2 {
            let [from, to] = ends.get_disjoint_mut([direction, 1 - direction]).unwrap();
            for bytes in &sent {
                send(from, bytes, &mut frames);
            }
            let received = receive(to, sent.len(), &mut frames);
            assert_eq!(bytes_of(received, &mut frames), sent);
            let count = sent.len() as u64;
            assert_eq!(from.counters().transmitted, count);
            assert_eq!(to.counters().received, count);
        }
        assert_eq!(frames.in_use(), 0);
    });
}

/// A UDP datagram in IPv4 behind tags, complete.
fn datagram(tags: &[u16], destination_port: u16, payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let id = |id: u16| VlanId::try_new(id).unwrap();
    let mut bytes = Vec::new();
    let (from, to) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let ip = match *tags {
        [] => ethernet.ipv4(from, to, 64),
        [outer] => ethernet.single_vlan(id(outer)).ipv4(from, to, 64),
        [outer, inner] => ethernet.double_vlan(id(outer), id(inner)).ipv4(from, to, 64),
        _ => panic!("two tags at most"),
    };
    ip.udp(50_000, destination_port).write(&mut bytes, payload).unwrap();
    bytes
}

/// A super-frame of UDP, or a single datagram, whose checksum is partial.
fn partial_udp(tags: &[u16], payload: &[u8], gso_size: u16, frames: &mut Frames) -> Frame {
    let mut frame = frames.allocate_from(&datagram(tags, 5001, payload)).unwrap();
    let layout = Layout::measure(frames.bytes(&frame), gso_size).unwrap();
    layout.make_partial(&mut frame, frames);
    if layout.segments() > 1 {
        (frame.meta.gso_size, frame.meta.segments) = (gso_size, layout.segments() as u16);
    }
    frame
}

#[test]
fn partial_checksums_and_super_frames_arrive_as_they_left() {
    isolated("wire::partial_checksums_and_super_frames_arrive_as_they_left", || {
        let ([mut from, mut to], mut frames) = pair([Mode::VnetHdr; 2]);
        for tags in [&[][..], &[100], &[2101, 100]] {
            for payload_len in [1, 1000, 10_000, 60_000] {
                let sent = partial_udp(tags, &vec![7; payload_len], 1000, &mut frames);
                let bytes = frames.bytes(&sent).to_vec();
                let (meta, partial) = (sent.meta, sent.partial_checksum());
                from.transmit(sent, &mut frames);
                from.flush(&mut frames);
                let [frame] = receive(&mut to, 1, &mut frames).try_into().unwrap();
                assert!(frames.bytes(&frame) == bytes, "{tags:?} {payload_len}");
                assert_eq!((frame.meta, frame.partial_checksum()), (meta, partial));
                frames.free(frame);
            }
        }
        // 1, 1, 10 and 60 on the wire each time.
        let packets = 3 * 72;
        assert_eq!(from.counters().transmitted, packets);
        assert_eq!(to.counters().received, packets);
        assert_eq!(frames.in_use(), 0);
    });
}

#[test]
fn an_attached_port_sends_ordinary_frames_with_complete_checksums() {
    isolated("wire::an_attached_port_sends_ordinary_frames_with_complete_checksums", || {
        let ([mut from, mut to], mut frames) = pair([Mode::Attached, Mode::VnetHdr]);
        let payload: Vec<u8> = (0..10_300).map(|at| at as u8).collect();
        for tags in [&[][..], &[100], &[2101, 100]] {
            let single = partial_udp(tags, &payload[..1000], 1000, &mut frames);
            from.transmit(single, &mut frames);
            let many = partial_udp(tags, &payload, 1000, &mut frames);
            from.transmit(many, &mut frames);
            from.flush(&mut frames);
            let received = receive(&mut to, 12, &mut frames);
            let ordinary =
                |frame: &Frame| frame.partial_checksum().is_none() && !frame.meta.is_super_frame();
            assert!(received.iter().all(ordinary));
            let chunks = payload.chunks(1000).enumerate();
            let segments = chunks.map(|(at, chunk)| numbered(datagram(tags, 5001, chunk), at));
            let expected: Vec<_> =
                [datagram(tags, 5001, &payload[..1000])].into_iter().chain(segments).collect();
            assert_eq!(bytes_of(received, &mut frames), expected);
        }
        assert_eq!(frames.in_use(), 0);
    });
}

/// The same datagram with an IPv4 identification.
fn numbered(mut frame: Vec<u8>, identification: usize) -> Vec<u8> {
    let ip = Tags::parse(&frame).unwrap().payload_offset;
    let (mut header, _) = etherparse::Ipv4Header::from_slice(&frame[ip..]).unwrap();
    header.identification = identification as u16;
    header.header_checksum = header.calc_header_checksum();
    frame[ip..ip + 20].copy_from_slice(&header.to_bytes());
    frame
}

#[test]
fn control_overtakes_a_flood_and_nothing_comes_twice() {
    isolated("wire::control_overtakes_a_flood_and_nothing_comes_twice", || {
        let ([mut from, mut to], mut frames) = pair([Mode::VnetHdr; 2]);
        for _ in 0..500 {
            send(&mut from, &datagram(&[100], 9, &[0; 18]), &mut frames);
        }
        let arp = tagged(&[(0x8100, 2101), (0x8100, 100)], 0x0806, 46);
        let control = [
            datagram(&[], 3784, &[0; 24]),
            datagram(&[100], 3784, &[0; 24]),
            datagram(&[2101, 100], 3785, &[0; 24]),
            arp.clone(),
        ];
        for bytes in [&control[3], &control[0], &control[1], &control[2]] {
            send(&mut from, bytes, &mut frames);
        }
        let mut first = Vec::new();
        to.receive(64, &mut first, &mut frames, now());
        assert_eq!(first.len(), 64);
        let rest = first.split_off(4);
        assert_eq!(bytes_of(first, &mut frames), control);
        let others = receive(&mut to, 600, &mut frames);
        assert_eq!(rest.len() + others.len(), 500);
        for frame in rest.into_iter().chain(others) {
            frames.free(frame);
        }

        // Nor does a flood of control starve the rest.
        for _ in 0..200 {
            send(&mut from, &arp, &mut frames);
            send(&mut from, &datagram(&[], 9, &[0; 18]), &mut frames);
        }
        let mut batch = Vec::new();
        to.receive(64, &mut batch, &mut frames, now());
        let is_control = |frame: &&Frame| frames.bytes(frame) == arp;
        assert_eq!((batch.len(), batch.iter().filter(is_control).count()), (64, 16));
    });
}

/// A port outlives the fabric that reads it, and so its clock.
#[test]
fn control_comes_also_where_time_has_begun_anew() {
    isolated("wire::control_comes_also_where_time_has_begun_anew", || {
        veth(["p0", "p1"], 1508);
        let (mut frames, mut received) = (Frames::new(), Vec::new());
        let [mut from, mut to] = ["p0", "p1"].map(|name| open(name, Mode::VnetHdr));
        for (count, now) in [(1, Duration::from_mins(1)), (2, Duration::ZERO)] {
            send(&mut from, &tagged(&[], 0x0806, 46), &mut frames);
            to.receive(64, &mut received, &mut frames, Instant::ZERO + now);
            assert_eq!(received.len(), count);
        }
    });
}

/// Long frames, which no slot of the ring holds, come in their places among the others.
#[test]
fn order_is_kept_around_the_ring() {
    isolated("wire::order_is_kept_around_the_ring", || {
        veth(["p0", "p1"], 4_000);
        let mut frames = Frames::new();
        let [mut from, mut to] = ["p0", "p1"].map(|name| open(name, Mode::VnetHdr));
        for round in 0..100 {
            let lengths = (0..60).map(|at| if (at + round) % 7 == 0 { 3_500 } else { 46 + at });
            let sent: Vec<_> = lengths.map(|length| tagged(&[], 0x88b5, length)).collect();
            for bytes in &sent {
                send(&mut from, bytes, &mut frames);
            }
            let received = receive(&mut to, sent.len(), &mut frames);
            assert!(bytes_of(received, &mut frames) == sent, "round {round}");
        }
        let counters = to.counters();
        assert_eq!((counters.received, counters.kernel_dropped), (6_000, 0));
    });
}

#[test]
fn what_the_ring_has_no_room_for_is_counted() {
    isolated("wire::what_the_ring_has_no_room_for_is_counted", || {
        const SENT: usize = 5_000;
        veth(["p0", "p1"], 4_000);
        let mut frames = Frames::new();
        let [mut from, mut to] = ["p0", "p1"].map(|name| open(name, Mode::VnetHdr));
        for length in [46, 3_500] {
            let before = to.counters();
            for _ in 0..SENT {
                send(&mut from, &tagged(&[], 0x88b5, length), &mut frames);
            }
            let received = receive(&mut to, SENT, &mut frames);
            let count = bytes_of(received, &mut frames).len();
            assert!((1..SENT).contains(&count), "{count} of {length} bytes");
            let dropped = to.counters().kernel_dropped - before.kernel_dropped;
            assert_eq!(count as u64 + dropped, SENT as u64, "{length} bytes");
        }
        send(&mut from, &tagged(&[], 0x88b5, 3_500), &mut frames);
        assert_eq!(receive(&mut to, 1, &mut frames).len(), 1);
    });
}

/// More ARP than any queue holds, before what must not be lost by it.
#[test]
fn a_storm_of_arp_loses_no_bfd_and_no_bgp() {
    isolated("wire::a_storm_of_arp_loses_no_bfd_and_no_bgp", || {
        let ([mut from, mut to], mut frames) = pair([Mode::VnetHdr; 2]);
        for _ in 0..20_000 {
            send(&mut from, &tagged(&[(0x8100, 100)], 0x0806, 1400), &mut frames);
        }
        assert!(to.counters().kernel_dropped > 0);
        let mut bgp = Vec::new();
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let segment = ethernet.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 1).tcp(40_000, 179, 1, 100);
        segment.write(&mut bgp, &[]).unwrap();
        let kept = [datagram(&[100], 3784, &[0; 24]), bgp];
        for bytes in kept.iter().rev() {
            send(&mut from, bytes, &mut frames);
        }
        let mut first = Vec::new();
        to.receive(64, &mut first, &mut frames, now());
        assert_eq!(bytes_of(first, &mut frames)[..2], kept);
    });
}

/// A router's BGP checks checksums, and the kernel of a customer's edge leaves them to others.
#[test]
fn control_is_complete() {
    isolated("wire::control_is_complete", || {
        let ([mut from, mut to], mut frames) = pair([Mode::VnetHdr; 2]);
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let mut whole = Vec::new();
        let tcp = ethernet.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 1).tcp(179, 40_000, 1, 100);
        tcp.write(&mut whole, &[5; 3000]).unwrap();
        let mut frame = frames.allocate_from(&whole).unwrap();
        let layout = Layout::measure(frames.bytes(&frame), 1400).unwrap();
        layout.make_partial(&mut frame, &mut frames);
        (frame.meta.gso_size, frame.meta.segments) = (1400, 3);
        from.transmit(frame, &mut frames);
        from.flush(&mut frames);
        let received = receive(&mut to, 3, &mut frames);
        assert_eq!((received.len(), to.counters().received), (3, 3));
        for bytes in bytes_of(received, &mut frames) {
            let sliced = etherparse::SlicedPacket::from_ethernet(&bytes).unwrap();
            let Some(etherparse::TransportSlice::Tcp(segment)) = sliced.transport else { panic!() };
            let checksum = segment
                .to_header()
                .calc_checksum_ipv4_raw([10, 0, 0, 1], [10, 0, 0, 2], segment.payload())
                .unwrap();
            assert_eq!(segment.checksum(), checksum);
        }
    });
}

#[test]
fn what_the_kernel_drops_is_counted() {
    // More than twice what the queue holds.
    const SENT: u64 = 20_000;
    isolated("wire::what_the_kernel_drops_is_counted", || {
        let ([mut from, mut to], mut frames) = pair([Mode::VnetHdr; 2]);
        let bytes = tagged(&[], 0x88b5, 1400);
        for _ in 0..SENT {
            send(&mut from, &bytes, &mut frames);
        }
        let received = receive(&mut to, SENT as usize, &mut frames);
        let (here, there) = (from.counters(), to.counters());
        assert_eq!(there.received, received.len() as u64);
        assert!(there.kernel_dropped > 0, "{there:?}");
        assert_eq!(here.transmitted, SENT);
        assert_eq!(there.received + there.kernel_dropped, SENT);
        assert_eq!(to.counters(), there, "counted once");
    });
}

#[test]
fn what_the_host_does_not_take_is_counted_in_packets() {
    isolated("wire::what_the_host_does_not_take_is_counted_in_packets", || {
        veth(["p0", "p1"], 1500);
        let mut frames = Frames::new();
        let mut port = open("p0", Mode::VnetHdr);
        // Longer than the MTU, between two that are not.
        for payload_len in [100, 1600, 100] {
            let frame = frames.allocate_from(&tagged(&[], 0x88b5, payload_len)).unwrap();
            port.transmit(frame, &mut frames);
        }
        port.flush(&mut frames);
        assert_eq!((port.counters().transmitted, port.counters().transmit_dropped), (2, 1));
        // A super-frame that is not what it says.
        let mut lie = frames.allocate_from(&tagged(&[], 0x88b5, 3000)).unwrap();
        (lie.meta.gso_size, lie.meta.segments) = (1000, 3);
        port.transmit(lie, &mut frames);
        port.flush(&mut frames);
        assert_eq!(port.counters().transmit_dropped, 4);

        run("ip", "link del p0");
        send(&mut port, &tagged(&[], 0x88b5, 100), &mut frames);
        assert_eq!(port.counters().transmit_dropped, 5);
        assert!(receive(&mut port, 1, &mut frames).is_empty());
        assert_eq!(frames.in_use(), 0);
        let gone = Interface::by_name("p0").unwrap_err().to_string();
        assert!(gone.contains("`p0`") && gone.contains("ip link"), "{gone}");
    });
}
