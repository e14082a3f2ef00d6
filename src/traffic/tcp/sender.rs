//! The end of a connection that opens it and sends data.

use std::ops::Range;
use std::time::Duration;

use crate::model::Instant;
use crate::traffic::tcp::application::Application;
use crate::traffic::tcp::cubic::Cubic;
use crate::traffic::tcp::record::TcpSent;
use crate::traffic::tcp::rtt::RoundTrip;
use crate::traffic::tcp::scoreboard::{Delivery, Scoreboard};
use crate::traffic::tcp::segment::{SACKS_MAX, Segment, TIMESTAMPS_LEN, Timestamps, distance};
use crate::wire::tcp::Flags;

/// Segments of a super-frame at most.
const SUPER_SEGMENTS: u64 = 44;
/// Segments that a super-frame has at least when there are as many to send (Linux's
/// tcp_min_tso_segs).
const SUPER_SEGMENTS_MIN: u64 = 2;
/// Part of the least round trip, 2^9 µs, with each of which near peers get frames half as large
/// (Linux's tcp_tso_rtt_log, since 5.18).
const TSO_ROUND_TRIP_LOG: u32 = 9;
/// Bytes of an IP packet, headers included.
const PACKET_MAX: u64 = 65_535;
/// Retransmission timeouts in a row after which a connection is given up (Linux's tcp_retries2).
const TIMEOUTS_MAX: u32 = 15;
/// The same while it is being opened (Linux's tcp_syn_retries).
const SYN_TIMEOUTS_MAX: u32 = 6;
/// Until a connection that ended is opened again.
pub const REOPEN: Duration = Duration::from_secs(1);
/// The peer's window when nothing scales it, and what is said of our own: no data comes back.
const WINDOW: u16 = u16::MAX;
/// Linux's shift for a buffer of 6 MiB.
const WINDOW_SCALE: u8 = 7;
/// What a tail loss probe waits for beyond two round trips (Linux's TCP_TIMEOUT_MIN).
const PROBE_SLACK: Duration = Duration::from_millis(2);
/// The same when one segment is on the way, whose ACK may be delayed (RFC 8985, 7.2: Linux's
/// TCP_RTO_MIN).
const PROBE_ACK_DELAY: Duration = Duration::from_millis(200);
/// A frame that is smaller than it could be waits only so long behind the last one, and for an ACK
/// that is no farther (Linux's tcp_tso_should_defer).
const DEFER_MAX: Duration = Duration::from_millis(1);
/// Part of the window that is not held back for larger frames (Linux's tcp_tso_win_divisor).
const DEFER_DIVISOR: u64 = 3;

/// What a sender is.
#[derive(Clone, Copy, Debug)]
pub(super) struct SenderConfig {
    /// Largest segment without options, by the host's MTU.
    pub mss: u16,
    /// Initial sequence numbers are drawn from it.
    pub key: u64,
    pub application: Application,
}

/// A segment to be sent, with the place of its payload in the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Outgoing {
    pub segment: Segment,
    pub offset: u64,
}

/// The sending end. Places in the stream are counted from its first byte in 64 bits.
#[derive(Debug)]
pub(super) struct Sender {
    config: SenderConfig,
    application: Application,
    state: State,
    /// Connections begun.
    attempts: u32,
    opened_at: Instant,
    /// The first byte's sequence number is one more.
    isn: u32,
    peer_isn: u32,
    peer_window: u64,
    peer_scale: u8,
    /// The peer's clock as it last said.
    echo: u32,
    acknowledged: u64,
    sent: u64,
    /// Payload of a full segment.
    segment: u64,
    board: Scoreboard,
    cubic: Cubic,
    round_trip: RoundTrip,
    phase: Phase,
    usage: Usage,
    probe: Option<Probe>,
    /// Up to where the last rescue retransmission went (RFC 6675, 4, rule 4).
    rescued: Option<u64>,
    /// A segment without data that is to leave first.
    pending: Option<Pending>,
    timers: Timers,
    last_transmit: Instant,
    record: TcpSent,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not yet, not any more, or not again: until then.
    Closed(Instant),
    SynSent,
    Established,
}

