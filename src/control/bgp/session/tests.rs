//! Two sessions with a wire and a clock between them that belong to the test.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::control::route::{AsPath, Attributes, Origin};
use crate::model::Prefix;

const EDGE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const MSEE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

fn configs(family: Family) -> [SessionConfig; 2] {
    [
        SessionConfig::new(asn(4_200_000_001), Asn::MICROSOFT, EDGE, family),
        SessionConfig::new(Asn::MICROSOFT, asn(4_200_000_001), MSEE, family),
    ]
}

enum Happening {
    Connected(Direction),
    Refused,
    Bytes(Vec<u8>),
    Closed,
}

/// Two sessions, and transport between them whose every event takes a random time; what belongs
/// to one end of one connection keeps its order.
struct Pair {
    now: Instant,
    ends: [Session; 2],
    events: [Vec<SessionEvent>; 2],
    queue: BTreeMap<(Instant, u64), (usize, ConnectionId, Happening)>,
    /// When the last event of an end of a connection happens.
    last: BTreeMap<(usize, ConnectionId), Instant>,
    random: Random,
    max_delay: Duration,
    count: u64,
    cut: bool,
}

impl Pair {
    fn new(configs: [SessionConfig; 2], seed: u64, max_delay: Duration) -> Self {
        let mut seeds = [seed, seed + 1].into_iter();
        let ends = configs.map(|config| Session::new(config, seeds.next().unwrap()));
        let mut pair = Self {
            now: Instant::ZERO,
            ends,
            events: [Vec::new(), Vec::new()],
            queue: BTreeMap::new(),
            last: BTreeMap::new(),
            random: Random::new(seed, "wire"),
            max_delay,
            count: 0,
            cut: false,
        };
        for end in 0..2 {
            pair.ends[end].start(pair.now);
        }
        pair
    }

    fn up(configs: [SessionConfig; 2]) -> Self {
        let mut pair = Self::new(configs, 7, Duration::from_millis(1));
        pair.run_for(Duration::from_secs(5));
        pair.assert_up_once();
        pair.forget_events();
        pair
    }

    fn schedule(&mut self, end: usize, id: ConnectionId, happening: Happening) {
        let delay = self.random.jittered(self.max_delay, 0, 100);
        let after_last = self.last.get(&(end, id)).copied().unwrap_or_default();
        let at = (self.now + delay).max(after_last);
        self.last.insert((end, id), at);
        self.count += 1;
        self.queue.insert((at, self.count), (end, id, happening));
    }

    fn act(&mut self, end: usize) {
        while let Some(action) = self.ends[end].poll_action() {
            match action {
                Action::Connect => {
                    self.count += 1;
                    let id = ConnectionId(self.count as u32);
                    if self.cut {
                        self.schedule(end, id, Happening::Refused);
                    } else {
                        self.schedule(end, id, Happening::Connected(Direction::Outgoing));
                        self.schedule(1 - end, id, Happening::Connected(Direction::Incoming));
                    }
                }
                Action::Send(id, bytes) => {
                    // In two parts, so that messages come split.
                    let (front, back) = bytes.split_at(bytes.len() / 2);
                    self.schedule(1 - end, id, Happening::Bytes(front.to_vec()));
                    self.schedule(1 - end, id, Happening::Bytes(back.to_vec()));
                }
                Action::Close(id) | Action::Abort(id) => {
                    self.schedule(1 - end, id, Happening::Closed);
                }
            }
        }
        while let Some(event) = self.ends[end].poll_event() {
            self.events[end].push(event);
        }
    }

    fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            for end in 0..2 {
                self.ends[end].handle_timeout(self.now);
                self.act(end);
            }
            let due = self.queue.keys().next().map_or(Instant::NEVER, |(at, _)| *at);
            let timers = self.ends.iter().map(Session::poll_timeout).min().unwrap();
            let next = due.min(timers);
            if next > until {
                break;
            }
            assert!(next > self.now || due <= self.now, "time stands still at {:?}", self.now);
            self.now = self.now.max(next);
            if due <= self.now {
                let (_, (end, id, happening)) = self.queue.pop_first().unwrap();
                let session = &mut self.ends[end];
                match happening {
                    _ if self.cut && !matches!(happening, Happening::Refused) => {}
                    Happening::Connected(way) => session.handle_connected(id, way, self.now),
                    Happening::Refused => session.handle_connect_failed(self.now),
                    Happening::Bytes(bytes) => session.handle_bytes(id, &bytes, self.now),
                    Happening::Closed => session.handle_closed(id, self.now),
                }
                self.act(end);
            }
        }
        self.now = until;
    }

    fn assert_up_once(&self) {
        for end in &self.ends {
            assert_eq!(end.state(), State::Established, "{end:?}");
            assert_eq!(end.connections.len(), 1);
            assert_eq!(end.times_established, 1, "{}", end.last_error);
        }
        assert_eq!(self.ends[0].connections[0].id, self.ends[1].connections[0].id);
    }

    fn forget_events(&mut self) {
        self.events = [Vec::new(), Vec::new()];
    }

    fn downs(&self, end: usize) -> Vec<&DownReason> {
        let found = self.events[end].iter().filter_map(|event| match event {
            SessionEvent::Down(reason) => Some(reason),
            _ => None,
        });
        found.collect()
    }

    fn updates(&self, end: usize) -> Vec<&Update> {
        let found = self.events[end].iter().filter_map(|event| match event {
            SessionEvent::Update(update) => Some(update),
            _ => None,
        });
        found.collect()
    }
}

fn attributes(next_hop: impl Into<IpAddr>, path: &[u32]) -> Arc<Attributes> {
    Arc::new(Attributes {
        origin: Origin::Igp,
        as_path: AsPath::sequence(path.iter().map(|&number| asn(number))),
        next_hop: next_hop.into(),
        med: Some(20),
        local_preference: None,
        communities: vec![0x2f2c_c36e, 65_001],
        large_communities: vec![(1, 2, 3)],
    })
}

fn announce(prefixes: Vec<Prefix>, attributes: &Arc<Attributes>) -> Update {
    Update { announced: prefixes, attributes: Some(Arc::clone(attributes)), ..Update::default() }
}

fn marker() -> Update {
    Update { end_of_rib: true, ..Update::default() }
}

#[test]
fn four_octet_numbers_and_timers_are_agreed() {
    let mut configs = configs(Family::Ipv4);
    configs[0].hold = Duration::from_secs(10);
    let pair = Pair::up(configs);
    for (end, peer) in [(0, MSEE), (1, EDGE)] {
        let agreed = pair.ends[end].snapshot().agreed.unwrap();
        assert_eq!(agreed.hold, Duration::from_secs(10));
        assert_eq!(agreed.keepalive, Duration::from_secs(10) / 3);
        assert_eq!(agreed.peer_id, peer);
        assert!(agreed.four_octet && agreed.enhanced_refresh);
    }
}

#[test]
fn stays_up_on_keepalives_alone() {
    for hold in [0, 3, 180] {
        let mut configs = configs(Family::Ipv4);
        configs[1].hold = Duration::from_secs(hold);
        let mut pair = Pair::up(configs);
        pair.run_for(Duration::from_mins(20));
        pair.assert_up_once();
    }
}

#[test]
fn a_passive_end_waits_for_the_active_one() {
    for passive in 0..2 {
        let mut configs = configs(Family::Ipv6);
        configs[passive].passive = true;
        Pair::up(configs);
    }
    let mut configs = configs(Family::Ipv4);
    for config in &mut configs {
        config.passive = true;
    }
    let mut pair = Pair::new(configs, 1, Duration::ZERO);
    pair.run_for(Duration::from_secs(100));
    assert_eq!(pair.ends.each_ref().map(Session::state), [State::Active; 2]);
}

#[test]
fn a_cut_is_noticed_by_the_hold_timer_and_healed() {
    let mut configs = configs(Family::Ipv4);
    configs[0].hold = Duration::from_secs(9);
    let mut pair = Pair::up(configs);
    pair.cut = true;
    pair.run_for(Duration::from_secs(10));
    for end in 0..2 {
        let downs = pair.downs(end);
        assert_eq!(downs.len(), 1);
        assert_eq!(downs[0].cause, Cause::Sent { code: 4, subcode: 0 });
        assert!(!downs[0].orderly);
    }
    pair.cut = false;
    pair.run_for(Duration::from_secs(30));
    assert_eq!(pair.ends.each_ref().map(Session::state), [State::Established; 2]);
}

