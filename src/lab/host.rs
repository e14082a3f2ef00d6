//! A host of a site or VNet as a node of the fabric.

use crate::fabric::{Endpoint, Frame, Frames};
use crate::model::Instant;
use crate::router::{DropReason, Ledger};
use crate::traffic::Host;

/// [`Host`] at the end of a link.
#[derive(Debug)]
pub struct HostNode(pub Host);

impl Endpoint for HostNode {
    fn receive(&mut self, frame: Frame, frames: &mut Frames, now: Instant) {
        self.0.receive(frame, frames, now);
    }

    fn handle_timeout(&mut self, now: Instant, frames: &mut Frames) {
        self.0.handle_timeout(now, frames);
    }

    fn poll_timeout(&self) -> Instant {
        self.0.poll_timeout()
    }

    fn poll_transmit(&mut self) -> Option<Frame> {
        self.0.poll_transmit()
    }

    fn ledger(&self) -> Ledger {
        let counters = self.0.ledger();
        let mut ledger = Ledger {
            received: counters.received,
            originated: counters.originated,
            transmitted: counters.transmitted,
            consumed: counters.consumed,
            queued: self.0.queued(),
            ..Ledger::default()
        };
        for (reason, packets) in [
            (DropReason::NotForUs, counters.not_for_us),
            (DropReason::Malformed, counters.malformed),
            (DropReason::NoNeighbor, counters.no_neighbor),
            (DropReason::Misdelivered, counters.misdelivered),
            (DropReason::NoBuffer, counters.no_buffer),
        ] {
            ledger.drop(reason, packets);
        }
        ledger
    }
}
