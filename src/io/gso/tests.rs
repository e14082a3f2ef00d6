//! Super-frames against what etherparse builds for each segment.

use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header, PacketBuilder,
    TcpHeader, VlanId,
};
use proptest::prelude::*;

use super::*;
use crate::wire::vlan;

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
const IDENTIFICATION: u16 = 0xffff;
const SEQUENCE: u32 = 0xffff_fffa;

/// What a test varies.
#[derive(Clone, Debug)]
struct Shape {
    tags: usize,
    is_ipv4: bool,
    transport: Transport,
    /// Whether the checksum of the whole is the sum of the pseudo-header only.
    is_partial: bool,
    options: Vec<u8>,
    payload: Vec<u8>,
    gso_size: u16,
}

/// Which end of the whole a packet is: what its flags depend on.
#[derive(Clone, Copy)]
struct Ends {
    first: bool,
    last: bool,
}

/// A frame as etherparse makes it: `at` bytes into the payload of the whole.
fn frame_of(shape: &Shape, segment: u16, at: usize, payload: &[u8], ends: Ends) -> Vec<u8> {
    let mut tcp = TcpHeader::new(40_000, 5001, SEQUENCE.wrapping_add(at as u32), 4_096);
    tcp.acknowledgment_number = 77;
    (tcp.ack, tcp.ece) = (true, true);
    (tcp.cwr, tcp.psh, tcp.fin) = (ends.first, ends.last, ends.last);
    tcp.set_options_raw(&shape.options).unwrap();
    let number = IpNumber(shape.transport.protocol());
    let ip = if shape.is_ipv4 {
        let addresses = ([10, 1, 0, 10], [10, 2, 0, 4]);
        let mut header = Ipv4Header::new(0, 63, number, addresses.0, addresses.1).unwrap();
        header.identification = IDENTIFICATION.wrapping_add(segment);
        IpHeaders::Ipv4(header, Ipv4Extensions::default())
    } else {
        let (mut source, mut destination) = ([0; 16], [0; 16]);
        (source[0], source[15], destination[0]) = (0xfd, 1, 0xfd);
        let header = Ipv6Header {
            flow_label: 0x12345.try_into().unwrap(),
            traffic_class: 0x2e << 2,
            hop_limit: 63,
            next_header: number,
            source,
            destination,
            ..Ipv6Header::default()
        };
        IpHeaders::Ipv6(header, Ipv6Extensions::default())
    };
    let mut bytes = Vec::new();
    let vlan = |id: u16| VlanId::try_new(id).unwrap();
    let ethernet = PacketBuilder::ethernet2(MACS.1, MACS.0);
    let ip = match shape.tags {
        0 => ethernet.ip(ip),
        1 => ethernet.single_vlan(vlan(100)).ip(ip),
        _ => ethernet.double_vlan(vlan(101), vlan(100)).ip(ip),
    };
    match shape.transport {
        Transport::Tcp => ip.tcp_header(tcp).write(&mut bytes, payload).unwrap(),
        Transport::Udp => ip.udp(40_000, 5001).write(&mut bytes, payload).unwrap(),
    }
    bytes
}

fn whole(shape: &Shape) -> Vec<u8> {
    frame_of(shape, 0, 0, &shape.payload, Ends { first: true, last: true })
}

/// What the segments are to be.
fn expected(shape: &Shape) -> Vec<Vec<u8>> {
    let size = shape.gso_size as usize;
    let count = shape.payload.len().div_ceil(size);
    let chunks = shape.payload.chunks(size).enumerate();
    chunks
        .map(|(at, payload)| {
            let ends = Ends { first: at == 0, last: at == count - 1 };
            frame_of(shape, at as u16, at * size, payload, ends)
        })
        .collect()
}

fn super_frame(shape: &Shape, frames: &mut Frames) -> (Frame, Layout) {
    let mut frame = frames.allocate_from(&whole(shape)).unwrap();
    frame.meta.gso_size = shape.gso_size;
    frame.meta.segments = shape.payload.len().div_ceil(shape.gso_size as usize) as u16;
    frame.meta.vni = Some(7);
    let layout = Layout::of(frames.bytes(&frame), frame.meta).unwrap();
    if shape.is_partial {
        layout.make_partial(&mut frame, frames);
    }
    (frame, layout)
}

/// The checksum field is the sum of the pseudo-header with the frame's own length, as etherparse
/// adds it up.
fn assert_partial_is_its_own(frame: &Frame, frames: &Frames) {
    let Some(PartialChecksum { start, offset }) = frame.partial_checksum() else { return };
    let bytes = frames.bytes(frame);
    let sliced = etherparse::SlicedPacket::from_ethernet(bytes).unwrap();
    let length = (bytes.len() - start) as u16;
    let sum = match sliced.net.unwrap() {
        etherparse::NetSlice::Ipv4(ip) => etherparse::checksum::Sum16BitWords::new()
            .add_4bytes(ip.header().source())
            .add_4bytes(ip.header().destination())
            .add_2bytes([0, bytes[start - 11]]),
        etherparse::NetSlice::Ipv6(ip) => etherparse::checksum::Sum16BitWords::new()
            .add_16bytes(ip.header().source())
            .add_16bytes(ip.header().destination())
            .add_2bytes([0, bytes[start - 34]]),
        etherparse::NetSlice::Arp(_) => unreachable!("an IP packet"),
    };
    let sum = !sum.add_2bytes(length.to_be_bytes()).ones_complement().to_be();
    assert_eq!(u16::from_be_bytes([bytes[start + offset], bytes[start + offset + 1]]), sum);
}

