//! Two tables joined by a virtual wire, one table fed by hand, and the folders of `fixtures/bfd`.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::bfd::{Event, Outgoing, Refused, Row, Sessions};
use crate::model::{AttachmentIndex, BfdDownReason, BfdParameters, Instant};
use crate::wire;
use crate::wire::bfd::{Repr, State};

const HERE: AttachmentIndex = AttachmentIndex(1);
const ELSEWHERE: AttachmentIndex = AttachmentIndex(2);
const FIXTURES: &str = "fixtures/bfd";

mod pair {
    use super::*;

    /// Two tables with one session each, joined by a wire, with a clock that belongs to the test.
    struct Pair {
        now: Instant,
        ends: [Sessions; 2],
        addresses: [IpAddr; 2],
        /// Whether packets that end 0, end 1 sends are lost.
        cut: [bool; 2],
        sent: [Vec<Instant>; 2],
        events: [Vec<(Instant, Event)>; 2],
        /// Begins the next session of each end with other discriminators.
        seed: u64,
    }

    impl Pair {
        fn new(milliseconds: [u64; 2], detect_mult: u8) -> Self {
            let mut pair = Self::unset();
            for (end, interval) in milliseconds.into_iter().enumerate() {
                pair.set(end, Some((interval, detect_mult)));
            }
            pair
        }

        fn unset() -> Self {
            Self {
                now: Instant::ZERO,
                ends: [Sessions::new(1), Sessions::new(2)],
                addresses: ["172.16.0.1".parse().unwrap(), "172.16.0.2".parse().unwrap()],
                cut: [false; 2],
                sent: [vec![], vec![]],
                events: [vec![], vec![]],
                seed: 2,
            }
        }

        fn set(&mut self, end: usize, interval: Option<(u64, u8)>) {
            let parameters = interval.map(|(ms, mult)| parameters(self.addresses[end], ms, mult));
            self.ends[end].set(HERE, self.addresses[1 - end], parameters, self.now);
        }

        /// The router at this end dies and comes back without a word, other discriminators drawn.
        fn restart(&mut self, end: usize, milliseconds: u64) {
            self.seed += 1;
            self.ends[end] = Sessions::new(self.seed);
            self.set(end, Some((milliseconds, 3)));
        }

        fn run_for(&mut self, milliseconds: u64) {
            let end = self.now + Duration::from_millis(milliseconds);
            loop {
                self.exchange();
                if self.now == end {
                    return;
                }
                let next = self.ends.iter().map(Sessions::poll_timeout).min().unwrap();
                assert!(next >= self.now, "a deadline is in the past");
                self.now = next.min(end);
            }
        }

        /// Passes packets on until neither end has more to say at this instant.
        fn exchange(&mut self) {
            for i in 0..2 {
                self.ends[i].handle_timeout(self.now);
            }
            while let Some(i) = (0..2).find(|&i| self.deliver_from(i)) {
                self.collect(i);
                self.collect(1 - i);
            }
            self.collect(0);
            self.collect(1);
        }

        fn deliver_from(&mut self, i: usize) -> bool {
            let Some(packet) = self.ends[i].poll_transmit() else { return false };
            self.sent[i].push(self.now);
            if !self.cut[i] {
                let payload = payload(&packet.repr);
                // A packet for a session that has just ended is refused, as on a real link.
                let _ = self.ends[1 - i].handle_packet(
                    HERE,
                    self.addresses[i],
                    255,
                    &payload,
                    self.now,
                );
            }
            true
        }

        fn collect(&mut self, i: usize) {
            while let Some(event) = self.ends[i].poll_event() {
                self.events[i].push((self.now, event));
            }
        }

        fn row(&self, end: usize) -> Row {
            self.ends[end].rows().next().expect("one session")
        }

        fn states(&self) -> [State; 2] {
            [self.row(0).state, self.row(1).state]
        }

        /// Reasons of the failures that an end saw.
        fn failures(&self, end: usize) -> Vec<BfdDownReason> {
            let reason = |event: &(Instant, Event)| match event.1 {
                Event::Down { reason, .. } => Some(reason),
                Event::Up { .. } => None,
            };
            self.events[end].iter().filter_map(reason).collect()
        }
    }