#[test]
fn a_reset_is_orderly_at_both_ends_and_comes_back() {
    let mut pair = Pair::up(configs(Family::Ipv4));
    pair.ends[1].stop(pair.now, StopReason::AdminReset("reset by drill".to_owned()));
    pair.run_for(Duration::from_secs(15));
    let [sent, received] = [pair.downs(1)[0], pair.downs(0)[0]];
    assert!(sent.orderly && received.orderly);
    assert_eq!(received.cause, Cause::Received { code: 6, subcode: 4 });
    assert!(received.text.contains("reset by drill"), "{}", received.text);
    assert_eq!(pair.ends.each_ref().map(Session::state), [State::Established; 2]);
    assert_eq!(pair.ends[0].times_established, 2);
}

#[test]
fn a_shutdown_lasts_until_the_start() {
    for reason in [
        StopReason::AdminShutdown("maintenance".to_owned()),
        StopReason::MaxPrefixes { limit: 4000 },
        StopReason::PeerDeconfigured,
    ] {
        let mut pair = Pair::up(configs(Family::Ipv4));
        pair.ends[1].stop(pair.now, reason);
        pair.run_for(Duration::from_mins(10));
        assert_eq!(pair.ends[1].state(), State::Idle);
        assert_ne!(pair.ends[0].state(), State::Established);
        pair.ends[1].start(pair.now);
        pair.run_for(Duration::from_secs(10));
        assert_eq!(pair.ends.each_ref().map(Session::state), [State::Established; 2]);
    }
}

#[test]
fn a_loss_by_bfd_is_not_orderly_and_comes_back() {
    let mut pair = Pair::up(configs(Family::Ipv4));
    pair.ends[1].stop(pair.now, StopReason::BfdDown);
    pair.run_for(Duration::from_secs(15));
    assert_eq!(pair.downs(0)[0].cause, Cause::Received { code: 6, subcode: 10 });
    assert!(!pair.downs(0)[0].orderly && !pair.downs(1)[0].orderly);
    assert_eq!(pair.ends.each_ref().map(Session::state), [State::Established; 2]);
}

#[test]
fn errors_in_a_row_are_answered_ever_later() {
    let mut configs = configs(Family::Ipv4);
    configs[0].peer_asn = asn(64_496);
    let mut pair = Pair::new(configs, 3, Duration::from_millis(1));
    pair.run_for(Duration::from_mins(10));
    // 1 s, 2 s, … 60 s: a session that pressed on would have failed hundreds of times.
    assert!((5..40).contains(&pair.ends[0].failures), "{}", pair.ends[0].failures);
    assert_eq!(pair.ends[0].last_error, "sent 2/2 Bad Peer AS");
    assert_eq!(pair.events[0], []);
}

#[test]
fn errors_long_ago_are_forgotten() {
    for (age, failures) in [(10, 6), (70, 1)] {
        let mut pair = Pair::up(configs(Family::Ipv4));
        pair.ends[1].failures = 5;
        pair.run_for(Duration::from_secs(age));
        let id = pair.ends[1].connections[0].id;
        pair.ends[1].handle_bytes(id, &[0; 19], pair.now);
        assert_eq!(pair.ends[1].failures, failures);
    }
}

#[test]
fn what_waited_for_a_lost_session_is_not_sent_in_the_next() {
    let mut pair = Pair::up(configs(Family::Ipv4));
    pair.ends[0].send_update(&marker(), pair.now).unwrap();
    pair.ends[0].stop(pair.now, StopReason::BfdDown);
    assert_eq!(pair.ends[0].backlog_bytes(), 0);
    let refused = pair.ends[0].send_update(&marker(), pair.now);
    assert_eq!(refused, Err(SendError::NotEstablished));
    pair.run_for(Duration::from_secs(15));
    assert_eq!(pair.ends.each_ref().map(|end| end.times_established), [2; 2]);
    assert!(pair.updates(1).is_empty());
}