/// Where congestion control is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    /// Fast recovery until all that was sent before it is acknowledged.
    Recovery {
        until: u64,
        reduction: Reduction,
    },
    /// After a retransmission timeout, as long.
    Loss {
        until: u64,
    },
}

/// Proportional rate reduction (RFC 6937, 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Reduction {
    flight: u64,
    delivered: u64,
    sent: u64,
}

/// Whether the window is what holds the sender back, as Linux's tcp_cwnd_validate tells.
#[derive(Clone, Copy, Default, Debug)]
struct Usage {
    limited: bool,
    most_sent: u64,
    until: u64,
}

/// A tail loss probe on the way.
#[derive(Clone, Copy, Debug)]
struct Probe {
    end: u64,
    is_resent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pending {
    Syn,
    Ack,
    Reset(u32),
    TailProbe,
}

#[derive(Clone, Copy, Debug)]
struct Timers {
    retransmit: Instant,
    tail: Instant,
    reorder: Instant,
    write: Instant,
}

impl Timers {
    const OFF: Self = Self {
        retransmit: Instant::NEVER,
        tail: Instant::NEVER,
        reorder: Instant::NEVER,
        write: Instant::NEVER,
    };
}

impl Sender {
    pub fn new(config: SenderConfig) -> Self {
        let segment = u64::from(config.mss - TIMESTAMPS_LEN);
        Self {
            application: config.application,
            state: State::Closed(config.application.start()),
            attempts: 0,
            opened_at: Instant::ZERO,
            isn: 0,
            peer_isn: 0,
            peer_window: WINDOW.into(),
            peer_scale: 0,
            echo: 0,
            acknowledged: 0,
            sent: 0,
            segment,
            board: Scoreboard::default(),
            cubic: Cubic::new(segment),
            round_trip: RoundTrip::default(),
            phase: Phase::Open,
            usage: Usage::default(),
            probe: None,
            rescued: None,
            pending: None,
            timers: Timers::OFF,
            last_transmit: Instant::ZERO,
            record: TcpSent::new(),
            config,
        }
    }

    /// Nothing but retransmissions leaves then or later.
    pub fn stop(&mut self, at: Instant) {
        self.application.stop(at);
    }

    pub fn handle_segment(&mut self, segment: &Segment, now: Instant) {
        self.application.write(self.acknowledged, now);
        let flags = segment.flags;
        let is_reset = flags.contains(Flags::RST);
        match self.state {
            State::Closed(_) if is_reset => {}
            State::Closed(_) => self.pending = Some(Pending::Reset(segment.acknowledgement)),

            State::SynSent if !flags.contains(Flags::ACK) => {}
            State::SynSent if segment.acknowledgement != self.sequence(0) => {
                if !is_reset {
                    self.pending = Some(Pending::Reset(segment.acknowledgement));
                }
            }
            State::SynSent if is_reset => self.end(now),
            State::SynSent if flags.contains(Flags::SYN) => self.establish(segment, now),
            State::SynSent => {}

            // Only a reset at the very place is taken for one (RFC 5961, 3.2).
            State::Established if is_reset => {
                if segment.sequence == self.peer_isn.wrapping_add(1) {
                    self.end(now);
                }
            }
            // The ACK of the handshake was lost.
            State::Established if flags.contains(Flags::SYN) => self.pending = Some(Pending::Ack),
            State::Established if flags.contains(Flags::ACK) => self.acknowledge(segment, now),
            State::Established => {}
        }
        self.note_busy(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.application.write(self.acknowledged, now);
        match self.state {
            State::Closed(until) => {
                if now >= until && self.application.is_stopped(now) {
                    self.state = State::Closed(Instant::NEVER);
                } else if now >= until {
                    self.open(now);
                }
            }
            State::SynSent => {
                if now >= self.timers.retransmit {
                    self.time_out(now);
                }
            }
            State::Established => {
                if now >= self.timers.reorder {
                    self.find_losses(&Delivery::new(now, self.round_trip.min()), false);
                }
                if now >= self.timers.tail {
                    self.pending = Some(Pending::TailProbe);
                    self.timers.tail = Instant::NEVER;
                    self.timers.retransmit = now + self.round_trip.timeout();
                } else if now >= self.timers.retransmit {
                    self.time_out(now);
                }
            }
        }
        self.note_busy(now);
    }

    pub fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        self.timers.write = Instant::NEVER;
        if let Some(pending) = self.pending.take()
            && let Some(segment) = self.emit_pending(pending, now)
        {
            return Some(segment);
        }
        if self.state != State::Established {
            return None;
        }
        self.transmit(now)
    }