    #[test]
    fn comes_up_at_once_and_detects_a_cut_within_the_detection_time() {
        let mut pair = Pair::new([300, 300], 3);
        pair.run_for(1);
        assert_eq!(pair.states(), [State::Up; 2]);
        pair.run_for(5_000);
        assert_eq!(pair.states(), [State::Up; 2]);
        assert_eq!(pair.row(0).detection_time, Duration::from_millis(900));

        pair.cut = [true; 2];
        let cut_at = pair.now;
        pair.run_for(901);
        assert_eq!(pair.states(), [State::Down; 2]);
        for end in 0..2 {
            assert_eq!(pair.failures(end), [BfdDownReason::DetectionTimeExpired]);
            let took = pair.events[end].last().unwrap().0.since(cut_at);
            assert!(took >= Duration::from_millis(600), "{took:?} is before three intervals");
        }
        assert_eq!(pair.row(0).diagnostic, 1);
        assert_eq!(pair.row(0).remote_discriminator, 0);
    }

    #[test]
    fn is_slow_while_the_peer_is_absent() {
        let mut pair = Pair::unset();
        pair.set(0, Some((300, 3)));
        pair.run_for(60_000);
        assert_eq!(pair.row(0).state, State::Down);
        // 75–100 % of a second each.
        assert!((60..=81).contains(&pair.sent[0].len()), "{} packets", pair.sent[0].len());
        assert!(pair.events[0].is_empty());
    }

    #[test]
    fn the_slower_side_wins_in_each_direction() {
        let mut pair = Pair::new([300, 750], 3);
        pair.run_for(10_000);
        for end in 0..2 {
            assert_eq!(pair.row(end).transmit_interval, Duration::from_millis(750));
            assert_eq!(pair.row(end).detection_time, Duration::from_millis(2_250));
        }
        pair.cut = [true; 2];
        pair.run_for(2_251 - 750);
        assert_eq!(pair.states(), [State::Up; 2]);
        pair.run_for(750);
        assert_eq!(pair.states(), [State::Down; 2]);
    }

    #[test]
    fn seven_hundred_and_fifty_times_three_is_two_and_a_quarter_seconds() {
        let mut pair = Pair::new([750, 750], 3);
        pair.run_for(10_000);
        assert_eq!(pair.row(1).detection_time, Duration::from_millis(2_250));
        assert!(pair.failures(0).is_empty() && pair.failures(1).is_empty());
    }

    #[test]
    fn jitter_is_within_its_bounds_also_with_a_multiplier_of_one() {
        for (mult, high) in [(3, 300), (1, 270)] {
            let mut pair = Pair::new([300, 300], mult);
            pair.run_for(2_000);
            pair.sent[0].clear();
            pair.run_for(60_000);
            let gaps: Vec<_> = pair.sent[0].windows(2).map(|w| w[1].since(w[0])).collect();
            assert!(gaps.len() >= 200);
            let (low, high) = (Duration::from_millis(225), Duration::from_millis(high));
            assert!(gaps.iter().all(|gap| (low..=high).contains(gap)));
            assert!(*gaps.iter().max().unwrap() + Duration::from_millis(5) > high);
            assert_eq!(pair.states(), [State::Up; 2]);
        }
    }

    #[test]
    fn a_one_way_cut_takes_both_ends_down() {
        let mut pair = Pair::new([300, 300], 3);
        pair.run_for(3_000);
        pair.cut[0] = true;
        pair.run_for(901);
        assert_eq!(pair.failures(1), [BfdDownReason::DetectionTimeExpired]);
        assert_eq!(pair.failures(0), [BfdDownReason::NeighborSignaledDown]);
        pair.cut[0] = false;
        pair.run_for(2_000);
        assert_eq!(pair.states(), [State::Up; 2]);
    }

    #[test]
    fn a_restart_within_the_detection_time_is_no_failure_of_the_path() {
        let mut pair = Pair::new([300, 300], 3);
        pair.run_for(3_000);
        pair.restart(1, 300);
        pair.run_for(2_000);
        assert_eq!(pair.states(), [State::Up; 2]);
        assert_eq!(pair.failures(0), [BfdDownReason::NeighborRestarted]);
    }