#[test]
fn ten_thousand_routes_arrive_as_they_were_sent() {
    let mut pair = Pair::up(configs(Family::Ipv4));
    let prefix = |i: u32| Prefix::new(Ipv4Addr::from(0x0a00_0000 | i << 8).into(), 24).unwrap();
    let mut sent = BTreeMap::new();
    for block in 0..100 {
        let attributes = attributes(EDGE, &[4_200_000_001, 64_496 + block]);
        let prefixes: Vec<_> = (0..100).map(|i| prefix(block * 100 + i)).collect();
        sent.extend(prefixes.iter().map(|&prefix| (prefix, Arc::clone(&attributes))));
        for half in prefixes.chunks(50) {
            pair.ends[0].send_update(&announce(half.to_vec(), &attributes), pair.now).unwrap();
        }
    }
    pair.ends[0].send_update(&marker(), pair.now).unwrap();
    pair.run_for(Duration::from_secs(1));
    let mut received = BTreeMap::new();
    for update in pair.updates(1) {
        for &prefix in &update.announced {
            received.insert(prefix, Arc::clone(update.attributes.as_ref().unwrap()));
        }
    }
    assert_eq!(received.len(), 10_000);
    assert_eq!(received, sent);
    let mut allocations: Vec<_> = received.values().map(Arc::as_ptr).collect();
    allocations.dedup();
    assert_eq!(allocations.len(), 100, "equal attributes share an allocation");
    assert!(pair.updates(1).last().unwrap().end_of_rib);
    // One message per 50 prefixes and the marker.
    assert_eq!(pair.updates(1).len(), 201);

    let gone: Vec<_> = sent.keys().copied().collect();
    let withdrawal = Update { withdrawn: gone.clone(), ..Update::default() };
    pair.forget_events();
    pair.ends[0].send_update(&withdrawal, pair.now).unwrap();
    pair.run_for(Duration::from_secs(1));
    let withdrawn: Vec<_> = pair.updates(1).iter().flat_map(|u| u.withdrawn.clone()).collect();
    assert_eq!(withdrawn, gone);
    assert_eq!(pair.updates(1).len(), 10, "4,096 octets hold 1,018 prefixes of 24 bits");
}

#[test]
fn ipv6_routes_travel_between_internal_peers_with_a_preference() {
    let mut configs = configs(Family::Ipv6);
    configs[0].local_asn = Asn::MICROSOFT;
    configs[1].peer_asn = Asn::MICROSOFT;
    let mut pair = Pair::up(configs);
    let next_hop: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let mut expected = attributes(next_hop, &[]);
    let prefixes: Vec<Prefix> =
        ["::/0", "2001:db8:1::/48", "2001:db8::1/128"].map(|text| text.parse().unwrap()).into();
    pair.ends[0].send_update(&announce(prefixes.clone(), &expected), pair.now).unwrap();
    pair.ends[0].send_update(&marker(), pair.now).unwrap();
    pair.run_for(Duration::from_secs(1));
    Arc::make_mut(&mut expected).local_preference = Some(100);
    assert_eq!(pair.updates(1), [&announce(prefixes, &expected), &marker()]);
}

/// A gateway tells a VNet of both MSEEs; then one of them loses the route.
#[test]
fn two_paths_of_a_prefix_come_and_one_of_them_goes() {
    let [both, none] = [AddPath::BOTH, AddPath::NONE];
    for (family, prefix, next_hops) in [
        (Family::Ipv4, "192.168.0.0/22", ["10.1.255.196", "10.1.255.197"]),
        (Family::Ipv6, "2001:db8::/32", ["2001:db8::4", "2001:db8::5"]),
    ] {
        let prefixes: Vec<Prefix> = vec![prefix.parse().unwrap()];
        let next_hops: [IpAddr; 2] = next_hops.map(|text| text.parse().unwrap());
        for (offers, agreed) in [([true, true], both), ([true, false], none), ([false, true], none)]
        {
            let mut configs = configs(family);
            for (config, offers) in configs.iter_mut().zip(offers) {
                config.add_path = offers;
            }
            let mut pair = Pair::up(configs);
            assert!(pair.ends.iter().all(|end| end.snapshot().agreed.unwrap().add_path == agreed));

            let path = |id: u32| {
                let attributes = attributes(next_hops[id as usize - 1], &[4_200_000_001]);
                Update { path_id: id, ..announce(prefixes.clone(), &attributes) }
            };
            let gone = Update { withdrawn: prefixes.clone(), path_id: 1, ..Update::default() };
            let sent = [path(1), path(2), gone];
            for update in &sent {
                pair.ends[0].send_update(update, pair.now).unwrap();
            }
            pair.run_for(Duration::from_secs(1));
            let named = |update: &Update| {
                let path_id = if agreed == both { update.path_id } else { 0 };
                SessionEvent::Update(Update { path_id, ..update.clone() })
            };
            assert_eq!(pair.events[1], sent.each_ref().map(named));
        }
    }
}

