//! The messages of both protocols: ARP and neighbour discovery as packets.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::{MacAddr, arp, ethertype, icmpv6, ipv6, ndp, protocol};

/// All nodes of the link (RFC 4291, 2.7.1).
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What neighbour discovery is sent and accepted with: proof that no router was between (RFC 4861,
/// 7.1).
const HOP_LIMIT: u8 = 255;

/// DSCP CS6 as a traffic class: network control (RFC 4594, 3.1).
const TRAFFIC_CLASS: u8 = 48 << 2;

/// A message on its way to an attachment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Outgoing {
    pub(super) destination: MacAddr,
    pub(super) ethertype: u16,
    pub(super) packet: Vec<u8>,
}

/// A neighbour discovery message that came from the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ndp {
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) message: ndp::Repr,
}

/// Asks for `target`: everybody, or the one that had it last. Asking for the own address is an
/// announcement of it.
pub(super) fn arp_request(
    mac: MacAddr,
    own: Ipv4Addr,
    target: Ipv4Addr,
    to: Option<MacAddr>,
) -> Outgoing {
    let request = arp::Repr {
        operation: arp::Operation::Request,
        sender_mac: mac,
        sender: own,
        target_mac: MacAddr::default(),
        target,
    };
    arp_packet(&request, to.unwrap_or(MacAddr::BROADCAST))
}

/// Answers `request`, which asks for an address of ours.
pub(super) fn arp_reply(request: &arp::Repr, mac: MacAddr) -> Outgoing {
    let reply = arp::Repr {
        operation: arp::Operation::Reply,
        sender_mac: mac,
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
    };
    arp_packet(&reply, request.sender_mac)
}

/// Asks for `target`: its solicited-node group, or the one that had it last. Without an own
/// address it asks whether anybody has it (RFC 4862, 5.4.2).
pub(super) fn solicit(
    mac: MacAddr,
    own: Option<Ipv6Addr>,
    target: Ipv6Addr,
    to: Option<MacAddr>,
) -> Outgoing {
    let group = ndp::solicited_node(target);
    let (destination, to) = to.map_or((group, ndp::multicast_mac(group)), |mac| (target, mac));
    let message = ndp::Repr::NeighborSolicit { target, source_link: own.map(|_| mac) };
    let packet = ndp_packet(own.unwrap_or(Ipv6Addr::UNSPECIFIED), destination, &message);
    Outgoing { destination: to, ethertype: ethertype::IPV6, packet }
}

/// Says that `target` is ours. EtherType and packet: the MAC of `to` is the caller's matter.
pub(super) fn advert(
    mac: MacAddr,
    target: Ipv6Addr,
    to: Ipv6Addr,
    solicited: bool,
    overriding: bool,
) -> (u16, Vec<u8>) {
    let target_link = Some(mac);
    let message =
        ndp::Repr::NeighborAdvert { target, target_link, router: true, solicited, overriding };
    (ethertype::IPV6, ndp_packet(target, to, &message))
}

/// The message in an IPv6 packet, if it is valid (RFC 4861, 7.1.1 and 7.1.2).
pub(super) fn parse_ndp(packet: &[u8]) -> Option<Ndp> {
    let view = ipv6::View::new(packet).ok()?;
    let (source, destination) = (view.source(), view.destination());
    let icmp = icmpv6::View::new(view.payload()).ok()?;
    let valid = view.hop_limit() == HOP_LIMIT
        && view.next_header() == protocol::ICMPV6
        && icmp.verify_checksum(source, destination);
    let message = ndp::Repr::parse(view.payload()).ok().filter(|_| valid)?;
    Some(Ndp { source, destination, message })
}

fn arp_packet(arp: &arp::Repr, destination: MacAddr) -> Outgoing {
    let mut packet = vec![0; arp.buffer_len()];
    arp.emit(&mut packet);
    Outgoing { destination, ethertype: ethertype::ARP, packet }
}

fn ndp_packet(source: Ipv6Addr, destination: Ipv6Addr, message: &ndp::Repr) -> Vec<u8> {
    let header = ipv6::Repr {
        source,
        destination,
        next_header: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        traffic_class: TRAFFIC_CLASS,
        payload_len: message.buffer_len(),
    };
    let mut packet = vec![0; header.buffer_len() + message.buffer_len()];
    header.emit(&mut packet);
    message.emit(source, destination, &mut packet[header.buffer_len()..]);
    packet
}