    #[test]
    fn ended_and_disabled_sessions_are_told_and_come_back() {
        let mut pair = Pair::new([300, 300], 3);
        pair.run_for(3_000);
        pair.set(1, None);
        pair.run_for(5_000);
        assert_eq!(pair.failures(0), [BfdDownReason::NeighborAdminDown]);
        assert_eq!(pair.ends[1].rows().count(), 0);

        pair.set(1, Some((300, 3)));
        pair.run_for(2_000);
        assert_eq!(pair.states(), [State::Up; 2]);

        let peer = pair.addresses[0];
        let now = pair.now;
        pair.ends[1].set_admin_down(HERE, peer, true, now);
        pair.run_for(10_000);
        assert_eq!(pair.states(), [State::Down, State::AdminDown]);
        assert_eq!(pair.failures(0), [BfdDownReason::NeighborAdminDown; 2]);
        assert!(pair.failures(1).is_empty());

        let now = pair.now;
        pair.ends[1].set_admin_down(HERE, peer, false, now);
        pair.run_for(2_000);
        assert_eq!(pair.states(), [State::Up; 2]);
    }

    #[test]
    fn other_intervals_are_agreed_by_a_poll_sequence_without_a_flap() {
        let mut pair = Pair::new([300, 300], 3);
        pair.run_for(3_000);
        for (interval, agreed) in [(1_000, 1_000), (100, 300), (750, 750), (300, 300)] {
            pair.set(0, Some((interval, 3)));
            pair.run_for(5_000);
            assert_eq!(pair.row(0).transmit_interval, Duration::from_millis(agreed));
            assert_eq!(pair.row(1).transmit_interval, Duration::from_millis(agreed));
            assert_eq!(pair.row(0).detection_time, Duration::from_millis(3 * agreed));
        }
        assert!(pair.failures(0).is_empty() && pair.failures(1).is_empty());
    }

    #[test]
    fn a_slower_interval_waits_for_the_final() {
        let mut pair = Pair::new([300, 300], 3);
        pair.run_for(3_000);
        pair.cut[1] = true;
        pair.set(0, Some((1_000, 3)));
        pair.run_for(500);
        assert_eq!(pair.row(0).transmit_interval, Duration::from_millis(300));
        pair.cut[1] = false;
        pair.run_for(400);
        assert_eq!(pair.row(0).transmit_interval, Duration::from_secs(1));
    }

    #[test]
    fn equal_parameters_change_nothing() {
        let mut pair = Pair::new([300, 300], 3);
        pair.run_for(3_000);
        let before = (pair.row(0), pair.sent[0].len());
        pair.set(0, Some((300, 3)));
        assert!(pair.ends[0].poll_transmit().is_none());
        assert_eq!((pair.row(0), pair.sent[0].len()), before);
    }

    #[test]
    fn the_same_seed_sends_at_the_same_instants() {
        let run = || {
            let mut pair = Pair::new([300, 300], 3);
            pair.run_for(10_000);
            pair.sent
        };
        assert_eq!(run(), run());
    }
}

/// One table whose peers are the test: customers A and B on two attachments, same addresses.
struct Customers {
    sessions: Sessions,
    peer: IpAddr,
    now: Instant,
}

impl Customers {
    fn new() -> Self {
        let mut sessions = Sessions::new(3);
        let peer = "172.16.0.1".parse().unwrap();
        let local = "172.16.0.2".parse().unwrap();
        for attachment in [HERE, ELSEWHERE] {
            sessions.set(attachment, peer, Some(parameters(local, 300, 3)), Instant::ZERO);
        }
        Self { sessions, peer, now: Instant::ZERO }
    }

    fn row(&self, attachment: AttachmentIndex) -> Row {
        self.sessions.rows().find(|row| row.attachment == attachment).unwrap()
    }

    fn send(&mut self, attachment: AttachmentIndex, repr: &Repr) -> Result<(), Refused> {
        let peer = self.peer;
        self.send_from(attachment, peer, 255, repr)
    }

    fn send_from(
        &mut self,
        attachment: AttachmentIndex,
        source: IpAddr,
        ttl: u8,
        repr: &Repr,
    ) -> Result<(), Refused> {
        self.sessions.handle_packet(attachment, source, ttl, &payload(repr), self.now)
    }

    fn bring_up(&mut self, attachment: AttachmentIndex, my_discriminator: u32) {
        let your_discriminator = self.row(attachment).discriminator;
        self.send(attachment, &Repr::sample(State::Down, my_discriminator, 0)).unwrap();
        self.send(attachment, &Repr::sample(State::Init, my_discriminator, your_discriminator))
            .unwrap();
        let event = self.sessions.poll_event();
        assert_eq!(event, Some(Event::Up { attachment, peer: self.peer }));
    }
}

