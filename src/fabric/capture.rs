//! What somebody sees who captures on a link.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fabric::{Direction, LinkIndex, NodeIndex};
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

/// A capture of links and of what routers drop.
#[derive(Debug)]
pub struct LinkCapture {
    file: Capture,
    links: BTreeMap<LinkIndex, Watched>,
    routers: BTreeMap<NodeIndex, Interface>,
}

/// A capture that several workers write.
pub(super) type SharedCapture = Arc<Mutex<LinkCapture>>;

/// A capture for one frame or a few: whoever panicked with it wrote whole blocks.
pub(super) fn locked(capture: &SharedCapture) -> MutexGuard<'_, LinkCapture> {
    capture.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A link of a capture.
#[derive(Clone, Copy, Debug)]
struct Watched {
    interface: Interface,
    /// The direction that is out.
    outbound: Direction,
    /// It is a node's port: what leaves is seen at the node, else at the far end.
    is_port: bool,
}

/// What happens to a frame on a link.
#[derive(Clone, Copy, Debug)]
pub(super) enum Passage {
    /// The link has taken it.
    Leaves,
    /// It is at the far end.
    Arrives,
    IsLost(DropReason),
}

impl LinkCapture {
    pub const fn new(file: Capture) -> Self {
        Self { file, links: BTreeMap::new(), routers: BTreeMap::new() }
    }

    /// Captures a link too. A frame is seen once on it: when it arrives at the far end, or when the
    /// link loses it. `ends` are what stands at its ends; out is from the first to the second.
    pub fn add_link(&mut self, link: LinkIndex, name: &str, ends: [&str; 2]) {
        let [near, far] = ends;
        let interface = self.file.add_interface(name, &format!("outbound is from {near} to {far}"));
        let outbound = Direction::Forward;
        self.links.insert(link, Watched { interface, outbound, is_port: false });
    }

    /// Captures a link as the port of a node that sends in the direction `outbound`. What the link
    /// loses at once is seen with the reason; what it loses on the way, when it leaves and again when
    /// it is lost.
    pub fn add_port(&mut self, link: LinkIndex, name: &str, outbound: Direction) {
        let interface = self.file.add_interface(name, "outbound leaves the node");
        self.links.insert(link, Watched { interface, outbound, is_port: true });
    }

    /// Captures what a router drops too, of what comes by the links of the capture: a frame that was
    /// seen there before is seen again with the reason.
    pub fn add_router(&mut self, router: NodeIndex, name: &str) {
        let interface = self.file.add_interface(&format!("{name} drops"), "what the router drops");
        self.routers.insert(router, interface);
    }

    /// As [`Capture::tend`].
    pub(super) fn tend(&mut self, now: Instant) -> bool {
        self.file.tend(now)
    }

    /// Writes what is left to be written.
    pub fn finish(self) -> Result<Written, CaptureError> {
        self.file.finish()
    }

    /// Something happens to a frame on a link.
    pub(super) fn see(
        &mut self,
        (link, direction): (LinkIndex, Direction),
        passage: Passage,
        frame: &Frame,
        frames: &Frames,
        at: Instant,
    ) {
        let Some(&watched) = self.links.get(&link) else { return };
        let lost = match passage {
            Passage::Leaves if watched.sees_leaving(direction) => None,
            Passage::Arrives if !watched.sees_leaving(direction) => None,
            Passage::Leaves | Passage::Arrives => return,
            Passage::IsLost(reason) => Some(reason),
        };
        self.file.add(watched.seen(direction, lost, at), frame, frames);
    }

    /// A router has dropped a frame that came `from` a link, or that it made.
    pub(super) fn is_dropped(
        &mut self,
        router: NodeIndex,
        from: Option<LinkIndex>,
        frame: &Frame,
        reason: DropReason,
        frames: &Frames,
        at: Instant,
    ) {
        let Some(&interface) = self.routers.get(&router) else { return };
        if from.is_some_and(|link| !self.links.contains_key(&link)) {
            return;
        }
        let seen = Seen { interface, at, outbound: false, lost: Some(reason.name()) };
        self.file.add(seen, frame, frames);
    }
}

impl Watched {
    fn sees_leaving(self, direction: Direction) -> bool {
        self.is_port && direction == self.outbound
    }

    fn seen(self, direction: Direction, lost: Option<DropReason>, at: Instant) -> Seen<'static> {
        let outbound = direction == self.outbound;
        Seen { interface: self.interface, at, outbound, lost: lost.map(DropReason::name) }
    }
}
