//! What the generator sends: UDP to 4,000 destinations, for ours with both tags.

use std::net::Ipv4Addr;

use msee::sys::packet::VnetHeader;
use msee::wire::{MacAddr, ethernet, ethertype, ipv4, protocol, udp, vlan};

use crate::network::{Dut, ingress_mac};
use crate::router;

/// Different frames, sent in turns.
const FRAMES: u32 = 1_024;

/// Frames of `length` bytes before tags, check sequence not counted, as a sender takes them.
pub fn of(dut: Dut, length: usize) -> Vec<Vec<u8>> {
    let (destination, tags) = match dut {
        Dut::Msee => (router::MAC, router::TAGS.as_slice()),
        _ => (MacAddr(ingress_mac(dut)), [].as_slice()),
    };
    (0..FRAMES).map(|number| frame(destination, tags, number, length)).collect()
}

fn frame(destination: MacAddr, tags: &[u16], number: u32, length: usize) -> Vec<u8> {
    let payload_len = length - ethernet::HEADER_LEN - ipv4::MIN_HEADER_LEN - udp::HEADER_LEN;
    let source = Ipv4Addr::new(10, 129, 0, 2);
    let route = number.wrapping_mul(2_654_435_761) % router::ROUTES;
    let target = Ipv4Addr::from_bits(router::prefix(route).to_bits() | 9);
    let header = ipv4::Repr {
        source,
        destination: target,
        protocol: protocol::UDP,
        ttl: 64,
        dscp: 0,
        identification: 0,
        dont_fragment: true,
        payload_len: udp::HEADER_LEN + payload_len,
    };
    let mut bytes = vec![0; length];
    let front = ethernet::Repr {
        destination,
        source: MacAddr([2, 0, 0, 0, 0, 9]),
        ethertype: ethertype::IPV4,
    };
    front.emit(&mut bytes);
    let packet = &mut bytes[ethernet::HEADER_LEN..];
    header.emit(packet);
    let datagram = udp::Repr { source_port: number as u16, destination_port: 5_001, payload_len };
    let payload = vec![0; payload_len];
    let datagram_at = &mut packet[ipv4::MIN_HEADER_LEN..];
    datagram.emit(source.into(), target.into(), &payload, datagram_at);
    for tag in tags.iter().rev() {
        bytes.splice(0..0, [0; vlan::TAG_LEN]);
        vlan::push(&mut bytes, *tag);
    }
    bytes.splice(0..0, VnetHeader::default().to_bytes());
    bytes
}