    /// When [`Sender::handle_timeout`] must next be called.
    pub fn poll_timeout(&self) -> Instant {
        if let State::Closed(until) = self.state {
            return until;
        }
        let Timers { retransmit, tail, reorder, write } = self.timers;
        retransmit.min(tail).min(reorder).min(write)
    }

    pub const fn record(&self) -> &TcpSent {
        &self.record
    }

    /// Payload of a full segment.
    pub const fn segment(&self) -> u64 {
        self.segment
    }

    #[cfg(test)]
    pub const fn window(&self) -> u64 {
        self.cubic.window()
    }

    #[cfg(test)]
    pub const fn sent_bytes(&self) -> u64 {
        self.sent
    }

    #[cfg(test)]
    pub fn pipe(&self) -> u64 {
        self.board.pipe()
    }

    fn open(&mut self, now: Instant) {
        // Each connection has numbers of its own, so that segments of the last one are not taken
        // for its (RFC 9293, 3.4.1).
        self.isn = (self.config.key >> 32) as u32
            ^ (self.config.key as u32).wrapping_mul(self.attempts.wrapping_add(1));
        self.attempts += 1;
        self.opened_at = now;
        self.state = State::SynSent;
        self.pending = Some(Pending::Syn);
        self.timers.retransmit = now + self.round_trip.timeout();
    }

    fn establish(&mut self, segment: &Segment, now: Instant) {
        self.state = State::Established;
        self.pending = Some(Pending::Ack);
        self.peer_isn = segment.sequence;
        self.peer_scale = segment.window_scale.unwrap_or(0);
        self.peer_window = segment.window.into();
        self.echo = segment.timestamps.map_or(0, |timestamps| timestamps.value);
        let mss = segment.mss.unwrap_or(self.config.mss).min(self.config.mss);
        self.segment = u64::from(mss.saturating_sub(TIMESTAMPS_LEN).max(1));
        self.cubic = Cubic::new(self.segment);
        // RFC 5681, 3.1; Linux lets one retransmission pass.
        if self.round_trip.timeouts() > 1 {
            self.cubic.set_window(self.segment);
        }
        let sent_once = (self.round_trip.timeouts() == 0).then(|| now.since(self.opened_at));
        if let Some(measured) = sent_once.or_else(|| echoed(segment, now)) {
            self.round_trip.sample(measured);
        }
        self.round_trip.progress();
        self.timers = Timers::OFF;
    }

    /// The connection is gone. The application opens another one.
    fn end(&mut self, now: Instant) {
        self.record.ended(now);
        self.application.reconnect(self.acknowledged);
        self.state = State::Closed(now + REOPEN);
        (self.acknowledged, self.sent) = (0, 0);
        self.board.clear();
        self.round_trip = RoundTrip::default();
        self.phase = Phase::Open;
        self.usage = Usage::default();
        self.probe = None;
        self.rescued = None;
        self.pending = None;
        self.timers = Timers::OFF;
    }

