//! What leaves one port is what arrives at another, byte for byte.

use std::time::Duration;

use msee::io::packet::{Mode, PacketPort};
use msee::io::{Frame, Frames, Port};
use msee::model::Instant;
use msee::sys::clock;
use msee::sys::packet::Interface;

use crate::namespaces::{isolated, veth};

/// How long nothing has to come before a test believes that nothing will.
const PATIENCE: Duration = Duration::from_secs(2);

/// A port on an interface of the calling thread's namespace.
pub fn open(name: &str, mode: Mode) -> PacketPort {
    PacketPort::open(Interface::by_name(name).unwrap(), mode).unwrap()
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
        port.receive(64, &mut received, frames, Instant::ZERO);
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
        veth(["p0", "p1"], 1508);
        let mut frames = Frames::new();
        let mut ends = ["p0", "p1"].map(|name| open(name, Mode::VnetHdr));
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
