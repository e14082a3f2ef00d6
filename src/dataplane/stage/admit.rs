//! What may enter, and what is for the router itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dataplane::DropReason;
use crate::dataplane::attachment::{Attachment, Path};
use crate::dataplane::batch::{Batch, Context, Family};
use crate::dataplane::tables::{Locals, Tables};
use crate::dataplane::verdict::{PuntReason, Verdict};
use crate::io::Frames;
use crate::io::gso::Layout;
use crate::model::AttachmentIndex;
use crate::wire::{MacAddr, arp, bfd, ethertype, ipv4, ipv6, protocol, tcp, udp};

/// TTL of what must not have crossed a router (RFC 5881, 5; RFC 4861, 7.1).
const FROM_THE_LINK: u8 = 255;
const BGP_PORT: u16 = 179;
/// ICMPv6 types of neighbour and router discovery (RFC 4861).
const NDP_TYPES: std::ops::RangeInclusive<u8> = 133..=137;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Checks addresses and headers, and tells what is forwarded from what is for the router.
///
/// Expects packets that demux has given an attachment. Frames of a cross-connect pass as they are.
/// Leaves by `Next`; by `Punt` or `Bfd` when the packet is for the router; or by `Drop` with
/// `NotForUs`, `UnknownProtocol`, `Malformed` (also of a super-frame that is not what its meta says),
/// `TtlExpired`, `BfdRefused`, `NoRoute` (addresses
/// that are never forwarded, a cross-connect without its other end) or `TooLarge` (cross-connects).
pub fn run(tables: &Tables, pool: &Frames, batch: &mut Batch) {
    for (frame, context) in batch.open() {
        let attachment = tables.attachment(context.ingress);
        let bytes = pool.bytes(frame);
        context.verdict = match attachment.service {
            Path::Vrf(vrf) => {
                context.vrf = vrf;
                enter(tables, attachment, bytes, context)
            }
            Path::CrossConnect(other) => pass(other, bytes, context),
        };
        (context.bytes, context.largest) = (context.length, context.length);
        if frame.meta.is_super_frame() {
            match Layout::of(bytes, frame.meta) {
                Some(layout) => {
                    context.bytes = layout.wire_bytes() as u32;
                    context.largest = layout.full_bytes();
                }
                None => context.verdict = Verdict::Drop(DropReason::Malformed),
            }
        }
        match attachment.service {
            // What is behind the IP packet is padding of a short frame.
            Path::Vrf(_) if context.family != Family::Other => {
                frame.truncate(context.header_len as usize + context.length as usize);
            }
            Path::Vrf(_) => {}
            Path::CrossConnect(_) => {
                if context.verdict == Verdict::Next
                    && context.largest > tables.attachment(context.egress).mtu
                {
                    context.verdict = Verdict::Drop(DropReason::TooLarge);
                }
            }
        }
    }
}

fn enter(tables: &Tables, attachment: &Attachment, bytes: &[u8], context: &mut Context) -> Verdict {
    let packet = &bytes[context.header_len as usize..];
    context.length = packet.len() as u32;
    let destination = MacAddr([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]]);
    let ours = destination == attachment.mac;
    let locals = &tables.vrf(context.vrf).locals;
    match context.ethertype {
        ethertype::IPV4 if ours => ipv4(locals, attachment, packet, context),
        ethertype::IPV6 if ours => ipv6(locals, attachment, packet, context),
        ethertype::IPV6 if is_ipv6_group(destination) => ipv6(locals, attachment, packet, context),
        ethertype::ARP if ours || destination == MacAddr::BROADCAST => {
            if packet.len() < arp::LEN {
                return Verdict::Drop(DropReason::Malformed);
            }
            context.length = arp::LEN as u32;
            Verdict::Punt(PuntReason::Arp)
        }
        _ if ours => Verdict::Drop(DropReason::UnknownProtocol),
        _ => Verdict::Drop(DropReason::NotForUs),
    }
}

/// RFC 2464, 7.
fn is_ipv6_group(destination: MacAddr) -> bool {
    destination.0[..2] == [0x33, 0x33]
}

fn ipv4(locals: &Locals, attachment: &Attachment, packet: &[u8], context: &mut Context) -> Verdict {
    let Ok(view) = ipv4::View::new(packet) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    let source = view.source();
    let destination = view.destination();
    // RFC 1812, 5.3.7: no host has these as its own, and loopback never leaves one.
    let martian = source.is_multicast()
        || source.is_broadcast()
        || source.is_loopback()
        || source.is_unspecified()
        || destination.is_loopback();
    if martian || !view.verify_checksum() {
        return Verdict::Drop(DropReason::Malformed);
    }
    context.family = Family::Ipv4;
    context.length = view.total_len() as u32;
    if locals.has_ipv4(destination) {
        return ipv4_for_us(&view);
    }
    if is_never_forwarded(destination) {
        return Verdict::Drop(DropReason::NoRoute);
    }
    forwarded(attachment, view.ttl())
}

/// Multicast, class E with broadcast, "this host".
fn is_never_forwarded(destination: Ipv4Addr) -> bool {
    let first = destination.octets()[0];
    first == 0 || first >= 224
}

