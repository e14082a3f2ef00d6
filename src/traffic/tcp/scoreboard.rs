//! What is sent and not yet acknowledged, and what of it is lost (RFC 6675, RFC 8985).

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::model::Instant;
use crate::traffic::tcp::ranges::Ranges;

/// RFC 6675, 2.
const DUP_THRESH: u64 = 3;

/// The sender's view of its window, from the first unacknowledged byte to the last one sent.
#[derive(Default, Debug)]
pub(super) struct Scoreboard {
    /// In order, without gaps. One for each transmission, split where parts fare differently.
    chunks: VecDeque<Chunk>,
    sacked: Ranges,
    sacked_bytes: u64,
    lost_bytes: u64,
    resent_bytes: u64,
    /// No chunk that is to be sent again is before.
    resend_from: u64,
    /// All that was lost by the count of SACKs is before.
    counted_to: u64,
    rack: Rack,
}

/// Bytes that were sent at once and have had the same fate.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    start: u64,
    end: u64,
    /// Last time.
    sent_at: Instant,
    sacked: bool,
    lost: bool,
    /// A retransmission is on the way.
    resent: bool,
    /// More than once, ever.
    repeated: bool,
}

impl Chunk {
    fn tail(&self, bytes: u64) -> Range<u64> {
        self.start.max(self.end.saturating_sub(bytes))..self.end
    }
}

/// The most recently sent segment that was delivered (RFC 8985, 5.2).
#[derive(Clone, Copy, Default, Debug)]
struct Rack {
    sent_at: Instant,
    end: u64,
    round_trip: Duration,
    reordered: bool,
}

/// What an ACK said, added up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    now: Instant,
    /// To tell the ACK of a retransmission from that of its original.
    min_round_trip: Duration,
    /// Acknowledged or SACKed for the first time.
    pub bytes: u64,
    /// When the first delivered segment that was sent once was sent.
    first_sent: Option<Instant>,
    /// One that was sent more than once was acknowledged: nothing can be measured (Karn).
    repeated: bool,
}

impl Delivery {
    pub const fn new(now: Instant, min_round_trip: Duration) -> Self {
        Self { now, min_round_trip, bytes: 0, first_sent: None, repeated: false }
    }

    /// The round-trip time, when no retransmission makes it doubtful.
    pub fn round_trip(&self) -> Option<Duration> {
        self.first_sent.filter(|_| !self.repeated).map(|sent| self.now.since(sent))
    }
}

impl Scoreboard {
    /// A new transmission, right behind the last one.
    pub fn send(&mut self, range: Range<u64>, now: Instant) {
        self.chunks.push_back(Chunk {
            start: range.start,
            end: range.end,
            sent_at: now,
            sacked: false,
            lost: false,
            resent: false,
            repeated: false,
        });
    }

    /// Everything below `to` has arrived.
    pub fn acknowledge(&mut self, to: u64, delivery: &mut Delivery) {
        while let Some(front) = self.chunks.front_mut()
            && front.start < to
        {
            let mut chunk = *front;
            if chunk.end > to {
                chunk.end = to;
                front.start = to;
            } else {
                self.chunks.pop_front();
            }
            self.forget(&chunk);
            if chunk.sacked {
                self.sacked_bytes -= chunk.end - chunk.start;
            } else {
                self.deliver(&chunk, delivery);
            }
        }
        self.sacked.remove_below(to);
    }

    /// These bytes, all of them sent and not acknowledged, have arrived out of order.
    pub fn sack(&mut self, range: Range<u64>, delivery: &mut Delivery) {
        for part in self.sacked.insert(range) {
            let first = self.split(part.start);
            let past = self.split(part.end);
            for place in first..past {
                let chunk = self.chunks[place];
                self.forget(&chunk);
                self.deliver(&chunk, delivery);
                self.sacked_bytes += chunk.end - chunk.start;
                self.chunks[place] = Chunk { sacked: true, lost: false, resent: false, ..chunk };
            }
        }
    }

