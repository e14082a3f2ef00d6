//! One session: the variables of RFC 5880, 6.8.1, and the rules that change them.

use std::time::Duration;

use crate::model::{BfdDownReason, BfdParameters, Instant, Random};
use crate::wire::bfd::{Repr, State};

/// Least transmit interval announced while the session is not Up (RFC 5880, 6.8.3).
const SLOW: Duration = Duration::from_secs(1);
/// Floor of both configured intervals, so that a zero in a configuration is not a busy loop.
const FASTEST: Duration = Duration::from_millis(1);

/// Diagnostic codes that this side gives (RFC 5880, 4.1).
mod diagnostic {
    pub(super) const NONE: u8 = 0;
    pub(super) const DETECTION_TIME_EXPIRED: u8 = 1;
    pub(super) const NEIGHBOR_SIGNALED_DOWN: u8 = 3;
    pub(super) const ADMINISTRATIVELY_DOWN: u8 = 7;
}

/// A change that the rest of the router cares for. Moves among the states below Up are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transition {
    Up,
    Down(BfdDownReason),
}

/// The state machine of one session.
///
/// After each call that takes `now`, the owner takes what [`Session::poll_event`] and
/// [`Session::poll_transmit`] have for it.
#[derive(Debug)]
pub struct Session {
    state: State,
    diagnostic: u8,
    discriminator: u32,
    configured: Timers,
    detect_mult: u8,
    /// What packets say; the transmit interval is at least [`SLOW`] while not Up.
    announced: Timers,
    /// What this side goes by. It differs from `announced` while a poll sequence asks the peer to
    /// confirm a slower transmission or a shorter reception (6.8.3).
    in_force: Timers,
    poll: Poll,
    remote: Remote,
    /// Time between packets before jitter; `None` while the peer wants no periodic packets.
    interval: Option<Duration>,
    sent_at: Instant,
    next_transmit: Instant,
    transmit_due: bool,
    final_due: bool,
    event: Option<Transition>,
    up_since: Option<Instant>,
    transitions: u64,
    random: Random,
}

/// The two intervals that a side announces (6.8.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Timers {
    desired_min_tx: Duration,
    required_min_rx: Duration,
}

/// Where the poll sequence of this side is (6.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Poll {
    Idle,
    Asking,
    /// Parameters changed again while asking: the next Final belongs to the earlier question.
    AskingAgain,
}

/// What is known of the peer, from its last packet.
#[derive(Clone, Copy, Debug)]
struct Remote {
    discriminator: u32,
    state: State,
    desired_min_tx: Duration,
    required_min_rx: Duration,
    detect_mult: u8,
    demand: bool,
    heard_at: Option<Instant>,
}

impl Remote {
    /// The initial values of 6.8.1; also what remains when a detection time passes in silence.
    const UNKNOWN: Self = Self {
        discriminator: 0,
        state: State::Down,
        desired_min_tx: Duration::ZERO,
        required_min_rx: Duration::from_micros(1),
        detect_mult: 0,
        demand: false,
        heard_at: None,
    };

    fn of(packet: &Repr, now: Instant) -> Self {
        Self {
            discriminator: packet.my_discriminator,
            state: packet.state,
            desired_min_tx: Duration::from_micros(packet.desired_min_tx_us.into()),
            required_min_rx: Duration::from_micros(packet.required_min_rx_us.into()),
            detect_mult: packet.detect_mult,
            demand: packet.demand,
            heard_at: Some(now),
        }
    }
}

impl Session {
    /// A session in Down that sends its first packet at once. `discriminator` is not zero and
    /// unique in the router (6.8.1).
    pub fn new(
        parameters: &BfdParameters,
        discriminator: u32,
        random: Random,
        now: Instant,
    ) -> Self {
        let configured = Timers::of(parameters);
        let announced = configured.slowed();
        Self {
            state: State::Down,
            diagnostic: diagnostic::NONE,
            discriminator,
            configured,
            detect_mult: parameters.detect_mult.max(1),
            announced,
            in_force: announced,
            poll: Poll::Idle,
            remote: Remote::UNKNOWN,
            interval: Some(announced.desired_min_tx),
            sent_at: now,
            next_transmit: now,
            transmit_due: false,
            final_due: false,
            event: None,
            up_since: None,
            transitions: 0,
            random,
        }
    }

    /// A packet that belongs to this session and has passed the checks of RFC 5880, 6.8.6, that
    /// come before the selection of the session.
    pub fn handle_packet(&mut self, packet: &Repr, now: Instant) {
        let restarted = ![0, packet.my_discriminator].contains(&self.remote.discriminator);
        self.remote = Remote::of(packet, now);
        if packet.final_ {
            self.end_poll();
        }
        let next = next_state(self.state, packet.state);
        let reason = match packet.state {
            State::AdminDown => BfdDownReason::NeighborAdminDown,
            State::Down | State::Init | State::Up if restarted => BfdDownReason::NeighborRestarted,
            State::Down | State::Init | State::Up => BfdDownReason::NeighborSignaledDown,
        };
        self.enter(next, reason, now);
        // A session out of service discards the packet before the P bit is looked at (6.8.6).
        self.final_due |= packet.poll && self.state != State::AdminDown;
        self.reschedule(now);
    }

