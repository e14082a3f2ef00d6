//! Where the fabric ends and the host's network begins: a port of the host in the place of a node.

use std::fmt;
use std::os::fd::BorrowedFd;

use crate::io::{Frame, Frames, Port, PortCounters};
use crate::model::Instant;
use crate::router::Ledger;

/// Most frames read from a port before another has its turn.
const BATCH: usize = 64;

/// A port of the host, and what went through it.
pub(super) struct PortNode {
    port: Box<dyn Port>,
    /// What came from the host, the last first.
    arrived: Vec<Frame>,
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
            from_host: 0,
            to_host: 0,
            unsent: false,
            carrier: true,
        }
    }

    /// Takes a frame from the fabric; it leaves with the next [`PortNode::flush`].
    pub fn receive(&mut self, frame: Frame, frames: &mut Frames) {
        self.to_host += frame.meta.wire_packets();
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
        self.from_host += self.arrived.iter().map(|frame| frame.meta.wire_packets()).sum::<u64>();
        self.arrived.reverse();
        !self.arrived.is_empty()
    }

    pub fn poll_transmit(&mut self) -> Option<Frame> {
        self.arrived.pop()
    }

    pub fn counters(&mut self) -> PortCounters {
        self.port.counters()
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
