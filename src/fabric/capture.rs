//! What somebody sees who captures on a link.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::fabric::{Direction, LinkIndex};
use crate::io::capture::{Capture, CaptureError, Interface, Seen, Written};
use crate::io::{Frame, Frames};
use crate::model::Instant;
use crate::router::DropReason;
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

/// A capture of links. A frame is seen once on each: when it arrives at the far end, or when the link
/// loses it.
#[derive(Debug)]
pub struct LinkCapture {
    file: Capture,
    /// With the direction that is out.
    interfaces: BTreeMap<LinkIndex, (Interface, Direction)>,
}

impl LinkCapture {
    pub const fn new(file: Capture) -> Self {
        Self { file, interfaces: BTreeMap::new() }
    }

    /// Captures a link too; `ends` are what stands at its ends. Out is from the first to the second.
    pub fn add_link(&mut self, link: LinkIndex, name: &str, ends: [&str; 2]) {
        let [near, far] = ends;
        let description = format!("outbound is from {near} to {far}");
        self.add(link, name, &description, Direction::Forward);
    }

    /// Captures a link as the port of a node, which `outbound` leads away from.
    pub fn add_port(&mut self, link: LinkIndex, name: &str, outbound: Direction) {
        self.add(link, name, "outbound leaves the node", outbound);
    }

    fn add(&mut self, link: LinkIndex, name: &str, description: &str, outbound: Direction) {
        let interface = self.file.add_interface(name, description);
        self.interfaces.insert(link, (interface, outbound));
    }

    /// As [`Capture::tend`].
    pub(super) fn tend(&mut self, now: Instant) -> bool {
        self.file.tend(now)
    }

    /// Writes what is left to be written.
    pub fn finish(self) -> Result<Written, CaptureError> {
        self.file.finish()
    }

    /// Sees a frame, if it is on one of the links.
    pub(super) fn see(
        &mut self,
        link: LinkIndex,
        direction: Direction,
        frame: &Frame,
        lost: Option<DropReason>,
        frames: &Frames,
        at: Instant,
    ) {
        let Some(&(interface, outbound)) = self.interfaces.get(&link) else { return };
        let outbound = direction == outbound;
        let seen = Seen { interface, at, outbound, lost: lost.map(DropReason::name) };
        self.file.add(seen, frame, frames);
    }
}
