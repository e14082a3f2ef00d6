//! The port that a link to a router outside the program ends in: the pairs of interfaces that are the
//! link, one for each tag.
//!
//! ```text
//!               ┌── tag 100 ── ce1.eth1.100 ═══ eth1.100 ┐
//!  the link ────┤                                        ├ ce1
//!               └── tag 200 ── ce1.eth1.200 ═══ eth1.200 ┘
//! ```
//!
//! The far ends are plain interfaces with the names of VLAN sub-interfaces, which not every kernel
//! has; the tag is put on and taken off at this end. On the link every frame has its tag.

use std::os::fd::BorrowedFd;

use crate::io::packet::PacketPort;
use crate::io::port::Counters;
use crate::io::{Frame, Frames, Port};
use crate::model::{Instant, VlanId};
use crate::sys::netlink::{Netlink, NetlinkError};
use crate::wire::vlan;

/// See above.
#[derive(Debug, Default)]
pub struct Outlet {
    legs: Vec<Leg>,
    /// Whose tag no pair has.
    dropped: u64,
}

#[derive(Debug)]
struct Leg {
    tag: Option<VlanId>,
    port: PacketPort,
}

impl Outlet {
    /// Adds the pair of a tag; none for frames without one.
    pub fn add(&mut self, tag: Option<VlanId>, port: PacketPort) {
        self.legs.push(Leg { tag, port });
    }

    /// Which pair a frame leaves by, and whether its tag stays behind. Where frames have no tag,
    /// one that has is not ours to judge.
    fn leg_for(&self, frame: &[u8]) -> Option<(usize, bool)> {
        let outer = vlan::Tags::parse(frame).ok()?.outer;
        let of =
            |tag: Option<u16>| self.legs.iter().position(|leg| leg.tag.map(VlanId::get) == tag);
        let tagged = outer.and_then(|tag| of(Some(tag))).map(|leg| (leg, true));
        tagged.or_else(|| of(None).map(|leg| (leg, false)))
    }
}

impl Leg {
    /// At most `max` frames, each with its tag.
    fn receive(&mut self, max: usize, into: &mut Vec<Frame>, frames: &mut Frames, now: Instant) {
        let first = into.len();
        self.port.receive(max, into, frames, now);
        let Some(tag) = self.tag else { return };
        for frame in &mut into[first..] {
            let has_room = frame.extend_front(vlan::TAG_LEN);
            debug_assert!(has_room, "a frame that arrives has all its headroom");
            vlan::push(frames.bytes_mut(frame), tag.get());
        }
    }

    fn set_carrier(&self, up: bool) -> Result<(), NetlinkError> {
        let name = self.port.interface().expect("a pair is there from the beginning").name();
        let mut netlink = Netlink::open().map_err(|source| NetlinkError {
            operation: "open netlink for".to_owned(),
            interface: name.to_owned(),
            source,
        })?;
        let interface = netlink.interface(name)?;
        netlink.set_up(&interface, up)
    }
}

/// Whoever opens the pairs next finds a link that nobody has cut.
impl Drop for Outlet {
    fn drop(&mut self) {
        self.set_carrier(true);
    }
}

impl Port for Outlet {
    fn receive(&mut self, max: usize, into: &mut Vec<Frame>, frames: &mut Frames, now: Instant) {
        let share = max / self.legs.len().max(1);
        for leg in &mut self.legs {
            leg.receive(share, into, frames, now);
        }
    }

    fn transmit(&mut self, mut frame: Frame, frames: &mut Frames) {
        let Some((leg, is_tagged)) = self.leg_for(frames.bytes(&frame)) else {
            self.dropped += frame.meta.wire_packets();
            frames.free(frame);
            return;
        };
        if is_tagged {
            vlan::pop(frames.bytes_mut(&frame));
            let had_tag = frame.trim_front(vlan::TAG_LEN);
            debug_assert!(had_tag, "its tag was read");
        }
        self.legs[leg].port.transmit(frame, frames);
    }

    fn flush(&mut self, frames: &mut Frames) {
        for leg in &mut self.legs {
            leg.port.flush(frames);
        }
    }

    /// The far end has carrier while this one is up. An interface that is gone has none anyway.
    fn set_carrier(&mut self, up: bool) {
        for leg in &self.legs {
            let _ = leg.set_carrier(up);
        }
    }

    fn counters(&mut self) -> Counters {
        let mut sum = Counters { transmit_dropped: self.dropped, ..Counters::default() };
        for leg in &mut self.legs {
            let counters = leg.port.counters();
            sum.received += counters.received;
            sum.receive_dropped += counters.receive_dropped;
            sum.transmitted += counters.transmitted;
            sum.transmit_dropped += counters.transmit_dropped;
            sum.kernel_dropped += counters.kernel_dropped;
        }
        sum
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.legs.iter().flat_map(|leg| leg.port.descriptors()).collect()
    }
}