    fn acknowledge(&mut self, segment: &Segment, now: Instant) {
        let ahead = distance(self.sequence(self.acknowledged), segment.acknowledgement);
        let Some(to) = self.place(ahead) else { return };
        let advanced = to > self.acknowledged;
        self.peer_window = u64::from(segment.window) << self.peer_scale;
        self.echo = segment.timestamps.map_or(self.echo, |timestamps| timestamps.value);

        let mut delivery = Delivery::new(now, self.round_trip.min());
        if advanced {
            self.board.acknowledge(to, &mut delivery);
            self.acknowledged = to;
        }
        self.take_sacks(segment, &mut delivery);
        let by_clock = || echoed(segment, now).filter(|_| advanced);
        if let Some(measured) = delivery.round_trip().or_else(by_clock) {
            self.round_trip.sample(measured);
            self.record.round_trip(measured, now);
        }
        if advanced {
            self.round_trip.progress();
            self.timers.retransmit = now + self.round_trip.timeout();
        }

        match self.phase {
            Phase::Recovery { until, .. } if self.acknowledged >= until => {
                self.cubic.set_window(self.cubic.threshold());
                self.phase = Phase::Open;
            }
            Phase::Loss { until } if self.acknowledged >= until => self.phase = Phase::Open,
            Phase::Open | Phase::Recovery { .. } | Phase::Loss { .. } => {}
        }
        self.conclude_probe(segment, advanced, delivery.bytes);
        self.find_losses(&delivery, advanced);
        if matches!(self.phase, Phase::Open | Phase::Loss { .. }) && advanced {
            let limited = self.usage.limited
                || (self.cubic.in_slow_start() && self.cubic.window() < 2 * self.usage.most_sent);
            self.cubic.acknowledged(delivery.bytes, limited, self.round_trip.min(), now);
        }
        if self.board.is_empty() {
            self.timers = Timers::OFF;
        } else if advanced || delivery.bytes > 0 {
            self.arm_tail_probe(now);
        }
    }

    /// A place in the stream so far from the first unacknowledged byte, if it has been sent.
    fn place(&self, ahead: i64) -> Option<u64> {
        let place = self.acknowledged.checked_add_signed(ahead)?;
        (ahead >= 0 && place <= self.sent).then_some(place)
    }

    fn take_sacks(&mut self, segment: &Segment, delivery: &mut Delivery) {
        if segment.sacks.is_empty() {
            return;
        }
        let first = self.sequence(self.acknowledged);
        let mut blocks = [(0, 0); SACKS_MAX];
        for (block, (left, right)) in blocks.iter_mut().zip(segment.sacks.iter()) {
            let edges = (self.place(distance(first, left)), self.place(distance(first, right)));
            if let (Some(left), Some(right)) = edges {
                *block = (left, right);
            }
        }
        // From the lowest, so that blocks of one ACK do not look like reordering.
        blocks.sort_unstable();
        for (left, right) in blocks.into_iter().filter(|(left, right)| left < right) {
            self.board.sack(left..right, delivery);
        }
    }

    /// Marks what is lost and enters or continues fast recovery.
    fn find_losses(&mut self, delivery: &Delivery, advanced: bool) {
        let recovering = self.phase != Phase::Open;
        let smoothed = self.round_trip.smoothed();
        let (lost, deadline) = self.board.find_losses(self.segment, recovering, smoothed, delivery);
        self.timers.reorder = deadline;
        if self.phase == Phase::Open && lost > 0 {
            self.cubic.reduce();
            let flight = self.sent - self.acknowledged;
            let reduction = Reduction { flight, delivered: 0, sent: 0 };
            self.phase = Phase::Recovery { until: self.sent, reduction };
            self.rescued = None;
            self.probe = None;
            self.timers.tail = Instant::NEVER;
        }
        self.reduce_rate(delivery.bytes, lost > 0, advanced);
    }