/// The peer puts several paths into one message, the first AS of which is not its own.
#[test]
fn a_fault_of_a_message_is_that_of_all_its_paths() {
    let mut configs = configs(Family::Ipv4);
    for config in &mut configs {
        config.add_path = true;
    }
    let mut pair = Pair::up(configs);
    let mut message = Vec::new();
    let foreign = announce(vec!["10.1.0.0/16".parse().unwrap()], &attributes(EDGE, &[64_496]));
    let context = pair.ends[0].connections[0].context;
    codec::encode_update(&foreign, context, &mut message).unwrap();
    message.extend([0, 0, 0, 9, 16, 10, 1]);
    message[17] += 7;
    let id = pair.ends[1].connections[0].id;
    pair.ends[1].handle_bytes(id, &message, pair.now);
    pair.act(1);
    let withdrawn = |path_id| {
        let withdrawn = foreign.announced.clone();
        SessionEvent::Update(Update { withdrawn, path_id, ..Update::default() })
    };
    assert!(matches!(pair.events[1][0], SessionEvent::Malformed(_)));
    assert_eq!(pair.events[1][1..], [withdrawn(0), withdrawn(9)]);
    assert_eq!(pair.ends[1].snapshot().updates_in, 1);
}

#[test]
fn a_refresh_is_framed_for_the_peer() {
    let mut pair = Pair::up(configs(Family::Ipv4));
    let route = announce(vec!["10.1.0.0/16".parse().unwrap()], &attributes(EDGE, &[4_200_000_001]));
    pair.ends[0].send_update(&marker(), pair.now).unwrap();
    assert!(pair.ends[1].request_refresh());
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.events[0], [SessionEvent::RefreshRequested]);
    pair.ends[0].send_update(&route, pair.now).unwrap();
    pair.ends[0].send_update(&marker(), pair.now).unwrap();
    pair.run_for(Duration::from_secs(1));
    assert_eq!(
        pair.events[1],
        [
            SessionEvent::Update(marker()),
            SessionEvent::RefreshBegins,
            SessionEvent::Update(route),
            SessionEvent::RefreshEnds,
        ]
    );
}

#[test]
fn a_route_of_another_first_as_is_withdrawn() {
    let mut pair = Pair::up(configs(Family::Ipv4));
    let foreign = announce(vec!["10.1.0.0/16".parse().unwrap()], &attributes(EDGE, &[64_496]));
    pair.ends[0].send_update(&foreign, pair.now).unwrap();
    pair.run_for(Duration::from_secs(1));
    let [SessionEvent::Malformed(fault), SessionEvent::Update(update)] = &pair.events[1][..] else {
        panic!("{:?}", pair.events[1]);
    };
    assert_eq!((fault.disposition, fault.subcode), (Disposition::TreatAsWithdraw, 11));
    assert_eq!(update.withdrawn, foreign.announced);
    assert_eq!(update.attributes, None);
    assert_eq!(pair.ends[1].state(), State::Established);

    let mut configs = configs(Family::Ipv4);
    configs[1].enforce_first_as = false;
    let mut pair = Pair::up(configs);
    pair.ends[0].send_update(&foreign, pair.now).unwrap();
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.updates(1), [&foreign]);
}

#[test]
fn the_backlog_is_bounded() {
    let mut pair = Pair::up(configs(Family::Ipv4));
    let attributes = attributes(EDGE, &[4_200_000_001]);
    let prefixes =
        (0..1000).map(|i| Prefix::new(Ipv4Addr::from(0x0a00_0000 | i << 8).into(), 24).unwrap());
    let update = announce(prefixes.collect(), &attributes);
    let refused = (0..1000).find_map(|_| pair.ends[0].send_update(&update, pair.now).err());
    assert!(matches!(refused, Some(SendError::Backlog(_))));
    assert!(pair.ends[0].backlog_bytes() < Session::BACKLOG_LIMIT + 8192);
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.ends[0].backlog_bytes(), 0);
    let wrong = announce(vec!["2001:db8::/32".parse().unwrap()], &attributes);
    let refused = pair.ends[0].send_update(&wrong, pair.now).unwrap_err();
    assert!(matches!(refused, SendError::Encode(EncodeError::Family(_))));
}