    /// Marks what is lost. Returns how many bytes, and when more will be if nothing is heard of
    /// them until then.
    pub fn find_losses(
        &mut self,
        segment: u64,
        recovering: bool,
        smoothed: Duration,
        delivery: &Delivery,
    ) -> (u64, Instant) {
        // In order, and nothing was sent twice: what is on the way was sent later than what came.
        if self.sacked.is_empty() && self.resent_bytes == 0 {
            return (0, Instant::NEVER);
        }
        let counted = self.count_losses(segment);
        let (timed, deadline) = self.time_losses(segment, recovering, smoothed, delivery);
        (counted + timed, deadline)
    }

    /// The retransmission timer ran out: all that has not arrived is lost (RFC 6675, 5.1; what was
    /// SACKed stays so, for receivers here do not renege).
    pub fn lose_all(&mut self) {
        self.lost_bytes = 0;
        self.resent_bytes = 0;
        for chunk in self.chunks.iter_mut().filter(|chunk| !chunk.sacked) {
            (chunk.lost, chunk.resent) = (true, false);
            self.lost_bytes += chunk.end - chunk.start;
        }
        self.resend_from = 0;
    }

    /// The first lost bytes that were not sent again since (NextSeg rule 1).
    pub fn next_lost(&mut self) -> Option<Range<u64>> {
        if self.lost_bytes == 0 {
            return None;
        }
        let from = self.chunks.partition_point(|chunk| chunk.end <= self.resend_from);
        let found = self.chunks.range(from..).find(|chunk| chunk.lost && !chunk.resent);
        self.resend_from = found.map_or(u64::MAX, |chunk| chunk.start);
        found.map(|chunk| chunk.start..chunk.end)
    }

    /// The first bytes below the highest SACK that may be lost and were not sent again (NextSeg
    /// rule 3).
    pub fn next_doubtful(&self) -> Option<Range<u64>> {
        let end = self.sacked.end()?;
        let mut below = self.chunks.iter().take_while(|chunk| chunk.start < end);
        let found = below.find(|chunk| !chunk.sacked && !chunk.lost && !chunk.resent)?;
        Some(found.start..found.end)
    }

    /// The last bytes that have not arrived, at most so many of them (tail loss probe).
    pub fn last_outstanding(&self, bytes: u64) -> Option<Range<u64>> {
        Some(self.last_chunk()?.tail(bytes))
    }

    /// The same, unless they have been sent again (NextSeg rule 4).
    pub fn unprobed_tail(&self, bytes: u64) -> Option<Range<u64>> {
        Some(self.last_chunk().filter(|chunk| !chunk.resent)?.tail(bytes))
    }

    /// The range, which lies in one chunk, is sent again.
    pub fn resend(&mut self, range: Range<u64>, now: Instant) {
        let place = self.split(range.start);
        self.split(range.end);
        let chunk = &mut self.chunks[place];
        if !chunk.resent {
            self.resent_bytes += chunk.end - chunk.start;
        }
        (chunk.sent_at, chunk.resent, chunk.repeated) = (now, true, true);
    }

    /// Bytes in the network by estimate (RFC 6675, 4: SetPipe).
    pub fn pipe(&self) -> u64 {
        self.outstanding() - self.sacked_bytes - self.lost_bytes + self.resent_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Nothing has arrived out of order.
    pub const fn is_in_order(&self) -> bool {
        self.sacked.is_empty()
    }

    /// When the first bytes on the way were sent.
    pub fn oldest(&self) -> Option<Instant> {
        self.chunks.front().map(|chunk| chunk.sent_at)
    }

    /// The connection is gone and with it all that was on the way.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn last_chunk(&self) -> Option<&Chunk> {
        self.chunks.iter().rev().find(|chunk| !chunk.sacked)
    }

    fn outstanding(&self) -> u64 {
        match (self.chunks.front(), self.chunks.back()) {
            (Some(first), Some(last)) => last.end - first.start,
            _ => 0,
        }
    }

    /// Makes `at` an edge of chunks; returns the place of the one that begins there.
    fn split(&mut self, at: u64) -> usize {
        let place = self.chunks.partition_point(|chunk| chunk.end <= at);
        let Some(chunk) = self.chunks.get_mut(place).filter(|chunk| chunk.start < at) else {
            return place;
        };
        let back = Chunk { start: at, ..*chunk };
        chunk.end = at;
        self.chunks.insert(place + 1, back);
        place + 1
    }