/// Bytes of a frame's segments, complete; the frame may be an ordinary one.
fn segments_of(frame: Frame, frames: &mut Frames) -> Vec<Vec<u8>> {
    assert_partial_is_its_own(&frame, frames);
    let parts = match Layout::of(frames.bytes(&frame), frame.meta) {
        Some(layout) => layout.segment(frame, frames).frames,
        None => vec![frame],
    };
    let mut bytes = Vec::new();
    for mut part in parts {
        assert_partial_is_its_own(&part, frames);
        complete_checksum(&mut part, frames);
        bytes.push(frames.bytes(&part).to_vec());
        assert_eq!(part.meta, Meta { gso_size: 0, segments: 0, vni: Some(7) });
        frames.free(part);
    }
    bytes
}

fn shape() -> impl Strategy<Value = Shape> {
    let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)];
    let payload = prop::collection::vec(any::<u8>(), 2..3_000);
    let options = (0..=10_usize).prop_map(|words| vec![1; words * 4]);
    let kind = (0..3_usize, any::<bool>(), transport, any::<bool>());
    (kind, options, payload, 1..1_461_u16).prop_map(|(kind, options, payload, gso_size)| {
        let (tags, is_ipv4, transport, is_partial) = kind;
        let gso_size = gso_size.min(payload.len() as u16 - 1);
        Shape { tags, is_ipv4, transport, is_partial, options, payload, gso_size }
    })
}