    /// RFC 6937, with Linux's choice of the bound: slow start only while nothing more is lost.
    fn reduce_rate(&mut self, delivered: u64, more_lost: bool, advanced: bool) {
        let Phase::Recovery { reduction, .. } = &mut self.phase else { return };
        reduction.delivered += delivered;
        let (pipe, threshold) = (self.board.pipe(), self.cubic.threshold());
        let allowed = if pipe > threshold {
            let due = (reduction.delivered * threshold).div_ceil(reduction.flight.max(1));
            due.saturating_sub(reduction.sent)
        } else {
            let bound = reduction.delivered.saturating_sub(reduction.sent).max(delivered);
            let growth = if advanced && !more_lost { self.segment } else { 0 };
            (bound + growth).min(threshold - pipe)
        };
        // The first retransmission goes out whatever the sums say.
        let allowed = if reduction.sent == 0 { allowed.max(self.segment) } else { allowed };
        self.cubic.set_window(pipe + allowed);
    }

    /// What the ACK says of a tail loss probe (RFC 8985, 7.4, without D-SACK).
    fn conclude_probe(&mut self, segment: &Segment, advanced: bool, delivered: u64) {
        let Some(probe) = self.probe.filter(|probe| self.acknowledged >= probe.end) else { return };
        if !probe.is_resent || self.phase != Phase::Open {
            self.probe = None;
        } else if self.acknowledged > probe.end {
            // The probe repaired a loss, which is answered as any other is.
            self.probe = None;
            self.cubic.reduce();
            self.cubic.set_window(self.cubic.threshold());
        } else if !advanced && delivered == 0 && segment.sacks.is_empty() {
            // A duplicate ACK: the original had arrived.
            self.probe = None;
        }
    }

    /// RFC 8985, 7.2.
    fn arm_tail_probe(&mut self, now: Instant) {
        let permitted = self.phase == Phase::Open
            && self.probe.is_none()
            && self.board.is_in_order()
            && !self.board.is_empty();
        if !permitted {
            self.timers.tail = Instant::NEVER;
            return;
        }
        let one = self.sent - self.acknowledged <= self.segment;
        let slack = if one { PROBE_ACK_DELAY } else { PROBE_SLACK };
        let due = now + self.round_trip.smoothed() * 2 + slack;
        self.timers.tail = due.min(self.timers.retransmit);
    }

    fn time_out(&mut self, now: Instant) {
        self.record.timed_out(now);
        self.round_trip.back_off();
        let most = if self.state == State::SynSent { SYN_TIMEOUTS_MAX } else { TIMEOUTS_MAX };
        if self.round_trip.timeouts() > most {
            let tell = self.state == State::Established;
            let sequence = self.sequence(self.sent);
            self.end(now);
            self.pending = tell.then_some(Pending::Reset(sequence));
            return;
        }
        self.timers.retransmit = now + self.round_trip.timeout();
        if self.state == State::SynSent {
            self.pending = Some(Pending::Syn);
            return;
        }
        // RFC 5681, 3.1: once for each window of data.
        if self.phase == Phase::Open {
            self.cubic.reduce();
        }
        self.cubic.collapse();
        self.board.lose_all();
        self.phase = Phase::Loss { until: self.sent };
        self.probe = None;
        self.rescued = None;
        self.timers.tail = Instant::NEVER;
        self.timers.reorder = Instant::NEVER;
    }

    fn emit_pending(&mut self, pending: Pending, now: Instant) -> Option<Outgoing> {
        let control = |segment| Some(Outgoing { segment, offset: 0 });
        match pending {
            Pending::Syn => control(Segment {
                sequence: self.isn,
                flags: Flags::SYN,
                window: WINDOW,
                mss: Some(self.config.mss),
                window_scale: Some(WINDOW_SCALE),
                sack_permitted: true,
                timestamps: Some(Timestamps { value: clock(now), echo: 0 }),
                ..Segment::default()
            }),
            Pending::Ack => control(self.header(self.sent, now)),
            Pending::Reset(sequence) => control(Segment::reset(sequence)),
            Pending::TailProbe => self.probe_tail(now),
        }
    }