    /// Sends what is due and notices silence. Harmless when called early.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.detection_deadline() {
            self.expire(now);
        }
        if now >= self.next_transmit {
            self.transmit_due = true;
            self.sent_at = now;
            self.next_transmit = match self.interval {
                Some(interval) => now + self.jittered(interval),
                None => Instant::NEVER,
            };
        }
    }

    /// The next packet to send, at most a Final and a periodic one after each call with a time.
    pub fn poll_transmit(&mut self) -> Option<Repr> {
        let polling = self.poll != Poll::Idle;
        if self.final_due {
            self.final_due = false;
            // A packet has P or F but never both (6.5); without a poll the Final says it all.
            self.transmit_due &= polling;
            return Some(self.packet(false, true));
        }
        if self.transmit_due {
            self.transmit_due = false;
            return Some(self.packet(polling, false));
        }
        None
    }

    pub fn poll_event(&mut self) -> Option<Transition> {
        self.event.take()
    }

    /// Changes intervals and multiplier of a running session; an Up session asks its peer to
    /// confirm by a poll sequence (6.8.3) and stays Up.
    pub fn set_parameters(&mut self, parameters: &BfdParameters, now: Instant) {
        self.configured = Timers::of(parameters);
        let detect_mult = parameters.detect_mult.max(1);
        self.transmit_due |= detect_mult != self.detect_mult;
        self.detect_mult = detect_mult;
        self.announce(now);
    }

    /// Takes the session out of service, or puts it back into Down (6.8.16). The peer is told;
    /// there is no event, because the path did not fail.
    pub fn set_admin_down(&mut self, down: bool, now: Instant) {
        let next = match (self.state, down) {
            (State::AdminDown | State::Down | State::Init | State::Up, true) => State::AdminDown,
            (State::AdminDown, false) => State::Down,
            (State::Down | State::Init | State::Up, false) => return,
        };
        self.change_state(next, now);
        self.diagnostic = if down { diagnostic::ADMINISTRATIVELY_DOWN } else { diagnostic::NONE };
        self.reschedule(now);
    }

    /// When [`Session::handle_timeout`] must next be called.
    pub fn poll_timeout(&self) -> Instant {
        self.next_transmit.min(self.detection_deadline())
    }

    pub fn wants_transmit(&self) -> bool {
        self.transmit_due || self.final_due
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn diagnostic(&self) -> u8 {
        self.diagnostic
    }

    pub fn discriminator(&self) -> u32 {
        self.discriminator
    }

    /// Zero while the peer is unknown.
    pub fn remote_discriminator(&self) -> u32 {
        self.remote.discriminator
    }

    /// Between packets of ours, before jitter: the slower of what we desire and the peer requires
    /// (6.8.2). Zero while the peer wants no periodic packets.
    pub fn transmit_interval(&self) -> Duration {
        self.interval.unwrap_or_default()
    }

    /// Between packets of the peer: the slower of what it desires and we require.
    pub fn receive_interval(&self) -> Duration {
        self.in_force.required_min_rx.max(self.remote.desired_min_tx)
    }

    /// The silence after which the session is Down (6.8.4). Zero while the peer is unknown.
    pub fn detection_time(&self) -> Duration {
        self.receive_interval() * self.remote.detect_mult.into()
    }

    pub fn up_since(&self) -> Option<Instant> {
        self.up_since
    }

    /// Changes of state so far.
    pub fn transitions(&self) -> u64 {
        self.transitions
    }

    fn detection_deadline(&self) -> Instant {
        self.remote.heard_at.map_or(Instant::NEVER, |heard| heard + self.detection_time())
    }

    /// A detection time has passed in silence (6.8.4); the peer is forgotten in every state (6.8.1,
    /// bfd.RemoteDiscr), so that it may come back as another.
    fn expire(&mut self, now: Instant) {
        self.remote = Remote::UNKNOWN;
        let next = match self.state {
            State::AdminDown => State::AdminDown,
            State::Down | State::Init | State::Up => State::Down,
        };
        self.enter(next, BfdDownReason::DetectionTimeExpired, now);
        self.reschedule(now);
    }

    /// Moves to `next`, which the peer or its silence has caused.
    fn enter(&mut self, next: State, reason: BfdDownReason, now: Instant) {
        if next == self.state {
            return;
        }
        self.event = match (self.state, next) {
            (_, State::Up) => Some(Transition::Up),
            (State::Up, _) => Some(Transition::Down(reason)),
            (State::AdminDown | State::Down | State::Init, _) => self.event,
        };
        self.diagnostic = match (next, reason) {
            (State::Down, BfdDownReason::DetectionTimeExpired) => {
                diagnostic::DETECTION_TIME_EXPIRED
            }
            (State::Down, _) => diagnostic::NEIGHBOR_SIGNALED_DOWN,
            (State::Up, _) => diagnostic::NONE,
            (State::Init | State::AdminDown, _) => self.diagnostic,
        };
        self.change_state(next, now);
    }

    fn change_state(&mut self, next: State, now: Instant) {
        if next == self.state {
            return;
        }
        self.state = next;
        self.transitions += 1;
        self.up_since = (next == State::Up).then_some(now);
        // A change of state is told at once and not at the next interval (6.8.7).
        self.transmit_due = true;
        self.announce(now);
    }

    /// Brings what is announced in line with configuration and state (6.8.3).
    ///
    /// Only an Up session asks for confirmation: below Up both sides are slow, nothing depends on
    /// the answer, and common peers do not ask there either.
    fn announce(&mut self, now: Instant) {
        let timers =
            if self.state == State::Up { self.configured } else { self.configured.slowed() };
        let changed = timers != self.announced;
        self.announced = timers;
        if self.state != State::Up {
            self.in_force = timers;
            self.poll = Poll::Idle;
        } else if changed {
            // Sending faster and waiting longer are safe at once; the opposite needs the peer.
            self.in_force = Timers {
                desired_min_tx: self.in_force.desired_min_tx.min(timers.desired_min_tx),
                required_min_rx: self.in_force.required_min_rx.max(timers.required_min_rx),
            };
            self.poll = match self.poll {
                Poll::Idle => Poll::Asking,
                Poll::Asking | Poll::AskingAgain => Poll::AskingAgain,
            };
        }
        self.transmit_due |= changed;
        self.reschedule(now);
    }

    fn end_poll(&mut self) {
        self.poll = match self.poll {
            Poll::Idle => return,
            Poll::Asking => {
                self.in_force = self.announced;
                Poll::Idle
            }
            Poll::AskingAgain => {
                self.transmit_due = true;
                Poll::Asking
            }
        };
    }

    /// Recomputes the transmit interval (6.8.2). A shorter one counts from the last packet, a
    /// longer one from the next.
    fn reschedule(&mut self, now: Instant) {
        let interval = self.negotiated_interval();
        if interval == self.interval {
            return;
        }
        let shorter = match (interval, self.interval) {
            (Some(new), Some(old)) => new < old,
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.interval = interval;
        match interval {
            None => self.next_transmit = Instant::NEVER,
            Some(interval) if shorter => {
                let next = (self.sent_at + self.jittered(interval)).max(now);
                self.next_transmit = self.next_transmit.min(next);
            }
            Some(_) => {}
        }
    }

    /// `None` when the peer takes no periodic packets: Required Min RX 0, or demand mode while
    /// both sides are Up and no poll sequence runs (6.8.7).
    fn negotiated_interval(&self) -> Option<Duration> {
        let on_demand = self.remote.demand
            && self.state == State::Up
            && self.remote.state == State::Up
            && self.poll == Poll::Idle;
        let silent = self.remote.required_min_rx.is_zero() || on_demand;
        (!silent).then(|| self.in_force.desired_min_tx.max(self.remote.required_min_rx))
    }

    /// 75–100 % of the interval; at most 90 % where one lost packet is a failure (6.8.7).
    fn jittered(&mut self, interval: Duration) -> Duration {
        let high = if self.detect_mult == 1 { 90 } else { 100 };
        self.random.jittered(interval, 75, high)
    }

    fn packet(&self, poll: bool, final_: bool) -> Repr {
        Repr {
            diagnostic: self.diagnostic,
            state: self.state,
            poll,
            final_,
            // It is forwarding's: a control process may die and come back meanwhile.
            control_plane_independent: true,
            demand: false,
            detect_mult: self.detect_mult,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx_us: micros(self.announced.desired_min_tx),
            required_min_rx_us: micros(self.announced.required_min_rx),
            // No echo function: the MSEE offers none (section 20).
            required_min_echo_rx_us: 0,
        }
    }
}

impl Timers {
    fn of(parameters: &BfdParameters) -> Self {
        Self {
            desired_min_tx: parameters.desired_min_tx.max(FASTEST),
            required_min_rx: parameters.required_min_rx.max(FASTEST),
        }
    }

    fn slowed(self) -> Self {
        Self { desired_min_tx: self.desired_min_tx.max(SLOW), ..self }
    }
}

/// The table of RFC 5880, 6.2 and 6.8.6: our state, the state in the packet, our next state.
fn next_state(state: State, received: State) -> State {
    match (state, received) {
        (State::AdminDown, State::AdminDown | State::Down | State::Init | State::Up) => {
            State::AdminDown
        }

        (State::Down, State::Down) => State::Init,
        (State::Down, State::Init) => State::Up,
        (State::Down, State::AdminDown | State::Up) => State::Down,

        (State::Init, State::Init | State::Up) => State::Up,
        (State::Init, State::Down) => State::Init,
        (State::Init, State::AdminDown) => State::Down,

        (State::Up, State::Init | State::Up) => State::Up,
        (State::Up, State::AdminDown | State::Down) => State::Down,
    }
}

/// As the wire carries it; an interval beyond 71 minutes is sent as that.
fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}