proptest! {
    /// Lengths, sequence numbers, identifications, flags and both checksums, byte for byte.
    #[test]
    fn segments_are_what_etherparse_builds(shape in shape()) {
        let mut frames = Frames::new();
        let (frame, layout) = super_frame(&shape, &mut frames);
        let expected = expected(&shape);
        prop_assert_eq!(layout.segments(), expected.len() as u64);
        let bytes: usize = expected.iter().map(Vec::len).sum();
        prop_assert_eq!(layout.frame_bytes(), bytes as u64);
        let front = 14 + 4 * shape.tags;
        prop_assert_eq!(layout.wire_bytes(), (bytes - front * expected.len()) as u64);
        prop_assert_eq!(layout.full_bytes() as usize, expected[0].len() - front);
        prop_assert_eq!(layout.last_bytes() as usize, expected.last().unwrap().len() - front);
        prop_assert_eq!(segments_of(frame, &mut frames), expected);
        prop_assert_eq!(frames.in_use(), 0);
    }

    /// Cut anywhere, and cut again, the segments are the same.
    #[test]
    fn a_cut_changes_no_segment(shape in shape(), cut: prop::sample::Index, again: prop::sample::Index) {
        let mut frames = Frames::new();
        let (mut frame, layout) = super_frame(&shape, &mut frames);
        let cut = 1 + cut.index(layout.segments() as usize) as u64;
        let mut pieces = Vec::new();
        if cut < layout.segments() {
            let mut rest = layout.part(&frame, cut..layout.segments(), &mut frames).unwrap();
            if let Some(layout) = Layout::of(frames.bytes(&rest), rest.meta) {
                let again = 1 + again.index(layout.segments() as usize - 1) as u64;
                pieces.push(layout.part(&rest, again..layout.segments(), &mut frames).unwrap());
                layout.keep(&mut rest, 0..again, &mut frames);
            }
            pieces.push(rest);
        }
        layout.keep(&mut frame, 0..cut, &mut frames);
        pieces.push(frame);
        let packets: u64 = pieces.iter().map(|piece| piece.meta.wire_packets()).sum();
        prop_assert_eq!(packets, layout.segments());
        let segments: Vec<_> =
            pieces.into_iter().rev().flat_map(|piece| segments_of(piece, &mut frames)).collect();
        prop_assert_eq!(segments, expected(&shape));
        prop_assert_eq!(frames.in_use(), 0);
    }

    #[test]
    fn what_is_kept_in_place_is_what_a_copy_has(
        shape in shape(), begin: prop::sample::Index, end: prop::sample::Index,
    ) {
        let mut frames = Frames::new();
        let (mut frame, layout) = super_frame(&shape, &mut frames);
        let begin = begin.index(layout.segments() as usize) as u64;
        let end = begin + 1 + end.index((layout.segments() - begin) as usize) as u64;
        let part = layout.part(&frame, begin..end, &mut frames).unwrap();
        layout.keep(&mut frame, begin..end, &mut frames);
        prop_assert_eq!(frames.bytes(&part), frames.bytes(&frame));
        prop_assert_eq!(part.meta, frame.meta);
        prop_assert_eq!(part.partial_checksum(), frame.partial_checksum());
        prop_assert_eq!(part.partial_checksum().is_some(), shape.is_partial);
    }

    /// What an attached port sends, also when the tag was popped and pushed `again`.
    #[test]
    fn ordinary_frames_are_complete(mut shape in shape(), again: bool) {
        let mut frames = Frames::new();
        let (mut frame, _) = super_frame(&shape, &mut frames);
        if shape.tags == 1 && again {
            vlan::pop(frames.bytes_mut(&frame));
            prop_assert!(frame.trim_front(vlan::TAG_LEN));
            prop_assert!(frame.extend_front(vlan::TAG_LEN));
            vlan::push(frames.bytes_mut(&frame), 100);
        }
        let mut parts = Vec::new();
        prop_assert_eq!(ordinary(frame, &mut parts, &mut frames), 0);
        let bytes: Vec<_> = parts.iter().map(|part| frames.bytes(part).to_vec()).collect();
        prop_assert_eq!(bytes, expected(&shape));
        prop_assert!(parts.iter().all(|part| part.partial_checksum().is_none()));
        // One that is no super-frame.
        shape.payload.truncate(shape.gso_size as usize);
        let mut frame = frames.allocate_from(&whole(&shape)).unwrap();
        let layout = Layout::measure(frames.bytes(&frame), shape.gso_size).unwrap();
        layout.make_partial(&mut frame, &mut frames);
        let mut parts = Vec::new();
        prop_assert_eq!(ordinary(frame, &mut parts, &mut frames), 0);
        prop_assert_eq!(frames.bytes(&parts[0]), whole(&shape));
    }

    #[test]
    fn any_bytes_are_taken(
        shape in shape(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        meta: (u16, u16),
        cut: prop::sample::Index,
    ) {
        let mut bytes = whole(&shape);
        for (at, value) in changes {
            let at = at.index(bytes.len().min(80));
            bytes[at] = value;
        }
        let mut frames = Frames::new();
        for len in [bytes.len(), cut.index(bytes.len())] {
            let mut frame = frames.allocate_from(&bytes[..len]).unwrap();
            let count = shape.payload.len().div_ceil(shape.gso_size as usize) as u16;
            for (gso_size, segments) in [meta, (shape.gso_size, count)] {
                (frame.meta.gso_size, frame.meta.segments) = (gso_size, segments);
                if let Some(layout) = Layout::of(frames.bytes(&frame), frame.meta) {
                    let copy = frames.duplicate(&frame).unwrap();
                    let segmented = layout.segment(copy, &mut frames);
                    prop_assert_eq!(segmented.frames.len() as u64, frame.meta.wire_packets());
                    segmented.frames.into_iter().for_each(|part| frames.free(part));
                }
            }
            frames.free(frame);
        }
        prop_assert_eq!(frames.in_use(), 0);
    }
}

/// Three segments written down by hand.
#[test]
fn a_frame_of_ten_bytes_is_cut_as_tso_cuts_it() {
    let mut frames = Frames::new();
    let shape = Shape {
        tags: 2,
        is_ipv4: true,
        transport: Transport::Tcp,
        is_partial: false,
        options: Vec::new(),
        payload: b"abcdefghij".to_vec(),
        gso_size: 4,
    };
    let (frame, _) = super_frame(&shape, &mut frames);
    let segments = segments_of(frame, &mut frames);
    let tcp = |segment: &Vec<u8>| (segment[46..50].to_vec(), segment[55], segment[62..].to_vec());
    let ip = |segment: &Vec<u8>| (segment[24..26].to_vec(), segment[26..28].to_vec());
    // ECE and ACK on all; CWR on the first; PSH and FIN on the last. Both numbers wrap.
    assert_eq!(
        segments.iter().map(tcp).collect::<Vec<_>>(),
        [
            (vec![0xff, 0xff, 0xff, 0xfa], 0xd0, b"abcd".to_vec()),
            (vec![0xff, 0xff, 0xff, 0xfe], 0x50, b"efgh".to_vec()),
            (vec![0, 0, 0, 2], 0x59, b"ij".to_vec()),
        ]
    );
    assert_eq!(
        segments.iter().map(ip).collect::<Vec<_>>(),
        [(vec![0, 44], vec![0xff, 0xff]), (vec![0, 44], vec![0, 0]), (vec![0, 42], vec![0, 1])]
    );
}

#[test]
fn segments_that_no_frame_is_free_for_are_counted() {
    let mut frames = Frames::new();
    let shape = Shape {
        tags: 0,
        is_ipv4: false,
        transport: Transport::Tcp,
        is_partial: false,
        options: Vec::new(),
        payload: vec![1; 60_000],
        gso_size: 9_000,
    };
    let (frame, layout) = super_frame(&shape, &mut frames);
    let mut hogged: Vec<_> = std::iter::from_fn(|| frames.allocate(9_000)).collect();
    hogged.drain(..3).for_each(|frame| frames.free(frame));
    let segmented = layout.segment(frame, &mut frames);
    assert_eq!((segmented.frames.len(), segmented.missing), (3, 4));
    segmented.frames.into_iter().chain(hogged).for_each(|frame| frames.free(frame));
    assert_eq!(frames.in_use(), 0);
}
