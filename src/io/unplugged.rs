//! A port that nothing is plugged into.

use std::os::fd::BorrowedFd;

use crate::io::port::{Counters, Port};
use crate::io::{Frame, Frames};
use crate::model::Instant;

/// See above.
#[derive(Debug, Default)]
pub struct Unplugged {
    counters: Counters,
}

impl Port for Unplugged {
    fn receive(&mut self, _: usize, _: &mut Vec<Frame>, _: &mut Frames, _: Instant) {}

    fn transmit(&mut self, frame: Frame, frames: &mut Frames) {
        self.counters.transmit_dropped += frame.meta.wire_packets();
        frames.free(frame);
    }

    fn flush(&mut self, _: &mut Frames) {}

    fn has_carrier(&self) -> bool {
        false
    }

    fn counters(&mut self) -> Counters {
        self.counters
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
}
