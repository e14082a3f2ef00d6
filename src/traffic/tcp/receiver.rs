//! The end of a connection that listens and reads.

use std::time::Duration;

use crate::model::Instant;
use crate::traffic::tcp::ranges::Ranges;
use crate::traffic::tcp::record::TcpReceived;
use crate::traffic::tcp::segment::{
    SACKS_MAX, Sacks, Segment, TIMESTAMPS_LEN, Timestamps, distance,
};
use crate::traffic::tcp::sender::clock;
use crate::wire::tcp::Flags;

/// Bytes that are taken beyond the next one: Linux's tcp_rmem, without its tuning.
const WINDOW: u64 = 6 << 20;
/// The smallest shift with which the header's field holds [`WINDOW`].
const WINDOW_SCALE: u8 = 7;
/// How long the ACK of one segment waits for a second (Linux's TCP_DELACK_MIN).
const ACK_DELAY: Duration = Duration::from_millis(40);
/// Runs of bytes that are held out of order; one more is dropped. More than a window of full
/// segments can make.
const RUNS_MAX: usize = 4_096;
/// Arrivals that are remembered for the order of SACK blocks.
const RECENT_MAX: usize = 4;
/// Until a SYN/ACK is sent again, and how often (Linux's tcp_synack_retries).
const SYN_ACK_TIMEOUT: Duration = Duration::from_secs(1);
const SYN_ACK_RETRIES: u32 = 5;

/// What a receiver is.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiverConfig {
    /// Largest segment without options, by the host's MTU.
    pub mss: u16,
    /// Initial sequence numbers are drawn from it.
    pub key: u64,
    /// When the flow begins.
    pub start: Instant,
}

/// The receiving end. Places in the stream are counted from its first byte in 64 bits.
#[derive(Debug)]
pub(super) struct Receiver {
    config: ReceiverConfig,
    state: State,
    isn: u32,
    peer_isn: u32,
    /// The first byte that has not come.
    next: u64,
    /// Where the last ACK was.
    acknowledged: u64,
    /// Payload of a full segment.
    segment: u64,
    early: Ranges,
    /// Where segments that came early begin, the last one first (RFC 2018, 4).
    recent: Vec<u64>,
    /// The peer's clock, to be echoed (RFC 7323, 4.3).
    echo: u32,
    pending: Option<Pending>,
    ack_at: Instant,
    retransmit_at: Instant,
    retransmissions: u32,
    record: TcpReceived,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Listen,
    SynReceived,
    Established,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pending {
    SynAck,
    Ack,
    Reset(Segment),
}

impl Receiver {
    pub const fn new(config: ReceiverConfig) -> Self {
        Self {
            state: State::Listen,
            isn: 0,
            peer_isn: 0,
            next: 0,
            acknowledged: 0,
            segment: 0,
            early: Ranges::EMPTY,
            recent: Vec::new(),
            echo: 0,
            pending: None,
            ack_at: Instant::NEVER,
            retransmit_at: Instant::NEVER,
            retransmissions: 0,
            record: TcpReceived::new(config.start),
            config,
        }
    }

