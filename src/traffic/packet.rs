//! Whole packets and frames of a host's own making, off the fast path.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::{MacAddr, ethernet, ipv4, ipv6};

/// What a host sets as time to live.
pub(super) const TTL: u8 = 64;

/// An Ethernet frame around `packet`.
pub(super) fn frame(
    destination: MacAddr,
    source: MacAddr,
    ethertype: u16,
    packet: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0; ethernet::HEADER_LEN + packet.len()];
    ethernet::Repr { destination, source, ethertype }.emit(&mut bytes);
    bytes[ethernet::HEADER_LEN..].copy_from_slice(packet);
    bytes
}

/// An IP packet around `payload`; the addresses are of one family.
pub(super) fn ip(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ttl: u8,
    payload: &[u8],
) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ip_v4(source, destination, protocol, ttl, payload)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ip_v6(source, destination, protocol, ttl, payload)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            unreachable!("both addresses come from one packet or one checked flow")
        }
    }
}

fn ip_v4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    ttl: u8,
    payload: &[u8],
) -> Vec<u8> {
    let repr = ipv4::Repr {
        source,
        destination,
        protocol,
        ttl,
        dscp: 0,
        identification: 0,
        dont_fragment: true,
        payload_len: payload.len(),
    };
    let mut packet = vec![0; ipv4::MIN_HEADER_LEN + payload.len()];
    repr.emit(&mut packet);
    packet[ipv4::MIN_HEADER_LEN..].copy_from_slice(payload);
    packet
}

fn ip_v6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let repr = ipv6::Repr {
        source,
        destination,
        next_header,
        hop_limit,
        traffic_class: 0,
        payload_len: payload.len(),
    };
    let mut packet = vec![0; ipv6::HEADER_LEN + payload.len()];
    repr.emit(&mut packet);
    packet[ipv6::HEADER_LEN..].copy_from_slice(payload);
    packet
}