    /// New data if there is any, and else the last segment again (RFC 8985, 7.3).
    fn probe_tail(&mut self, now: Instant) -> Option<Outgoing> {
        let fresh = self.unsent(now).min(self.segment);
        let is_resent = fresh == 0;
        let outgoing = if is_resent {
            let range = self.board.last_outstanding(self.segment)?;
            self.resend(range, now)
        } else {
            self.send(fresh, now)
        };
        self.probe = Some(Probe { end: self.sent, is_resent });
        self.timers.tail = Instant::NEVER;
        Some(outgoing)
    }

    /// NextSeg (RFC 6675, 4) as far as the window allows.
    fn transmit(&mut self, now: Instant) -> Option<Outgoing> {
        let room = self.cubic.window().saturating_sub(self.board.pipe());
        if let Some(lost) = self.board.next_lost() {
            return self.resend_within(lost, room, now);
        }
        let unsent = self.unsent(now);
        if unsent == 0 {
            self.timers.write = self.application.next_write();
            return self.resend_doubtful(room, now);
        }
        let largest = self.super_frame();
        let whole = unsent.min(room).min(largest) / self.segment * self.segment;
        let bytes = if unsent <= room.min(largest) { unsent } else { whole };
        let limited = room < unsent;
        if bytes == 0 || self.defers(unsent, room, largest, now) {
            self.note_usage(limited);
            return None;
        }
        let outgoing = self.send(bytes, now);
        self.note_usage(self.board.pipe() >= self.cubic.window());
        Some(outgoing)
    }

    fn resend_doubtful(&mut self, room: u64, now: Instant) -> Option<Outgoing> {
        if !matches!(self.phase, Phase::Recovery { .. }) {
            return None;
        }
        if let Some(doubtful) = self.board.next_doubtful() {
            return self.resend_within(doubtful, room, now);
        }
        // Rule 4: once, or again after progress beyond the last one.
        if self.rescued.is_some_and(|rescued| self.acknowledged <= rescued) {
            return None;
        }
        let last = self.board.unprobed_tail(self.segment)?;
        let outgoing = self.resend_within(last, room, now)?;
        self.rescued = Some(self.sent);
        Some(outgoing)
    }

    /// As much of the range as whole segments fit the window.
    fn resend_within(&mut self, range: Range<u64>, room: u64, now: Instant) -> Option<Outgoing> {
        let len = range.end - range.start;
        let most = room.min(self.super_frame());
        let bytes = if len <= most { len } else { most / self.segment * self.segment };
        (bytes > 0).then(|| self.resend(range.start..range.start + bytes, now))
    }

    fn resend(&mut self, range: Range<u64>, now: Instant) -> Outgoing {
        self.record.resent(self.segments(&range), now);
        if range.start == self.acknowledged {
            self.timers.retransmit = now + self.round_trip.timeout();
        }
        self.board.resend(range.clone(), now);
        self.data(range, now)
    }

    fn send(&mut self, bytes: u64, now: Instant) -> Outgoing {
        let range = self.sent..self.sent + bytes;
        self.sent = range.end;
        self.board.send(range.clone(), now);
        if self.timers.retransmit == Instant::NEVER {
            self.timers.retransmit = now + self.round_trip.timeout();
        }
        self.arm_tail_probe(now);
        self.data(range, now)
    }

    fn data(&mut self, range: Range<u64>, now: Instant) -> Outgoing {
        let bytes = range.end - range.start;
        self.record.sent(self.segments(&range), now);
        if let Phase::Recovery { reduction, .. } = &mut self.phase {
            reduction.sent += bytes;
        }
        self.last_transmit = now;
        let segment = Segment { len: bytes as u32, ..self.header(range.start, now) };
        Outgoing { segment, offset: range.start }
    }

    fn segments(&self, range: &Range<u64>) -> u64 {
        (range.end - range.start).div_ceil(self.segment)
    }

    /// Bytes that the application has written and the peer has room for.
    fn unsent(&self, now: Instant) -> u64 {
        let written = self.application.limit(self.acknowledged, self.sent, now);
        written.min(self.acknowledged + self.peer_window).saturating_sub(self.sent)
    }