#[test]
fn another_ttl_is_refused() {
    let mut customers = Customers::new();
    let peer = customers.peer;
    for ttl in [0, 1, 254] {
        let refused = customers.send_from(HERE, peer, ttl, &Repr::sample(State::Down, 7, 0));
        assert_eq!(refused, Err(Refused::Ttl(ttl)));
    }
    assert_eq!(customers.row(HERE).state, State::Down);
    assert_eq!(customers.row(HERE).remote_discriminator, 0);
}

#[test]
fn the_discriminator_of_another_customer_changes_nothing() {
    let mut customers = Customers::new();
    customers.bring_up(HERE, 7);
    customers.bring_up(ELSEWHERE, 8);
    let ours = customers.row(HERE).discriminator;
    let before: Vec<_> = customers.sessions.rows().collect();

    for state in [State::AdminDown, State::Down, State::Init, State::Up] {
        let refused = customers.send(ELSEWHERE, &Repr::sample(state, 8, ours));
        assert_eq!(refused, Err(Refused::WrongAttachment { expected: HERE }));
        let stranger = "172.16.0.9".parse().unwrap();
        let refused = customers.send_from(HERE, stranger, 255, &Repr::sample(state, 7, ours));
        assert_eq!(refused, Err(Refused::WrongSource { expected: customers.peer }));
        let refused = customers.send(HERE, &Repr::sample(state, 7, ours ^ 1));
        assert_eq!(refused, Err(Refused::UnknownDiscriminator(ours ^ 1)));
    }
    assert_eq!(customers.sessions.rows().collect::<Vec<_>>(), before);
    assert_eq!(customers.sessions.poll_event(), None);
}

#[test]
fn without_a_discriminator_only_down_and_admin_down_find_a_session() {
    let mut customers = Customers::new();
    for state in [State::Init, State::Up] {
        let refused = customers.send(HERE, &Repr::sample(state, 7, 0));
        assert_eq!(refused, Err(Refused::Malformed(wire::Error::Malformed)));
    }
    let refused = customers.send(AttachmentIndex(9), &Repr::sample(State::Down, 7, 0));
    assert_eq!(refused, Err(Refused::NoSession));
    customers.send(HERE, &Repr::sample(State::AdminDown, 7, 0)).unwrap();
    assert_eq!(customers.row(HERE).state, State::Down);
    customers.send(HERE, &Repr::sample(State::Down, 7, 0)).unwrap();
    assert_eq!(customers.row(HERE).state, State::Init);
    assert_eq!(customers.row(ELSEWHERE).state, State::Down);
}

#[test]
fn a_session_that_was_never_up_gives_no_failure() {
    let mut customers = Customers::new();
    customers.send(HERE, &Repr::sample(State::Down, 7, 0)).unwrap();
    assert_eq!(customers.row(HERE).state, State::Init);
    customers.now = Instant::from_secs(60);
    customers.sessions.handle_timeout(customers.now);
    assert_eq!(customers.row(HERE).state, State::Down);
    assert_eq!(customers.sessions.poll_event(), None);
}

#[test]
fn a_restart_is_told_from_a_failure_by_its_discriminator() {
    for (my_discriminator, reason) in
        [(7, BfdDownReason::NeighborSignaledDown), (77, BfdDownReason::NeighborRestarted)]
    {
        let mut customers = Customers::new();
        customers.bring_up(HERE, 7);
        customers.send(HERE, &Repr::sample(State::Down, my_discriminator, 0)).unwrap();
        let down = Event::Down { attachment: HERE, peer: customers.peer, reason };
        assert_eq!(customers.sessions.poll_event(), Some(down));
        assert_eq!(customers.row(HERE).diagnostic, 3);
    }
}

#[test]
fn a_poll_is_answered_by_a_final_at_once() {
    let mut customers = Customers::new();
    customers.bring_up(HERE, 7);
    while customers.sessions.poll_transmit().is_some() {}
    let ours = customers.row(HERE).discriminator;
    customers.send(HERE, &Repr { final_: true, ..Repr::sample(State::Up, 7, ours) }).unwrap();
    customers.send(HERE, &Repr { poll: true, ..Repr::sample(State::Up, 7, ours) }).unwrap();
    let answer = customers.sessions.poll_transmit().unwrap().repr;
    assert!(answer.final_ && !answer.poll);
    assert_eq!(answer.required_min_echo_rx_us, 0);
    assert_eq!(customers.sessions.poll_transmit(), None);
}

