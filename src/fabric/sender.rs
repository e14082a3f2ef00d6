//! Somebody else's equipment on a link: it sends what it is given, each frame at its time, and hears
//! nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::io::{Frame, Frames};
use crate::model::Instant;
use crate::router::{DropReason, Ledger};

/// Most frames sent at once, and the time others have before the next: a flood leaves room for the
/// ports and deadlines of everybody else.
const BATCH: usize = 64;
const PAUSE: Duration = Duration::from_micros(50);

/// A node that sends into a link on which it is no end.
#[derive(Debug, Default)]
pub struct Sender {
    /// In order of time.
    waiting: VecDeque<(Instant, Vec<u8>)>,
    waiting_bytes: usize,
    /// Made, and not yet on the link: the last first.
    leaving: Vec<Frame>,
    /// Nothing is sent before.
    free_at: Instant,
    latest: Duration,
    last_sent: Instant,
    ledger: Ledger,
}

impl Sender {
    /// Sends a frame at that time, or behind the one that was given before where that is later.
    pub fn send_at(&mut self, at: Instant, bytes: Vec<u8>) {
        let at = self.waiting.back().map_or(at, |(last, _)| at.max(*last));
        self.waiting_bytes += bytes.len();
        self.waiting.push_back((at, bytes));
    }

    /// Of frames that wait for their time.
    pub const fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.leaving.is_empty()
    }

    /// When the last frame was sent.
    pub const fn last_sent(&self) -> Instant {
        self.last_sent
    }

    /// By how much the latest frame was sent after its time, since this was last asked.
    pub fn take_latest(&mut self) -> Duration {
        std::mem::take(&mut self.latest)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, frames: &mut Frames) {
        if now < self.free_at {
            return;
        }
        debug_assert!(self.leaving.is_empty(), "what was made is polled before the next is");
        for _ in 0..BATCH {
            let Some((at, bytes)) = self.waiting.pop_front_if(|(at, _)| *at <= now) else { break };
            self.waiting_bytes -= bytes.len();
            self.latest = self.latest.max(now.since(at));
            self.last_sent = now;
            self.ledger.originated += 1;
            match frames.allocate_from(&bytes) {
                Some(frame) => {
                    self.ledger.queued += 1;
                    self.leaving.push(frame);
                }
                None => self.ledger.drop(DropReason::NoBuffer, 1),
            }
        }
        self.leaving.reverse();
        self.free_at = now + PAUSE;
    }

    /// When [`Sender::handle_timeout`] must next be called.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.waiting.front().map_or(Instant::NEVER, |(at, _)| self.free_at.max(*at))
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Frame> {
        let frame = self.leaving.pop()?;
        self.ledger.queued -= 1;
        self.ledger.transmitted += 1;
        Some(frame)
    }

    pub(super) const fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