    pub fn handle_segment(&mut self, segment: &Segment, now: Instant) {
        let flags = segment.flags;
        if flags.contains(Flags::RST) {
            // RFC 5961, 3.2: in its place; a sender that gives up resets at the end of what it has
            // sent, of which some may not have come.
            let ahead = distance(self.sequence(self.next), segment.sequence);
            if self.state != State::Listen && (0..=WINDOW as i64).contains(&ahead) {
                self.forget();
            }
            return;
        }
        if flags.contains(Flags::SYN) {
            return self.synchronize(segment, now);
        }
        let answers =
            flags.contains(Flags::ACK) && segment.acknowledgement == self.isn.wrapping_add(1);
        match self.state {
            State::Listen => self.pending = segment.refusal().map(Pending::Reset),
            State::SynReceived if !answers => {
                self.pending = segment.refusal().map(Pending::Reset);
            }
            State::SynReceived => {
                self.state = State::Established;
                self.retransmit_at = Instant::NEVER;
                self.read(segment, now);
            }
            State::Established if answers => self.read(segment, now),
            State::Established => {}
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.ack_at {
            self.pending = Some(Pending::Ack);
        }
        if now >= self.retransmit_at {
            self.retransmissions += 1;
            if self.retransmissions > SYN_ACK_RETRIES {
                self.forget();
            } else {
                self.send_syn_ack(now);
            }
        }
    }

    pub fn poll_transmit(&mut self, now: Instant) -> Option<Segment> {
        let pending = self.pending.take()?;
        let acknowledgement = self.sequence(self.next);
        let timestamps = Some(Timestamps { value: clock(now), echo: self.echo });
        if pending != Pending::Ack {
            return Some(match pending {
                Pending::Reset(reset) => reset,
                Pending::SynAck | Pending::Ack => Segment {
                    sequence: self.isn,
                    acknowledgement,
                    flags: Flags::SYN | Flags::ACK,
                    // A window of a SYN is not scaled (RFC 7323, 2.2).
                    window: u16::MAX,
                    mss: Some(self.config.mss),
                    window_scale: Some(WINDOW_SCALE),
                    sack_permitted: true,
                    timestamps,
                    ..Segment::default()
                },
            });
        }
        self.acknowledged = self.next;
        self.ack_at = Instant::NEVER;
        Some(Segment {
            sequence: self.isn.wrapping_add(1),
            acknowledgement,
            flags: Flags::ACK,
            window: (WINDOW >> WINDOW_SCALE) as u16,
            timestamps,
            sacks: self.sacks(),
            ..Segment::default()
        })
    }

    /// When [`Receiver::handle_timeout`] must next be called.
    pub fn poll_timeout(&self) -> Instant {
        self.ack_at.min(self.retransmit_at)
    }

    /// Where in the stream a payload with this sequence number belongs; `None` when that is not
    /// known or would be before its beginning.
    pub fn place(&self, sequence: u32) -> Option<u64> {
        let known = self.state != State::Listen;
        let ahead = distance(self.sequence(self.next), sequence);
        self.next.checked_add_signed(ahead).filter(|_| known)
    }

    pub const fn record(&self) -> &TcpReceived {
        &self.record
    }

    /// A SYN begins a connection, also in place of one that the peer has lost: it comes from the
    /// same port, where a Linux application would have taken another one.
    fn synchronize(&mut self, segment: &Segment, now: Instant) {
        let again = self.state != State::Listen && segment.sequence == self.peer_isn;
        if again && self.state == State::Established {
            self.pending = Some(Pending::Ack);
            return;
        }
        if segment.flags.contains(Flags::ACK) {
            self.pending = segment.refusal().map(Pending::Reset);
            return;
        }
        self.forget();
        self.state = State::SynReceived;
        self.peer_isn = segment.sequence;
        self.isn = self.config.key as u32 ^ segment.sequence.rotate_left(16);
        let mss = segment.mss.unwrap_or(self.config.mss).min(self.config.mss);
        self.segment = u64::from(mss.saturating_sub(TIMESTAMPS_LEN));
        self.echo = segment.timestamps.map_or(0, |timestamps| timestamps.value);
        self.send_syn_ack(now);
    }

    fn send_syn_ack(&mut self, now: Instant) {
        self.pending = Some(Pending::SynAck);
        self.retransmit_at = now + SYN_ACK_TIMEOUT * (1 << self.retransmissions);
    }

    fn forget(&mut self) {
        self.state = State::Listen;
        (self.next, self.acknowledged) = (0, 0);
        self.early.clear();
        self.recent.clear();
        self.pending = None;
        self.ack_at = Instant::NEVER;
        self.retransmit_at = Instant::NEVER;
        self.retransmissions = 0;
    }

    fn read(&mut self, segment: &Segment, now: Instant) {
        if segment.len == 0 {
            return;
        }
        let Some(start) = self.place(segment.sequence) else {
            // Before the first byte: old.
            self.pending = Some(Pending::Ack);
            return;
        };
        let end = start + u64::from(segment.len);
        if end <= self.next || end > self.next + WINDOW {
            self.pending = Some(Pending::Ack);
            return;
        }
        if let Some(timestamps) = segment.timestamps
            && start <= self.acknowledged
        {
            self.echo = timestamps.value;
        }
        if start > self.next {
            self.hold(start, end);
            return;
        }
        let before = self.next;
        let had_holes = !self.early.is_empty();
        self.next = end;
        while let Some(end) = self.early.take_from(self.next) {
            self.next = self.next.max(end);
        }
        self.record.deliver(self.next - before, now);
        // RFC 5681, 4.2: at once when a hole is filled, and for every second full segment.
        if had_holes || self.next - self.acknowledged > self.segment {
            self.pending = Some(Pending::Ack);
        } else if self.ack_at == Instant::NEVER {
            self.ack_at = now + ACK_DELAY;
        }
    }

    /// Keeps bytes that came early, and says so at once.
    fn hold(&mut self, start: u64, end: u64) {
        if self.early.len() < RUNS_MAX {
            self.early.insert(start..end);
        }
        if let Some(run) = self.early.containing(start) {
            self.recent.retain(|place| !run.contains(place));
            self.recent.insert(0, start);
            self.recent.truncate(RECENT_MAX);
        }
        self.pending = Some(Pending::Ack);
    }

    /// The runs with the most recent arrivals first (RFC 2018, 4).
    fn sacks(&mut self) -> Sacks {
        let mut sacks = Sacks::default();
        if self.early.is_empty() {
            self.recent.clear();
            return sacks;
        }
        let runs = self.recent.iter().filter_map(|place| self.early.containing(*place));
        for run in runs.take(SACKS_MAX) {
            sacks.push((self.sequence(run.start), self.sequence(run.end)));
        }
        sacks
    }

    /// The sequence number of a place in the stream.
    const fn sequence(&self, place: u64) -> u32 {
        self.peer_isn.wrapping_add(1).wrapping_add(place as u32)
    }
}