    /// Takes a chunk that is about to change its fate out of the sums.
    const fn forget(&mut self, chunk: &Chunk) {
        let len = chunk.end - chunk.start;
        if chunk.lost {
            self.lost_bytes -= len;
        }
        if chunk.resent {
            self.resent_bytes -= len;
        }
    }

    fn deliver(&mut self, chunk: &Chunk, delivery: &mut Delivery) {
        delivery.bytes += chunk.end - chunk.start;
        let round_trip = delivery.now.since(chunk.sent_at);
        if chunk.repeated {
            delivery.repeated = true;
            // Sooner than can be: the original has arrived (RFC 8985, 6.2, step 2).
            if round_trip < delivery.min_round_trip {
                return;
            }
        } else {
            delivery.first_sent = delivery.first_sent.or(Some(chunk.sent_at));
            // RFC 8985, 6.2, step 3.
            self.rack.reordered |= chunk.end < self.rack.end && chunk.end < self.forward_most();
        }
        if (chunk.sent_at, chunk.end) > (self.rack.sent_at, self.rack.end) {
            self.rack.sent_at = chunk.sent_at;
            self.rack.end = chunk.end;
            self.rack.round_trip = round_trip;
        }
    }

    fn forward_most(&self) -> u64 {
        self.sacked.end().unwrap_or(0)
    }

    /// RFC 6675, 4: IsLost of everything below the third SACKed range from the top, or below more
    /// than two segments' worth of SACKed bytes.
    fn count_losses(&mut self, segment: u64) -> u64 {
        let mut bytes = 0;
        let mut boundary = 0;
        for (above, range) in self.sacked.iter().rev().enumerate() {
            bytes += range.end - range.start;
            if above as u64 + 1 >= DUP_THRESH || bytes > (DUP_THRESH - 1) * segment {
                boundary = range.start;
                break;
            }
        }
        let from = self.chunks.partition_point(|chunk| chunk.end <= self.counted_to);
        let past = self.chunks.partition_point(|chunk| chunk.start < boundary);
        self.counted_to = self.counted_to.max(boundary);
        (from..past).map(|place| self.lose(place, false)).sum()
    }

    /// RFC 8985, 6.2, step 5, with Linux's rule for the reordering window (step 4).
    fn time_losses(
        &mut self,
        segment: u64,
        recovering: bool,
        smoothed: Duration,
        delivery: &Delivery,
    ) -> (u64, Instant) {
        let sure = recovering || self.sacked_bytes >= DUP_THRESH * segment;
        let window = if !self.rack.reordered && sure {
            Duration::ZERO
        } else {
            (delivery.min_round_trip / 4).min(smoothed)
        };
        let rack = self.rack;
        let mut lost = 0;
        let mut deadline = Instant::NEVER;
        for place in 0..self.chunks.len() {
            let chunk = self.chunks[place];
            let before = (chunk.sent_at, chunk.end) < (rack.sent_at, rack.end);
            if !before && !chunk.repeated {
                // All behind it was first sent later still.
                break;
            }
            if !before || chunk.sacked || (chunk.lost && !chunk.resent) {
                continue;
            }
            let due = chunk.sent_at + rack.round_trip + window;
            if due <= delivery.now {
                lost += self.lose(place, true);
            } else {
                deadline = deadline.min(due);
            }
        }
        (lost, deadline)
    }

    /// Marks a chunk lost, with its retransmission if `resent`. Returns the bytes that were not
    /// known to be.
    fn lose(&mut self, place: usize, resent: bool) -> u64 {
        let chunk = &mut self.chunks[place];
        let len = chunk.end - chunk.start;
        let again = resent && chunk.resent;
        if chunk.sacked || (chunk.lost && !again) {
            return 0;
        }
        if again {
            chunk.resent = false;
            self.resent_bytes -= len;
        }
        if !chunk.lost {
            chunk.lost = true;
            self.lost_bytes += len;
        }
        self.resend_from = self.resend_from.min(chunk.start);
        len
    }
}
