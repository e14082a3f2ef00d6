//! A TCP segment in its IP packet: what is checked before smoltcp sees it, and what is changed in
//! what smoltcp sends.

use std::net::IpAddr;

use crate::punt::tcp::md5;
use crate::wire::tcp::{Flags, View};
use crate::wire::{checksum, ipv4, ipv6, protocol};

/// DSCP CS6, network control (RFC 4594, 3.1), where the traffic class has it.
const CS6: u8 = 48 << 2;

/// Where a TCP header has its checksum.
const CHECKSUM: usize = 16;

/// Whose a segment is and where in its packet. Made only of segments that are whole, so that what
/// reads the packet by it cannot fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) flags: Flags,
    /// TTL or hop limit.
    pub(super) ttl: u8,
    /// Where the TCP header begins.
    pub(super) start: usize,
    /// Where the options end and the payload begins.
    pub(super) payload: usize,
    /// Where the payload ends; what follows in the packet is padding.
    pub(super) end: usize,
}

impl Segment {
    /// `None` when the packet is not one whole TCP segment with right checksums.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let segment = Self::locate(packet)?;
        let view = View::new(&packet[segment.start..segment.end]).ok()?;
        view.verify_checksum(segment.source, segment.destination).then_some(segment)
    }

    /// As [`parse`](Self::parse), with any TCP checksum.
    pub(super) fn locate(packet: &[u8]) -> Option<Self> {
        let (source, destination, ttl, start, octets) = locate_in_ip(packet)?;
        let view = View::new(octets).ok()?;
        Some(Self {
            source,
            destination,
            source_port: view.source_port(),
            destination_port: view.destination_port(),
            flags: view.flags(),
            ttl,
            start,
            payload: start + view.data_offset(),
            end: start + octets.len(),
        })
    }

    /// Opens a connection: SYN alone.
    pub(super) fn opens(&self) -> bool {
        self.is_syn() && !self.flags.contains(Flags::ACK) && !self.flags.contains(Flags::RST)
    }

    /// One of the two segments that carry options about the whole connection.
    pub(super) fn is_syn(&self) -> bool {
        self.flags.contains(Flags::SYN)
    }

    /// Computes the TCP checksum again after a change.
    pub(super) fn renew_checksum(&self, packet: &mut [u8]) {
        let octets = &mut packet[self.start..self.end];
        octets[CHECKSUM..][..2].fill(0);
        let len = octets.len();
        let pseudo = checksum::pseudo_header(self.source, self.destination, protocol::TCP, len);
        let sum = checksum::finish(checksum::combine(&[pseudo, checksum::sum(octets)]));
        octets[CHECKSUM..][..2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Addresses, TTL, where the payload begins, and the payload, when it is a whole TCP segment.
fn locate_in_ip(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, usize, &[u8])> {
    match packet.first()? >> 4 {
        4 => {
            let view = ipv4::View::new(packet).ok()?;
            let whole = view.protocol() == protocol::TCP && !view.is_fragment();
            let addresses = (view.source().into(), view.destination().into());
            (whole && view.verify_checksum()).then_some(())?;
            Some((addresses.0, addresses.1, view.ttl(), view.header_len(), view.payload()))
        }
        6 => {
            let view = ipv6::View::new(packet).ok()?;
            (view.next_header() == protocol::TCP).then_some(())?;
            let addresses = (view.source().into(), view.destination().into());
            Some((addresses.0, addresses.1, view.hop_limit(), ipv6::HEADER_LEN, view.payload()))
        }
        _ => None,
    }
}

/// Gives a packet of smoltcp's its TTL and DSCP and, with a key, its signature. smoltcp believes
/// in an MTU smaller by a signature, so the MSS it announces is put right for all peers: an MSS
/// does not account for options (RFC 6691), whoever sends them does.
pub(super) fn dress(packet: &mut Vec<u8>, segment: &Segment, key: Option<&str>, ttl: u8) {
    if segment.is_syn() {
        md5::adjust_mss(packet, segment, |mss| mss.saturating_add(md5::ROOM as u16));
        segment.renew_checksum(packet);
    }
    if let Some(key) = key {
        md5::sign(packet, segment, key);
    }
    dress_ip(packet, ttl);
}

fn dress_ip(packet: &mut [u8], ttl: u8) {
    if packet[0] >> 4 == 4 {
        packet[1] = CS6;
        packet[8] = ttl;
        let header_len = usize::from(packet[0] & 0x0f) * 4;
        packet[10..12].fill(0);
        let sum = checksum::finish(checksum::sum(&packet[..header_len]));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[0] = 0x60 | (CS6 >> 4);
        packet[1] = (CS6 << 4) | (packet[1] & 0x0f);
        packet[7] = ttl;
    }
}

/// Makes the IP header say that the packet is `by` bytes longer. The checksum of an IPv4 header is
/// left to [`dress`].
pub(super) fn lengthen(packet: &mut [u8], by: u16) {
    let at = if packet[0] >> 4 == 4 { 2 } else { 4 };
    let length = u16::from_be_bytes([packet[at], packet[at + 1]]) + by;
    packet[at..at + 2].copy_from_slice(&length.to_be_bytes());
}