#[test]
fn a_peer_that_wants_no_periodic_packets_gets_none() {
    let silence = [
        Repr { required_min_rx_us: 0, ..Repr::sample(State::Up, 7, 0) },
        Repr { demand: true, ..Repr::sample(State::Up, 7, 0) },
    ];
    for wish in silence {
        let mut customers = Customers::new();
        customers.bring_up(HERE, 7);
        let ours = customers.row(HERE).discriminator;
        let wish = Repr { your_discriminator: ours, final_: true, ..wish };
        customers.send(HERE, &wish).unwrap();
        while customers.sessions.poll_transmit().is_some() {}
        assert_eq!(customers.row(HERE).transmit_interval, Duration::ZERO);
        customers.now = Instant::from_millis(899);
        customers.sessions.handle_timeout(customers.now);
        let mine = |packet: &Outgoing| packet.attachment == HERE;
        assert!(!std::iter::from_fn(|| customers.sessions.poll_transmit()).any(|p| mine(&p)));
    }
}

#[test]
fn source_ports_differ_between_sessions_and_stay() {
    let mut customers = Customers::new();
    let mut ports = |at| {
        customers.sessions.handle_timeout(Instant::from_secs(at));
        let packets = std::iter::from_fn(|| customers.sessions.poll_transmit());
        packets.map(|packet| packet.source_port).collect::<Vec<_>>()
    };
    assert_eq!(ports(0), [49_152, 49_153]);
    let mut later = ports(1);
    later.sort_unstable();
    assert_eq!(later, [49_152, 49_153]);
}

#[test]
fn a_flapping_peer_fills_the_events_and_then_is_refused() {
    let mut customers = Customers::new();
    let ours = customers.row(HERE).discriminator;
    let mut refused = None;
    for _ in 0..10_000 {
        for state in [State::Down, State::Init] {
            let your = if state == State::Down { 0 } else { ours };
            refused = customers.send(HERE, &Repr::sample(state, 7, your)).err().or(refused);
        }
        customers.send(HERE, &Repr::sample(State::Down, 7, ours)).err();
    }
    assert_eq!(refused, Some(Refused::Busy));
    let events = std::iter::from_fn(|| customers.sessions.poll_event()).count();
    assert!(events <= 4_097);
}

fn any_state() -> impl Strategy<Value = State> {
    prop::sample::select(vec![State::AdminDown, State::Down, State::Init, State::Up])
}

prop_compose! {
    fn any_packet(ours: u32)(
        state in any_state(),
        (poll, final_, demand) in any::<(bool, bool, bool)>(),
        (diagnostic, detect_mult) in (0_u8..32, 1_u8..),
        my_discriminator in 1_u32..4,
        your_discriminator in prop::sample::select(vec![0, ours, ours, ours, 99]),
        (tx, rx, echo) in (
            prop::sample::select(vec![0, 1, 300_000, u32::MAX]),
            prop::sample::select(vec![0, 1, 300_000, u32::MAX]),
            any::<u32>(),
        ),
    ) -> Repr {
        Repr {
            diagnostic,
            state,
            poll,
            final_,
            control_plane_independent: your_discriminator == ours,
            demand,
            detect_mult,
            my_discriminator,
            your_discriminator,
            desired_min_tx_us: tx,
            required_min_rx_us: rx,
            required_min_echo_rx_us: echo,
        }
    }
}

/// The discriminator that the table of [`Customers`] draws for its first session.
fn ours() -> u32 {
    Customers::new().row(HERE).discriminator
}

proptest! {
    #[test]
    fn random_bytes_never_panic(
        payload in prop::collection::vec(any::<u8>(), 0..64),
        ttl in prop::sample::select(vec![255_u8, 254]),
    ) {
        let mut customers = Customers::new();
        let peer = customers.peer;
        let _ = customers.sessions.handle_packet(HERE, peer, ttl, &payload, Instant::ZERO);
        customers.sessions.handle_timeout(Instant::from_secs(1));
    }

    #[test]
    fn any_conversation_leaves_a_deadline_ahead_and_events_that_alternate(
        steps in prop::collection::vec((any_packet(ours()), 0_u64..2_000), 1..60),
    ) {
        let mut customers = Customers::new();
        let mut up = false;
        for (packet, wait) in steps {
            let peer = customers.peer;
            let bytes = payload(&packet);
            let now = customers.now;
            let _ = customers.sessions.handle_packet(HERE, peer, 255, &bytes, now);
            customers.now += Duration::from_millis(wait);
            customers.sessions.handle_timeout(customers.now);
            prop_assert!(customers.sessions.poll_timeout() > customers.now);
            while let Some(event) = customers.sessions.poll_event() {
                let is_up = matches!(event, Event::Up { .. });
                prop_assert_ne!(is_up, up);
                up = is_up;
            }
            prop_assert_eq!(up, customers.row(HERE).state == State::Up);
            let sent = std::iter::from_fn(|| customers.sessions.poll_transmit());
            for outgoing in sent {
                prop_assert!(!(outgoing.repr.poll && outgoing.repr.final_));
            }
        }
    }
}

