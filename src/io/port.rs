//! What a back-end is to those who move frames.

use crate::io::{Frame, Frames};
use crate::model::Instant;

/// One port on real frames. Nothing here blocks.
pub trait Port {
    /// Takes at most `max` frames that have arrived, control before the rest, and appends them.
    fn receive(&mut self, max: usize, into: &mut Vec<Frame>, frames: &mut Frames, now: Instant);
    /// Takes a frame to be sent with the next [`Port::flush`].
    fn transmit(&mut self, frame: Frame, frames: &mut Frames);
    /// Sends what was taken; what the host does not take is dropped and counted.
    fn flush(&mut self, frames: &mut Frames);
}
