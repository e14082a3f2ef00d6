//! What a back-end is to those who move frames.

use std::os::fd::BorrowedFd;

use crate::io::{Frame, Frames};
use crate::model::Instant;

/// One port on real frames. Nothing here blocks.
pub trait Port: Send {
    /// Takes at most `max` frames that have arrived, control before the rest, and appends them. Control
    /// may be looked for from time to time only: `now` goes on from call to call.
    fn receive(&mut self, max: usize, into: &mut Vec<Frame>, frames: &mut Frames, now: Instant);
    /// Takes a frame to be sent with the next [`Port::flush`], or before.
    fn transmit(&mut self, frame: Frame, frames: &mut Frames);
    /// Sends what was taken; what the host does not take is dropped and counted.
    fn flush(&mut self, frames: &mut Frames);
    /// Shows the far end whether the link has carrier. A port that is not made for this end alone
    /// leaves its interface as it is.
    fn set_carrier(&mut self, _up: bool) {}
    /// Whether there is another end, as far as this one can see.
    fn has_carrier(&self) -> bool {
        true
    }
    fn counters(&mut self) -> Counters;
    /// What becomes readable when there is something to receive.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;
}

/// What a port carried and did not, since it was opened, in packets on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    pub received: u64,
    /// Longer than any slot, no slot free, or a super-frame that is not what it says.
    pub receive_dropped: u64,
    pub transmitted: u64,
    /// Not taken by the host: its queues were full, the interface was down, the frame too long.
    pub transmit_dropped: u64,
    /// Dropped by the kernel because this port did not receive fast enough. The kernel counts
    /// frames: a super-frame is one.
    pub kernel_dropped: u64,
}