fn ipv4_for_us(view: &ipv4::View<'_>) -> Verdict {
    if view.is_fragment() {
        return Verdict::Punt(PuntReason::Local);
    }
    match view.protocol() {
        protocol::TCP => Verdict::Punt(PuntReason::Tcp),
        protocol::UDP => {
            let (source, destination) = (view.source().into(), view.destination().into());
            udp_for_us(source, destination, view.ttl(), view.payload())
        }
        _ => Verdict::Punt(PuntReason::Local),
    }
}

fn ipv6(locals: &Locals, attachment: &Attachment, packet: &[u8], context: &mut Context) -> Verdict {
    let Ok(view) = ipv6::View::new(packet) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    let source = view.source();
    let destination = view.destination();
    if source.is_multicast() || source.is_loopback() || destination.is_loopback() {
        return Verdict::Drop(DropReason::Malformed);
    }
    context.family = Family::Ipv6;
    context.length = (ipv6::HEADER_LEN + view.payload_len()) as u32;
    if destination.is_multicast() {
        return ipv6_group_for_us(attachment, &view);
    }
    // The same link-local address may be on every attachment, so it is ours only on its own.
    let ours = if destination.is_unicast_link_local() {
        attachment.has_ipv6(destination)
    } else {
        locals.has_ipv6(destination)
    };
    if ours {
        return ipv6_for_us(&view);
    }
    // RFC 4291, 2.5.2 and 2.5.6: these stay on their link.
    let stays = destination.is_unicast_link_local()
        || destination.is_unspecified()
        || source.is_unicast_link_local()
        || source.is_unspecified();
    if stays {
        return Verdict::Drop(DropReason::NoRoute);
    }
    forwarded(attachment, view.hop_limit())
}

fn ipv6_for_us(view: &ipv6::View<'_>) -> Verdict {
    match view.next_header() {
        protocol::TCP => Verdict::Punt(PuntReason::Tcp),
        protocol::UDP => {
            let (source, destination) = (view.source().into(), view.destination().into());
            udp_for_us(source, destination, view.hop_limit(), view.payload())
        }
        protocol::ICMPV6 if is_ndp(view) => ndp_for_us(view),
        _ => Verdict::Punt(PuntReason::Local),
    }
}

/// Of what is sent to groups, only neighbour discovery is listened to.
fn ipv6_group_for_us(attachment: &Attachment, view: &ipv6::View<'_>) -> Verdict {
    let listens = view.destination() == ALL_NODES || attachment.listens_to(view.destination());
    if listens && is_ndp(view) { ndp_for_us(view) } else { Verdict::Drop(DropReason::NotForUs) }
}

fn is_ndp(view: &ipv6::View<'_>) -> bool {
    let kind = view.payload().first();
    view.next_header() == protocol::ICMPV6 && kind.is_some_and(|kind| NDP_TYPES.contains(kind))
}

fn ndp_for_us(view: &ipv6::View<'_>) -> Verdict {
    match view.hop_limit() {
        FROM_THE_LINK => Verdict::Punt(PuntReason::Ndp),
        _ => Verdict::Drop(DropReason::Malformed),
    }
}

fn udp_for_us(source: IpAddr, destination: IpAddr, ttl: u8, payload: &[u8]) -> Verdict {
    let Ok(view) = udp::View::new(payload) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    if view.destination_port() != bfd::PORT {
        return Verdict::Punt(PuntReason::Local);
    }
    if ttl != FROM_THE_LINK {
        return Verdict::Drop(DropReason::BfdRefused);
    }
    if view.verify_checksum(source, destination) {
        Verdict::Bfd
    } else {
        Verdict::Drop(DropReason::Malformed)
    }
}

fn forwarded(attachment: &Attachment, ttl: u8) -> Verdict {
    match ttl {
        0 | 1 if attachment.answers_icmp => Verdict::Punt(PuntReason::TtlExpired),
        0 | 1 => Verdict::Drop(DropReason::TtlExpired),
        _ => Verdict::Next,
    }
}

/// A cross-connect looks at a frame only to charge it: its IP bytes, and whether it is control.
fn pass(other: Option<AttachmentIndex>, bytes: &[u8], context: &mut Context) -> Verdict {
    let packet = &bytes[context.header_len as usize..];
    context.length = packet.len() as u32;
    context.control = context.ethertype == ethertype::ARP;
    match context.ethertype {
        ethertype::IPV4 => {
            if let Ok(view) = ipv4::View::new(packet) {
                context.length = view.total_len() as u32;
                context.control =
                    !view.is_fragment() && is_session_control(view.protocol(), view.payload());
            }
        }
        ethertype::IPV6 => {
            if let Ok(view) = ipv6::View::new(packet) {
                context.length = (ipv6::HEADER_LEN + view.payload_len()) as u32;
                context.control =
                    is_ndp(&view) || is_session_control(view.next_header(), view.payload());
            }
        }
        _ => {}
    }
    let Some(other) = other else {
        return Verdict::Drop(DropReason::NoRoute);
    };
    context.egress = other;
    Verdict::Next
}

/// BFD and BGP.
fn is_session_control(protocol: u8, payload: &[u8]) -> bool {
    match protocol {
        protocol::UDP => {
            udp::View::new(payload).is_ok_and(|view| view.destination_port() == bfd::PORT)
        }
        protocol::TCP => tcp::View::new(payload).is_ok_and(|view| {
            view.source_port() == BGP_PORT || view.destination_port() == BGP_PORT
        }),
        _ => false,
    }
}