fn parameters(local: IpAddr, milliseconds: u64, detect_mult: u8) -> BfdParameters {
    let interval = Duration::from_millis(milliseconds);
    BfdParameters { local, desired_min_tx: interval, required_min_rx: interval, detect_mult }
}

fn payload(repr: &Repr) -> Vec<u8> {
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut bytes);
    bytes
}

/// One line of an `NN-input.jsonl`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Input {
    /// Begins or changes a session.
    Set {
        attachment: u16,
        local: IpAddr,
        peer: IpAddr,
        interval_ms: u64,
        mult: u8,
    },
    End {
        attachment: u16,
        peer: IpAddr,
    },
    AdminDown {
        attachment: u16,
        peer: IpAddr,
        down: bool,
    },
    Packet(InputPacket),
    /// Lets the clock run on.
    Wait {
        ms: u64,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputPacket {
    attachment: u16,
    source: IpAddr,
    #[serde(default = "ttl_of_a_neighbor")]
    ttl: u8,
    state: String,
    my: u32,
    your: Your,
    #[serde(default)]
    diag: u8,
    interval_ms: u32,
    mult: u8,
    #[serde(default)]
    poll: bool,
    #[serde(default, rename = "final")]
    final_: bool,
}

/// A discriminator of ours: a number, or the attachment of the session that has it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Your {
    Number(u32),
    OfAttachment(u16),
}

fn ttl_of_a_neighbor() -> u8 {
    255
}

/// One line of an `NN-output.jsonl`.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Output {
    Transmit {
        at_ms: String,
        attachment: u16,
        peer: IpAddr,
        state: &'static str,
        diag: u8,
        flags: &'static str,
        your: u32,
        tx_ms: u32,
        rx_ms: u32,
        mult: u8,
    },
    Up {
        at_ms: String,
        attachment: u16,
        peer: IpAddr,
    },
    Down {
        at_ms: String,
        attachment: u16,
        peer: IpAddr,
        reason: BfdDownReason,
    },
    Refused {
        at_ms: String,
        why: String,
    },
    /// The session at the end of the step.
    Session {
        attachment: u16,
        peer: IpAddr,
        state: &'static str,
        transmit_ms: u128,
        detection_ms: u128,
        transitions: u64,
    },
}

/// A table, its clock and what it has said in this step.
struct Player {
    sessions: Sessions,
    now: Instant,
    output: Vec<Output>,
}

impl Player {
    fn play(&mut self, input: Input) {
        match input {
            Input::Set { attachment, local, peer, interval_ms, mult } => {
                let parameters = Some(parameters(local, interval_ms, mult));
                self.sessions.set(AttachmentIndex(attachment), peer, parameters, self.now);
            }
            Input::End { attachment, peer } => {
                self.sessions.set(AttachmentIndex(attachment), peer, None, self.now);
            }
            Input::AdminDown { attachment, peer, down } => {
                let attachment = AttachmentIndex(attachment);
                self.sessions.set_admin_down(attachment, peer, down, self.now);
            }
            Input::Packet(packet) => self.receive(&packet),
            Input::Wait { ms } => self.wait(Duration::from_millis(ms)),
        }
        self.collect();
    }

