//! Where the fabric ends and the host's network begins: a port of the host in the place of a node.
//!
//! Several links may end there. They are a segment with the port, as at a switch: what comes from the
//! host goes to the link that its destination was last heard on, or else to each; what comes on a link
//! goes to the host alone.

use std::fmt;
use std::os::fd::BorrowedFd;

use crate::io::unplugged::Unplugged;
use crate::io::{Frame, Frames, Port, PortCounters};
use crate::model::{Instant, MacAddr, PortIndex};
use crate::router::Ledger;
use crate::wire::ethernet;

/// Most frames read from a port before another has its turn.
const BATCH: usize = 64;

/// A port of the host, and what went through it.
pub(super) struct PortNode {
    port: Box<dyn Port>,
    /// What came from the host, the last first.
    arrived: Vec<Frame>,
    /// Where each of these goes; none where there is one link.
    to: Vec<PortIndex>,
    /// Who was last heard on each link, by its index.
    heard: Vec<Option<MacAddr>>,
    /// For a link, and no frame was free.
    uncopied: u64,
    from_host: u64,
    to_host: u64,
    unsent: bool,
    /// As the fabric was last told.
    carrier: bool,
}

impl PortNode {
    pub fn new(port: Box<dyn Port>) -> Self {
        Self {
            port,
            arrived: Vec::with_capacity(BATCH),
            to: Vec::new(),
            heard: Vec::new(),
            uncopied: 0,
            from_host: 0,
            to_host: 0,
            unsent: false,
            carrier: true,
        }
    }

    /// One link more ends here.
    pub fn add_link(&mut self) {
        self.heard.push(None);
    }

    /// Takes a frame from a link of the fabric; it leaves with the next [`PortNode::flush`].
    pub fn receive(&mut self, from: PortIndex, frame: Frame, frames: &mut Frames) {
        self.to_host += frame.meta.wire_packets();
        if self.is_segment()
            && let Ok(view) = ethernet::View::new(frames.bytes(&frame))
        {
            self.heard[from.index()] = Some(view.source());
        }
        self.port.transmit(frame, frames);
        self.unsent = true;
    }

    pub fn flush(&mut self, frames: &mut Frames) {
        if std::mem::take(&mut self.unsent) {
            self.port.flush(frames);
        }
    }

    /// Reads what has arrived from the host; false when nothing has.
    pub fn read(&mut self, frames: &mut Frames, now: Instant) -> bool {
        debug_assert!(self.arrived.is_empty(), "what was read is polled before the next read");
        self.port.receive(BATCH, &mut self.arrived, frames, now);
        if self.is_segment() {
            self.spread(frames);
        }
        self.from_host += self.arrived.iter().map(|frame| frame.meta.wire_packets()).sum::<u64>();
        self.arrived.reverse();
        !self.arrived.is_empty()
    }

    /// A frame and the link it goes to.
    pub fn poll_transmit(&mut self) -> Option<(PortIndex, Frame)> {
        let frame = self.arrived.pop()?;
        Some((self.to.pop().unwrap_or(PortIndex(0)), frame))
    }

    pub fn counters(&mut self) -> PortCounters {
        let mut counters = self.port.counters();
        counters.receive_dropped += self.uncopied;
        counters
    }

    /// Leaves nothing plugged in. Nobody else has a frame of the fabric then.
    pub fn unplug(&mut self, frames: &mut Frames) -> Box<dyn Port> {
        self.flush(frames);
        std::mem::replace(&mut self.port, Box::new(Unplugged::default()))
    }

    pub fn set_carrier(&mut self, up: bool) {
        self.port.set_carrier(up);
    }

    /// As [`PortNode::take_carrier_change`] last found it.
    pub const fn has_carrier(&self) -> bool {
        self.carrier
    }