#[test]
fn a_peer_that_nobody_listens_to_is_ended() {
    let mut pair = Pair::up(configs(Family::Ipv4));
    let id = pair.ends[1].connections[0].id;
    let mut bytes = Vec::new();
    codec::encode(
        &Message::Update(vec![marker()]),
        pair.ends[1].connections[0].context,
        &mut bytes,
    )
    .unwrap();
    let flood = bytes.repeat(1000);
    for _ in 0..70 {
        pair.ends[1].handle_bytes(id, &flood, pair.now);
    }
    assert!(pair.ends[1].events.len() <= Session::EVENT_LIMIT + 2);
    assert_eq!(pair.ends[1].last_error, "sent 6/8 Out of Resources");
}

#[test]
fn a_peer_that_starts_again_is_taken_when_the_old_connection_has_ended() {
    let mut configs = configs(Family::Ipv4);
    configs[0].hold = Duration::from_secs(9);
    let mut pair = Pair::up(configs.clone());
    // It forgets everything without a word.
    pair.ends[0] = Session::new(configs[0].clone(), 99);
    pair.ends[0].start(pair.now);
    pair.run_for(Duration::from_secs(30));
    assert_eq!(pair.ends.each_ref().map(Session::state), [State::Established; 2]);
    assert_eq!(pair.downs(1).len(), 1);
}

/// Who keeps whose routes: an end that is asked by one that is `full`, and only when the connection
/// is gone without a word (RFC 4724, 4.2).
#[test]
fn routes_are_kept_for_a_lost_connection_only() {
    use GracefulRestart::{Full, Helper, Off};
    type Loss = fn(&mut Pair);
    let lost: Loss = |pair| {
        let id = pair.ends[0].connections[0].id;
        pair.ends[0].handle_closed(id, pair.now);
    };
    let losses: [(&str, Loss, bool); 7] = [
        ("connection lost", lost, true),
        ("hold timer", |pair| pair.cut = true, false),
        (
            "the peer's hold timer",
            |pair| {
                let expired = Notification::new(code::HOLD_TIMER_EXPIRED, 0);
                let id = pair.ends[1].connections[0].id;
                pair.ends[1].end_with(id, expired, pair.now);
            },
            false,
        ),
        ("BFD", |pair| pair.ends[0].stop(pair.now, StopReason::BfdDown), false),
        ("the peer's BFD", |pair| pair.ends[1].stop(pair.now, StopReason::BfdDown), false),
        (
            "reset",
            |pair| {
                pair.ends[1].stop(pair.now, StopReason::AdminReset(String::new()));
            },
            false,
        ),
        (
            "an error of the peer",
            |pair| {
                let id = pair.ends[0].connections[0].id;
                pair.ends[0].handle_bytes(id, &[0; 19], pair.now);
            },
            false,
        ),
    ];
    for own in [Off, Helper, Full] {
        for peer in [Off, Helper, Full] {
            for (name, lose, keeps) in losses {
                let mut configs = configs(Family::Ipv4);
                configs[0].hold = Duration::from_secs(9);
                (configs[0].graceful_restart, configs[1].graceful_restart) = (own, peer);
                let mut pair = Pair::up(configs);
                lose(&mut pair);
                pair.run_for(Duration::from_secs(15));
                let keep = pair.downs(0)[0].keep;
                let expected = keeps && own != Off && peer == Full;
                let expected = expected.then_some(Duration::from_mins(2));
                assert_eq!(keep, expected, "{name}: {own:?} of {peer:?}");
            }
        }
    }
}

/// RFC 4724, 4.2 and 5; without it the session believed in stays (RFC 4271, 6.8).
#[test]
fn an_open_on_an_established_session_is_a_restart_where_that_is_agreed() {
    for (mode, is_restart) in [(GracefulRestart::Off, false), (GracefulRestart::Full, true)] {
        let mut configs = configs(Family::Ipv6);
        for config in &mut configs {
            config.graceful_restart = mode;
        }
        let again = configs[0].clone();
        let mut pair = Pair::up(configs);
        pair.run_for(Duration::from_secs(10));
        // The process is another one; its old connection is nobody's and says nothing.
        pair.ends[0] = Session::new(again, 99);
        pair.ends[0].set_restarting(true);
        pair.ends[0].start(pair.now);
        pair.run_for(Duration::from_secs(3));
        let downs = pair.downs(1).len();
        assert_eq!(downs, usize::from(is_restart));
        assert_eq!(pair.ends[0].state() == State::Established, is_restart);
        if is_restart {
            assert_eq!(pair.downs(1)[0].cause, Cause::ConnectionLost);
            let agreed = pair.ends[1].snapshot().agreed.unwrap().graceful.unwrap();
            let keep = Some(Duration::from_mins(2));
            assert_eq!(agreed, Graceful { restarted: true, preserved: true, keep });
        }
    }
}