    /// Bytes of the largest frame, whole segments (Linux's tcp_tso_autosize): what leaves in about a
    /// millisecond at the pacing rate, which is 2 or 1.2 windows a round trip
    /// (tcp_update_pacing_rate), and the more of a full one the shorter the least round trip is
    /// (ip-sysctl, tcp_tso_rtt_log: halved for each 512 µs).
    fn super_frame(&self) -> u64 {
        let nanos = self.round_trip.smoothed().as_nanos() as u64;
        let slow = self.cubic.window() < self.cubic.threshold() / 2;
        let percent = if slow { 200 } else { 120 };
        let window = self.cubic.window().max(self.sent - self.acknowledged);
        let rate = window.saturating_mul(percent * 10_000_000) / nanos.max(1);
        let halvings = self.round_trip.min().as_micros() >> TSO_ROUND_TRIP_LOG;
        let near = u32::try_from(halvings).ok().and_then(|by| PACKET_MAX.checked_shr(by));
        let fitting = (PACKET_MAX - 100) / self.segment;
        let most = SUPER_SEGMENTS.min(fitting).max(1);
        let bytes = rate / 1_024 + near.unwrap_or(0);
        let segments = (bytes / self.segment).max(SUPER_SEGMENTS_MIN).min(most);
        segments * self.segment
    }

    /// Whether to wait for the next ACK and send a larger frame then (Linux's
    /// tcp_tso_should_defer). The ACK must be near: within 1 ms and half a round trip, since "tcp:
    /// tcp_tso_should_defer() vs large RTT" (6.18, and in the stable kernels).
    fn defers(&self, unsent: u64, room: u64, largest: u64, now: Instant) -> bool {
        let smoothed = self.round_trip.smoothed();
        let near = DEFER_MAX.min(smoothed / 2);
        let soon = |oldest: Instant| (oldest + smoothed).since(now) <= near;
        self.phase == Phase::Open
            && self.board.is_in_order()
            && now.since(self.last_transmit) <= DEFER_MAX
            && room < unsent.min(largest)
            && room < self.cubic.window().min(self.peer_window) / DEFER_DIVISOR
            && self.board.oldest().is_some_and(soon)
    }

    fn note_usage(&mut self, limited: bool) {
        let usage = &mut self.usage;
        let in_flight = self.sent - self.acknowledged;
        if self.acknowledged >= usage.until
            || limited
            || (!usage.limited && in_flight > usage.most_sent)
        {
            *usage = Usage { limited, most_sent: in_flight, until: self.sent };
        }
    }

    fn note_busy(&mut self, now: Instant) {
        let writing = !self.application.is_stopped(now);
        let busy = match self.state {
            State::Closed(_) => writing && now >= self.application.start(),
            State::SynSent => writing,
            State::Established => {
                self.sent > self.acknowledged
                    || self.application.limit(self.acknowledged, self.sent, now) > self.sent
            }
        };
        self.record.set_busy(busy, now);
    }

    fn header(&self, place: u64, now: Instant) -> Segment {
        Segment {
            sequence: self.sequence(place),
            acknowledgement: self.peer_isn.wrapping_add(1),
            flags: Flags::ACK,
            window: WINDOW,
            timestamps: Some(Timestamps { value: clock(now), echo: self.echo }),
            ..Segment::default()
        }
    }

    /// The sequence number of a place in the stream.
    const fn sequence(&self, place: u64) -> u32 {
        self.isn.wrapping_add(1).wrapping_add(place as u32)
    }
}

/// A clock in milliseconds, as timestamps carry it; never zero, which says that nothing is echoed.
pub(super) fn clock(now: Instant) -> u32 {
    ((now.as_nanos() / 1_000_000) as u32).wrapping_add(1)
}

/// The round-trip time by the clock value that comes back, to a millisecond.
fn echoed(segment: &Segment, now: Instant) -> Option<Duration> {
    let echo = segment.timestamps.map(|timestamps| timestamps.echo).filter(|echo| *echo != 0)?;
    let elapsed = clock(now).wrapping_sub(echo);
    Some(Duration::from_millis(elapsed.into()))
}