    /// Whether the far end came or went since the last call.
    pub fn take_carrier_change(&mut self) -> bool {
        let carrier = self.port.has_carrier();
        std::mem::replace(&mut self.carrier, carrier) != carrier
    }

    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.port.descriptors()
    }

    const fn is_segment(&self) -> bool {
        self.heard.len() > 1
    }

    /// Says of each frame that arrived where it goes; one for all is one for each.
    fn spread(&mut self, frames: &mut Frames) {
        let mut copies = Vec::new();
        for frame in &self.arrived {
            let view = ethernet::View::new(frames.bytes(frame));
            let destination = view.ok().map(|view| view.destination());
            let known = destination.and_then(|to| self.heard.iter().position(|at| *at == Some(to)));
            self.to.push(PortIndex(known.unwrap_or(0) as u16));
            let others = if known.is_none() { 1..self.heard.len() } else { 0..0 };
            for other in others {
                match frames.duplicate(frame) {
                    Some(copy) => copies.push((PortIndex(other as u16), copy)),
                    None => self.uncopied += 1,
                }
            }
        }
        for (to, copy) in copies {
            self.to.push(to);
            self.arrived.push(copy);
        }
        self.to.reverse();
    }

    /// What came from the host was made there; what was given to it is its to account for: its own
    /// drops are among the port's counters.
    pub fn ledger(&self) -> Ledger {
        let queued = self.arrived.iter().map(|frame| frame.meta.wire_packets()).sum();
        Ledger {
            received: self.to_host,
            consumed: self.to_host,
            originated: self.from_host,
            transmitted: self.from_host - queued,
            queued,
            ..Ledger::default()
        }
    }
}

impl fmt::Debug for PortNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortNode").field("ledger", &self.ledger()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port whose far end has sent frames to these destinations.
    struct Sent(Vec<MacAddr>);

    impl Port for Sent {
        fn receive(&mut self, _: usize, into: &mut Vec<Frame>, frames: &mut Frames, _: Instant) {
            into.extend(self.0.drain(..).map(|to| frame(frames, to, OUTSIDE)));
        }

        fn transmit(&mut self, frame: Frame, frames: &mut Frames) {
            frames.free(frame);
        }

        fn flush(&mut self, _: &mut Frames) {}

        fn counters(&mut self) -> PortCounters {
            PortCounters::default()
        }

        fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
            Vec::new()
        }
    }

    const OUTSIDE: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xff]);
    const HOSTS: [MacAddr; 3] =
        [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]), MacAddr([2, 0, 0, 0, 0, 3])];

    fn frame(frames: &mut Frames, destination: MacAddr, source: MacAddr) -> Frame {
        let mut bytes = [0; 60];
        ethernet::Repr { destination, source, ethertype: 0x0800 }.emit(&mut bytes);
        frames.allocate_from(&bytes).unwrap()
    }

    /// The links that one frame to each destination goes to, and the port.
    fn spread(links: usize, to: &[MacAddr], frames: &mut Frames) -> (Vec<u16>, PortNode) {
        let mut port = PortNode::new(Box::new(Sent(to.to_vec())));
        for _ in 0..links {
            port.add_link();
        }
        // The last one has not been heard.
        for (link, &source) in HOSTS.iter().enumerate().take(links - 1) {
            let heard = frame(frames, OUTSIDE, source);
            port.receive(PortIndex(link as u16), heard, frames);
        }
        assert!(port.read(frames, Instant::ZERO));
        let mut reached = Vec::new();
        while let Some((link, frame)) = port.poll_transmit() {
            reached.push(link.0);
            frames.free(frame);
        }
        (reached, port)
    }

    #[test]
    fn a_frame_goes_to_the_link_its_destination_was_heard_on_or_to_each() {
        let mut frames = Frames::new();
        assert_eq!(spread(3, &[HOSTS[1], HOSTS[0]], &mut frames).0, [1, 0]);
        assert_eq!(spread(3, &[HOSTS[2]], &mut frames).0, [0, 1, 2]);
        let (reached, port) = spread(3, &[MacAddr::BROADCAST, HOSTS[1]], &mut frames);
        assert_eq!(reached, [0, 1, 1, 2]);
        // The copies were made here, so that the books hold.
        let ledger = port.ledger();
        assert_eq!((ledger.received, ledger.originated, ledger.transmitted), (2, 4, 4));
        assert_eq!(frames.in_use(), 0);
    }

    #[test]
    fn where_one_link_ends_everything_goes_to_it() {
        let mut frames = Frames::new();
        assert_eq!(spread(1, &[HOSTS[1], MacAddr::BROADCAST], &mut frames).0, [0, 0]);
    }

    #[test]
    fn nothing_is_plugged_in_after_the_port_was_taken() {
        let mut frames = Frames::new();
        let mut port = PortNode::new(Box::new(Sent(vec![HOSTS[0]])));
        port.add_link();
        let mut taken = port.unplug(&mut frames);
        assert!(!port.read(&mut frames, Instant::ZERO));
        let mut arrived = Vec::new();
        taken.receive(64, &mut arrived, &mut frames, Instant::ZERO);
        assert_eq!(arrived.len(), 1);
    }
}