/// The F bit: forwarding kept what it had, unless it began with this session.
#[test]
fn only_a_first_session_of_all_has_preserved_nothing() {
    let mut configs = configs(Family::Ipv4);
    for config in &mut configs {
        config.graceful_restart = GracefulRestart::Full;
    }
    let mut pair = Pair::up(configs);
    let preserved = |pair: &Pair| {
        let agreed = pair.ends[1].snapshot().agreed.unwrap().graceful.unwrap();
        (agreed.restarted, agreed.preserved)
    };
    assert_eq!(preserved(&pair), (false, false));
    let id = pair.ends[0].connections[0].id;
    for end in &mut pair.ends {
        end.handle_closed(id, pair.now);
    }
    pair.run_for(Duration::from_secs(15));
    assert_eq!(preserved(&pair), (false, true));
}

proptest! {
    /// Whatever the order of events, one connection stays, the same at both ends, and it is never
    /// lost again.
    #[test]
    fn collisions_leave_the_same_connection_at_both_ends(
        seed: u64,
        delay_ms in 0_u64..3000,
        same_id: bool,
        graceful: bool,
    ) {
        let mut configs = configs(Family::Ipv4);
        if same_id {
            configs[1].router_id = configs[0].router_id;
        }
        for config in configs.iter_mut().filter(|_| graceful) {
            config.graceful_restart = GracefulRestart::Full;
        }
        let mut pair = Pair::new(configs, seed >> 1, Duration::from_millis(delay_ms));
        pair.run_for(Duration::from_secs(90));
        pair.assert_up_once();
        prop_assert!(pair.downs(0).is_empty() && pair.downs(1).is_empty());
    }

    /// The session ends at worst: no panic, no endless loop, and it can be used again.
    #[test]
    fn damaged_messages_end_the_session_at_worst(
        seed: u64,
        flips in prop::collection::vec((0_usize..4000, 0_u8..8), 0..6),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut pair = Pair::up(configs(Family::Ipv4));
        let context = pair.ends[0].connections[0].context;
        let update = announce(
            vec!["10.1.0.0/16".parse().unwrap(), "10.2.3.0/24".parse().unwrap()],
            &attributes(EDGE, &[4_200_000_001, 64_496]),
        );
        let mut bytes = Vec::new();
        codec::encode_update(&update, context, &mut bytes).unwrap();
        codec::encode(&Message::Keepalive, context, &mut bytes).unwrap();
        for (at, bit) in flips {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        bytes.extend(noise);
        let id = pair.ends[1].connections[0].id;
        pair.ends[1].handle_bytes(id, &bytes, pair.now + Duration::from_nanos(seed % 7));
        pair.run_for(Duration::from_secs(200));
        prop_assert_eq!(pair.ends.each_ref().map(Session::state), [State::Established; 2]);
    }

    /// Any bytes in any state.
    #[test]
    fn random_bytes_end_the_connection_at_worst(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        kind in 0_u8..7,
        incoming: bool,
    ) {
        let [config, _] = configs(Family::Ipv4);
        let mut session = Session::new(config, 1);
        session.start(Instant::ZERO);
        let direction = if incoming { Direction::Incoming } else { Direction::Outgoing };
        session.handle_connected(ConnectionId(1), direction, Instant::ZERO);
        let mut message = vec![0xff; 16];
        message.extend((19 + bytes.len() as u16).to_be_bytes());
        message.push(kind);
        message.extend(bytes);
        session.handle_bytes(ConnectionId(1), &message, Instant::ZERO);
        prop_assert!(session.state() <= State::OpenConfirm);
        prop_assert!(session.connections.iter().all(|each| each.input.len() < codec::MAX_LEN));
    }
}
