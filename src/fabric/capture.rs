//! What somebody sees who captures on a link.

use std::net::IpAddr;

use crate::wire::{ethertype, ipv4, ipv6, vlan};

/// Source and destination of the IP packet in a frame, tagged or not.
pub fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let tags = vlan::Tags::parse(frame).ok()?;
    let packet = &frame[tags.payload_offset..];
    match tags.ethertype {
        ethertype::IPV4 => {
            let view = ipv4::View::new(packet).ok()?;
            Some((view.source().into(), view.destination().into()))
        }
        ethertype::IPV6 => {
            let view = ipv6::View::new(packet).ok()?;
            Some((view.source().into(), view.destination().into()))
        }
        _ => None,
    }
}