    fn receive(&mut self, packet: &InputPacket) {
        let your_discriminator = match packet.your {
            Your::Number(number) => number,
            Your::OfAttachment(attachment) => {
                let mut rows = self.sessions.rows();
                rows.find(|row| row.attachment.0 == attachment).unwrap().discriminator
            }
        };
        let repr = Repr {
            diagnostic: packet.diag,
            state: state_of(&packet.state),
            poll: packet.poll,
            final_: packet.final_,
            control_plane_independent: false,
            demand: false,
            detect_mult: packet.mult,
            my_discriminator: packet.my,
            your_discriminator,
            desired_min_tx_us: packet.interval_ms * 1_000,
            required_min_rx_us: packet.interval_ms * 1_000,
            required_min_echo_rx_us: 0,
        };
        let attachment = AttachmentIndex(packet.attachment);
        let bytes = payload(&repr);
        let result =
            self.sessions.handle_packet(attachment, packet.source, packet.ttl, &bytes, self.now);
        if let Err(refused) = result {
            self.output.push(Output::Refused { at_ms: self.at_ms(), why: refused.to_string() });
        }
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.sessions.poll_timeout().clamp(self.now, end);
            self.sessions.handle_timeout(self.now);
            self.collect();
        }
    }

    fn collect(&mut self) {
        while let Some(packet) = self.sessions.poll_transmit() {
            self.output.push(self.transmit(&packet));
        }
        while let Some(event) = self.sessions.poll_event() {
            let at_ms = self.at_ms();
            self.output.push(match event {
                Event::Up { attachment, peer } => {
                    Output::Up { at_ms, attachment: attachment.0, peer }
                }
                Event::Down { attachment, peer, reason } => {
                    Output::Down { at_ms, attachment: attachment.0, peer, reason }
                }
            });
        }
    }

    fn transmit(&self, packet: &Outgoing) -> Output {
        let repr = &packet.repr;
        assert!(repr.control_plane_independent, "{repr:?}");
        Output::Transmit {
            at_ms: self.at_ms(),
            attachment: packet.attachment.0,
            peer: packet.peer,
            state: name_of(repr.state),
            diag: repr.diagnostic,
            flags: match (repr.poll, repr.final_) {
                (false, false) => "",
                (true, false) => "P",
                (false, true) => "F",
                (true, true) => "PF",
            },
            your: repr.your_discriminator,
            tx_ms: repr.desired_min_tx_us / 1_000,
            rx_ms: repr.required_min_rx_us / 1_000,
            mult: repr.detect_mult,
        }
    }

    fn finish_step(&mut self) -> String {
        self.output.extend(self.sessions.rows().map(|row| Output::Session {
            attachment: row.attachment.0,
            peer: row.peer,
            state: name_of(row.state),
            transmit_ms: row.transmit_interval.as_millis(),
            detection_ms: row.detection_time.as_millis(),
            transitions: row.transitions,
        }));
        let lines = self.output.drain(..).map(|line| serde_json::to_string(&line).unwrap() + "\n");
        lines.collect()
    }

    fn at_ms(&self) -> String {
        let us = self.now.as_nanos() / 1_000;
        format!("{}.{:03}", us / 1_000, us % 1_000)
    }
}

const STATES: [(State, &str); 4] = [
    (State::AdminDown, "admin-down"),
    (State::Down, "down"),
    (State::Init, "init"),
    (State::Up, "up"),
];

fn name_of(state: State) -> &'static str {
    STATES.iter().find(|row| row.0 == state).unwrap().1
}

fn state_of(name: &str) -> State {
    STATES.iter().find(|row| row.1 == name).unwrap_or_else(|| panic!("state {name}")).0
}

#[test]
fn every_folder_of_fixtures_plays_as_written() {
    let mut folders: Vec<_> =
        fs::read_dir(FIXTURES).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(!folders.is_empty());
    for folder in folders {
        play_folder(&folder);
    }
}

/// Plays the numbered steps of one folder; `UPDATE_FIXTURES=1` writes the outputs instead.
fn play_folder(folder: &Path) {
    let mut player = Player { sessions: Sessions::new(5), now: Instant::ZERO, output: Vec::new() };
    for step in 1.. {
        let input = folder.join(format!("{step:02}-input.jsonl"));
        let Ok(text) = fs::read_to_string(&input) else {
            assert!(step > 1, "{} has no steps", folder.display());
            return;
        };
        for line in text.lines().filter(|line| !line.is_empty()) {
            let parsed = serde_json::from_str(line);
            player.play(parsed.unwrap_or_else(|e| panic!("{}: {e}: {line}", input.display())));
        }
        let actual = player.finish_step();
        let output = folder.join(format!("{step:02}-output.jsonl"));
        if env::var_os("UPDATE_FIXTURES").is_some() {
            fs::write(&output, &actual).unwrap();
        }
        let expected = fs::read_to_string(&output).unwrap_or_default();
        assert_eq!(actual, expected, "{}", output.display());
    }
}
