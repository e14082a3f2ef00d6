//! Two stacks and a wire between them, in virtual time; and hand-made segments where a peer does
//! what smoltcp would not.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::wire::tcp::{Flags, Repr, View, option};
use crate::wire::{ipv4, ipv6, protocol};

const MTU: u16 = 1500;
const DELAY: Duration = Duration::from_millis(2);
const KEY: &str = "Contoso2026Key";
const V4: [&str; 2] = ["172.16.0.1", "172.16.0.2"];
const V6: [&str; 2] = ["fd00::1", "fd00::2"];

#[test]
fn one_connects_to_the_other() {
    for addresses in [V4, V6] {
        for key in [None, Some(KEY)] {
            let mut wire = Wire::between(addresses, [key, key]);
            let (id, other) = wire.connect();
            assert_eq!(wire.send(0, id, b"open"), 4);
            wire.run_for(Duration::from_millis(100));
            assert_eq!(wire.stacks[1].poll_event(), Some(Event::Data(other)));
            assert_eq!(wire.stacks[1].poll_event(), None, "said once until it is read");
            assert_eq!(wire.read(1, other), b"open");
            wire.send(1, other, b"keepalive");
            wire.run_for(Duration::from_millis(100));
            assert_eq!(wire.read(0, id), b"keepalive");
        }
    }
}

#[test]
fn an_orderly_close_arrives_after_the_last_octet() {
    let mut wire = Wire::between(V4, [Some(KEY); 2]);
    let (id, other) = wire.connect();
    wire.send(0, id, b"notification");
    wire.stacks[0].close(id);
    wire.run_for(Duration::from_millis(100));
    assert_eq!(wire.stacks[1].poll_event(), Some(Event::Data(other)));
    assert_eq!(wire.stacks[1].poll_event(), None, "not over before it is read");
    assert_eq!(wire.read(1, other), b"notification");
    assert_eq!(wire.stacks[1].poll_event(), Some(Event::Closed(other, CloseReason::Finished)));
    wire.run_for(Duration::from_mins(1));
    assert_eq!(wire.events(0), [], "who closed hears no more");
    assert_eq!([wire.stacks[0].connections(), wire.stacks[1].connections()], [0, 0]);
    assert_eq!(wire.stacks[0].poll_timeout(), Instant::NEVER);
}

/// How long a close may take counts from the close, not from when the stack last had to do.
#[test]
fn a_close_after_a_long_silence_is_orderly() {
    let mut wire = Wire::between(V4, [None; 2]);
    let (id, other) = wire.connect();
    wire.run_for(Duration::from_hours(1));
    wire.stacks[0].close(id);
    wire.run_for(Duration::from_secs(1));
    assert_eq!(wire.events(1), [Event::Closed(other, CloseReason::Finished)]);
    wire.run_for(Duration::from_hours(1));
    wire.connect();
}

#[test]
fn a_reset_ends_the_connection_after_what_came_before() {
    let mut wire = Wire::between(V4, [Some(KEY); 2]);
    let (id, other) = wire.connect();
    wire.send(0, id, b"cease");
    wire.run_for(Duration::from_millis(10));
    wire.stacks[0].abort(id);
    wire.run_for(Duration::from_millis(100));
    assert_eq!(wire.stacks[1].poll_event(), Some(Event::Data(other)));
    assert_eq!(wire.read(1, other), b"cease");
    assert_eq!(wire.events(1), [Event::Closed(other, CloseReason::Reset)]);
    wire.run_for(Duration::from_millis(1));
    assert_eq!([wire.stacks[0].connections(), wire.stacks[1].connections()], [0, 0]);
}

#[test]
fn both_connect_at_once() {
    let mut wire = Wire::between(V4, [Some(KEY); 2]);
    let ids = [0, 1].map(|side| wire.start(side));
    wire.run_for(Duration::from_secs(1));
    for side in [0, 1] {
        let events = wire.events(side);
        let peer = wire.addresses[1 - side];
        let own = Event::Connected { id: ids[side], peer, incoming: false };
        assert!(events.contains(&own), "{events:?}");
        let incoming = |event: &Event| matches!(event, Event::Connected { incoming: true, .. });
        assert_eq!(events.iter().filter(|event| incoming(event)).count(), 1);
        assert_eq!(events.len(), 2, "two connections; which one goes is BGP's to decide");
    }
}

#[test]
fn keys_that_differ_never_connect() {
    let cases = [
        ([Some(KEY), Some("other")], [0, 0, 1]),
        ([None, Some(KEY)], [1, 0, 0]),
        ([Some(KEY), None], [0, 1, 0]),
    ];
    for addresses in [V4, V6] {
        for (keys, [missing, unexpected, wrong]) in cases {
            let mut wire = Wire::between(addresses, keys);
            wire.start(0);
            wire.run_for(Duration::from_mins(1));
            assert_eq!((wire.events(0), wire.events(1)), (vec![], vec![]), "{keys:?}");
            let counters = wire.stacks[1].counters();
            let counted = [counters.md5_missing, counters.md5_unexpected, counters.md5_wrong];
            assert_eq!(counted.map(|count| u64::from(count > 0)), [missing, unexpected, wrong]);
        }
    }
}

#[test]
fn a_change_of_key_starves_the_connection() {
    let mut wire = Wire::between(V4, [Some(KEY); 2]);
    let (id, other) = wire.connect();
    wire.stacks[1].set_key(wire.addresses[0], Some("rotated"));
    wire.send(0, id, b"update");
    wire.run_for(Duration::from_secs(20));
    assert_eq!(wire.read(1, other), b"");
    assert!(wire.stacks[1].counters().md5_wrong > 1);
}

#[test]
fn a_megabyte_arrives_in_spite_of_loss() {
    for (key, loss) in [(None, 50_000), (Some(KEY), 50_000), (Some(KEY), 0)] {
        let mut wire = Wire::between(V6, [key, key]);
        let (id, other) = wire.connect();
        wire.loss = loss;
        let octets: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 7 + n / 251) as u8).collect();
        let mut sent = wire.send(0, id, &octets);
        let mut received = Vec::new();
        for _ in 0..200_000 {
            wire.step();
            for event in wire.events(0) {
                assert_eq!(event, Event::Writable(id));
                sent += wire.send(0, id, &octets[sent..]);
            }
            for event in wire.events(1) {
                assert_eq!(event, Event::Data(other));
                received.extend(wire.read(1, other));
            }
            if received.len() == octets.len() {
                break;
            }
        }
        assert_eq!(received.len(), octets.len());
        assert!(received == octets);
        assert_eq!(wire.lost > 20, loss > 0);
        if loss == 0 {
            assert!(wire.now < Instant::from_millis(5_200), "{:?}", wire.now);
        }
    }
}

#[test]
fn full_segments_and_signatures_fit_the_mtu() {
    for (addresses, headers) in [(V4, 40), (V6, 60)] {
        for key in [None, Some(KEY)] {
            let mut wire = Wire::between(addresses, [key, key]);
            wire.trace = Some(Vec::new());
            let (id, _) = wire.connect();
            wire.send(0, id, &vec![7; 30_000]);
            wire.run_for(Duration::from_millis(50));
            let trace = wire.trace.take().unwrap();
            let longest = trace.iter().map(Vec::len).max().unwrap();
            let expected = if key.is_some() { MTU } else { MTU - md5::ROOM as u16 };
            assert_eq!(longest, usize::from(expected));
            for packet in &trace {
                let segment = Segment::parse(packet).expect("checksums are right");
                let (ttl, class) = match packet[0] >> 4 {
                    4 => (packet[8], packet[1]),
                    _ => (packet[7], (packet[0] << 4) | (packet[1] >> 4)),
                };
                assert_eq!((ttl, class), (1, 48 << 2));
                let view = View::new(&packet[segment.start..segment.end]).unwrap();
                let first = view.options().next().map(|option| option.kind);
                assert_eq!(first == Some(option::MD5), key.is_some());
                let mss = view.options().find(|option| option.kind == option::MSS);
                assert_eq!(mss.is_some(), segment.is_syn());
                if let Some(mss) = mss {
                    assert_eq!(mss.data, (MTU - headers).to_be_bytes());
                    let sack = view.options().any(|option| option.kind == 4);
                    assert_eq!(sack, key.is_none(), "no room for it beside a signature");
                }
            }
        }
    }
}

/// The digests were computed apart, with Python's `hashlib` over bytes laid out by hand after RFC
/// 2385, 2.0.
#[test]
fn signatures_are_those_of_the_rfc() {
    let expected = [
        (V4, 0xa1e8_496b_6080_266d_411d_95fa_5f1e_f598_u128),
        (V6, 0xf8d9_a876_0019_3912_b4c6_9df0_e51b_808a),
    ];
    for (addresses, digest) in expected {
        let mut packet = packet(addresses, &BASE, b"BGP says hello");
        let segment = Segment::parse(&packet).unwrap();
        segment::dress(&mut packet, &segment, Some(KEY), 255);
        let segment = Segment::parse(&packet).expect("still whole, with right checksums");
        let view = View::new(&packet[segment.start..segment.end]).unwrap();
        let signature = view.options().next().unwrap();
        assert_eq!((signature.kind, signature.data), (19, &digest.to_be_bytes()[..]));
        assert_eq!(view.payload(), b"BGP says hello");
        assert_eq!(md5::verify(&packet, &segment, Some(KEY)), Verdict::Right);
        assert_eq!(md5::verify(&packet, &segment, Some("other")), Verdict::Wrong);
        *packet.last_mut().unwrap() ^= 1;
        assert_eq!(md5::verify(&packet, &segment, Some(KEY)), Verdict::Wrong);
    }
}

/// A peer that announces an MSS of 1460 gets at most 1440 octets in a signed segment, one that
/// announces none 516.
#[test]
fn a_signature_comes_out_of_the_mss_of_the_peer() {
    let signature = || [&[option::MD5, 18][..], &[0; 16], &[option::NOP; 2]].concat();
    let mss_and_sack_permitted = [option::MSS, 4, 5, 180, 1, 1, 4, 2];
    for (others, expected) in [(&mss_and_sack_permitted[..], 1440_u16), (&[], 516)] {
        let options = [&signature(), others].concat();
        let mut syn = packet(V4, &Repr { flags: Flags::SYN, options: &options, ..BASE }, b"");
        let segment = Segment::parse(&syn).unwrap();
        md5::strip(&mut syn, &segment);
        let segment = Segment::parse(&syn).expect("checksums are right");
        let view = View::new(&syn[segment.start..segment.end]).unwrap();
        let left: Vec<_> = view.options().map(|option| (option.kind, option.data)).collect();
        assert_eq!(left, [(option::MSS, &expected.to_be_bytes()[..])]);
    }
}

#[test]
fn known_peers_get_a_reset_and_strangers_silence() {
    let [local, peer] = V4.map(|address| address.parse().unwrap());
    let mut stack = Stack::new(vec![peer], MTU, 1);
    let syn = packet(V4, &Repr { flags: Flags::SYN, acknowledgement: 0, ..BASE }, b"");
    stack.receive(&syn, Instant::ZERO);
    assert_eq!(stack.poll_transmit(), None);
    assert_eq!(stack.counters().unknown_peer, 1);

    // A session that is shut down: known, not listening.
    stack.listen(peer, local);
    stack.unlisten(local);
    stack.receive(&syn, Instant::ZERO);
    let answer = stack.poll_transmit().expect("a closed port answers");
    let segment = Segment::parse(&answer).unwrap();
    assert!(segment.flags.contains(Flags::RST));
    assert_eq!(stack.connections(), 0);

    stack.forget(local);
    stack.receive(&syn, Instant::ZERO);
    assert_eq!(stack.poll_transmit(), None);

    stack.listen(peer, local);
    stack.set_addresses(Vec::new());
    stack.receive(&syn, Instant::ZERO);
    assert_eq!((stack.poll_transmit(), stack.counters().not_ours), (None, 1));
}

/// RFC 5082: who insists on TTL 255 hears nobody else, and is heard by those that do not insist.
#[test]
fn segments_below_the_least_ttl_are_dropped() {
    for addresses in [V4, V6] {
        let mut wire = Wire::between(addresses, [None; 2]);
        let [first, second] = wire.addresses;
        wire.stacks[1].set_ttl(first, SessionTtl::SECURED);
        wire.trace = Some(Vec::new());
        wire.start(0);
        wire.run_for(Duration::from_millis(50));
        assert_eq!((wire.events(0), wire.events(1)), (vec![], vec![]));
        assert!(wire.stacks[1].counters().ttl_low > 0);

        wire.stacks[0].set_ttl(second, SessionTtl::SECURED);
        wire.connect();
        let trace = wire.trace.take().unwrap();
        let ttl = |packet: &Vec<u8>| Segment::parse(packet).unwrap().ttl;
        assert_eq!((ttl(&trace[0]), ttl(trace.last().unwrap())), (1, 255));
    }
}

#[test]
fn refused_attempts_are_told() {
    let mut wire = Wire::between(V4, [None; 2]);
    wire.stacks[1].unlisten(wire.addresses[0]);
    let id = wire.start(0);
    wire.run_for(Duration::from_secs(1));
    assert_eq!(wire.events(0), [Event::Closed(id, CloseReason::Refused)]);
}

#[test]
fn listening_is_for_one_peer_and_one_address() {
    let mut wire = Wire::between(V4, [None; 2]);
    let [first, second] = wire.addresses;
    let stranger: IpAddr = "172.16.0.3".parse().unwrap();
    wire.stacks[1].unlisten(first);
    wire.stacks[1].listen(second, stranger);
    let id = wire.start(0);
    wire.run_for(Duration::from_secs(1));
    assert_eq!(wire.events(0), [Event::Closed(id, CloseReason::Refused)]);
    assert_eq!(wire.stacks[0].connect(stranger, second), Err(ConnectError::NotOurs(stranger)));
}

#[test]
fn ids_are_never_used_twice() {
    let mut wire = Wire::between(V4, [None; 2]);
    let mut last = None;
    for _ in 0..20 {
        let (id, _) = wire.connect();
        wire.stacks[0].abort(id);
        wire.run_for(Duration::from_millis(50));
        wire.events(1);
        assert!(last < Some(id));
        last = Some(id);
    }
}

#[test]
fn half_open_connections_are_few_and_end() {
    let [_, ours] = V4.map(|address| address.parse::<IpAddr>().unwrap());
    let peer = V4[0].parse().unwrap();
    let mut stack = Stack::new(vec![ours], MTU, 1);
    stack.listen(ours, peer);
    for port in 1000..1100 {
        let syn = Repr { source_port: port, flags: Flags::SYN, acknowledgement: 0, ..BASE };
        stack.receive(&packet(V4, &syn, b""), Instant::ZERO);
    }
    assert_eq!(stack.connections(), CONNECTIONS_PER_PEER);
    assert!(stack.connect(ours, peer).is_ok(), "a flood keeps nobody from connecting");
    let outgoing = stack.connections.keys().next_back().copied().unwrap();
    stack.abort(outgoing);
    for second in 1..=90 {
        stack.handle_timeout(Instant::from_secs(second));
        while stack.poll_transmit().is_some() {}
    }
    assert_eq!(stack.connections(), 0);
    assert_eq!(stack.poll_event(), None);
}

/// With a receive buffer of 65,536 octets or more, smoltcp 0.14.0 panics here: it takes the window
/// that its SYN announced, which is never scaled, for a scaled one.
#[test]
fn a_segment_beyond_the_buffer_and_the_gap_before_it() {
    let mut peer = HandMade::connected();
    let end = BUFFER_BYTES as u32;
    peer.push(end - 700, &[1; 1400]);
    for at in (0..end - 700).step_by(1400) {
        peer.push(at, &[2; 1400]);
    }
    peer.push(0, &[3; 1400]);
    let event = std::iter::from_fn(|| peer.stack.poll_event()).last();
    let Some(Event::Data(id)) = event else { panic!("{event:?}") };
    let mut octets = Vec::new();
    assert_eq!(peer.stack.receive_bytes(id, &mut octets), BUFFER_BYTES);
}

#[test]
fn equal_addresses_elsewhere_are_another_matter() {
    let mut wires = [1, 2].map(|seed| {
        let mut wire = Wire::between(V4, [None; 2]);
        wire.stacks = [0, 1].map(|side| wire.stack(side, None, seed));
        wire
    });
    let ids = wires.each_mut().map(Wire::connect);
    for (wire, (id, _)) in wires.iter_mut().zip(ids) {
        let text = format!("customer {:?}", wire.stacks[0].next_port);
        wire.send(0, id, text.as_bytes());
        wire.run_for(Duration::from_millis(50));
    }
    let read: Vec<_> = wires.iter_mut().zip(ids).map(|(wire, (_, id))| wire.read(1, id)).collect();
    assert_ne!(read[0], read[1]);
    assert!(read.iter().all(|text| text.starts_with(b"customer")));
}

#[test]
fn equal_seeds_send_equal_packets() {
    let run = || {
        let mut wire = Wire::between(V6, [Some(KEY); 2]);
        wire.trace = Some(Vec::new());
        wire.loss = 100_000;
        let id = wire.start(0);
        wire.run_for(Duration::from_secs(10));
        wire.send(0, id, &vec![1; 20_000]);
        wire.run_for(Duration::from_secs(10));
        wire.trace.unwrap()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_receiver_that_does_not_read_holds_the_sender() {
    let mut wire = Wire::between(V4, [Some(KEY); 2]);
    let (id, other) = wire.connect();
    let mut sent = wire.send(0, id, &vec![1; 200_000]);
    for _ in 0..20 {
        wire.run_for(Duration::from_millis(200));
        wire.events(0);
        sent += wire.send(0, id, &vec![1; 200_000 - sent]);
    }
    assert_eq!(sent, 2 * BUFFER_BYTES, "one buffer there, one here");
    let mut read = wire.read(1, other).len();
    for _ in 0..50 {
        wire.run_for(Duration::from_millis(200));
        wire.events(0);
        sent += wire.send(0, id, &vec![1; 200_000 - sent]);
        read += wire.read(1, other).len();
    }
    assert_eq!((sent, read), (200_000, 200_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_packet_panics(octets in proptest::collection::vec(any::<u8>(), 0..200), v6: bool) {
        let mut octets = octets;
        if let Some(first) = octets.first_mut() {
            *first = if v6 { 0x60 } else { 0x45 };
        }
        let mut peer = HandMade::connected();
        peer.stack.receive(&octets, peer.now);
    }

    /// Segments with right checksums of any content, at any state of a connection.
    #[test]
    fn no_segment_panics(
        segments in proptest::collection::vec(
            (any::<u8>(), -3000_i32..70_000, -3_i32..3000, any::<u16>(), 0_usize..1500,
             proptest::collection::vec(any::<u8>(), 0..40)), 1..40),
        connected: bool,
        passive: bool,
    ) {
        let mut peer = match (connected, passive) {
            (true, _) => HandMade::connected(),
            (false, true) => HandMade::listening(),
            (false, false) => HandMade::connecting(),
        };
        for (flags, ahead, acknowledged, window, len, options) in segments {
            let segment = Repr {
                flags: Flags(flags),
                sequence: peer.next.wrapping_add_signed(ahead),
                acknowledgement: peer.theirs.wrapping_add_signed(acknowledged),
                window,
                options: &options,
                ..peer.base
            };
            peer.deliver(&segment, &vec![0; len]);
            while let Some(event) = peer.stack.poll_event() {
                if let Event::Data(id) = event {
                    peer.stack.receive_bytes(id, &mut Vec::new());
                }
                if let Event::Connected { id, .. } = event {
                    peer.stack.send(id, &[0; 5000]);
                }
            }
            peer.now += Duration::from_millis(300);
            peer.stack.handle_timeout(peer.now);
            while peer.stack.poll_transmit().is_some() {}
        }
        prop_assert!(peer.stack.connections() <= CONNECTIONS_PER_PEER);
    }
}

/// A segment of a peer's that is nothing special.
const BASE: Repr<'static> = Repr {
    source_port: 40_000,
    destination_port: PORT,
    sequence: 0x0102_0304,
    acknowledgement: 0x0a0b_0c0d,
    flags: Flags(0x18),
    window: 65_535,
    urgent: 0,
    options: &[],
    payload_len: 0,
};

/// RFC 7323, 2.2.
const WINDOW_SCALE: u8 = 3;

/// Two stacks and what is between them.
struct Wire {
    addresses: [IpAddr; 2],
    stacks: [Stack; 2],
    now: Instant,
    /// By arrival, then order of sending: for whom, what.
    flying: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    sent: u64,
    /// Parts of a million.
    loss: u32,
    lost: u64,
    random: Random,
    trace: Option<Vec<Vec<u8>>>,
}

impl Wire {
    fn between(addresses: [&str; 2], keys: [Option<&str>; 2]) -> Self {
        let addresses = addresses.map(|address| address.parse().unwrap());
        let mut wire = Self {
            addresses,
            stacks: addresses.map(|address| Stack::new(vec![address], MTU, 1)),
            now: Instant::from_secs(5),
            flying: BTreeMap::new(),
            sent: 0,
            loss: 0,
            lost: 0,
            random: Random::new(3, "wire"),
            trace: None,
        };
        wire.stacks = [0, 1].map(|side| wire.stack(side, keys[side], side as u64));
        wire
    }

    fn stack(&self, side: usize, key: Option<&str>, seed: u64) -> Stack {
        let (own, peer) = (self.addresses[side], self.addresses[1 - side]);
        let mut stack = Stack::new(vec![own], MTU, seed);
        stack.set_key(peer, key);
        stack.listen(own, peer);
        stack
    }

    fn start(&mut self, side: usize) -> ConnectionId {
        let (own, peer) = (self.addresses[side], self.addresses[1 - side]);
        self.stacks[side].connect(own, peer).unwrap()
    }

    /// Connects the first to the second.
    fn connect(&mut self) -> (ConnectionId, ConnectionId) {
        let id = self.start(0);
        self.run_for(Duration::from_millis(50));
        let connected = |id, peer, incoming| vec![Event::Connected { id, peer, incoming }];
        assert_eq!(self.events(0), connected(id, self.addresses[1], false));
        let other = self.events(1);
        let [Event::Connected { id: other_id, .. }] = other[..] else { panic!("{other:?}") };
        assert_eq!(other, connected(other_id, self.addresses[0], true));
        (id, other_id)
    }

    fn send(&mut self, side: usize, id: ConnectionId, octets: &[u8]) -> usize {
        self.stacks[side].send(id, octets)
    }

    fn read(&mut self, side: usize, id: ConnectionId) -> Vec<u8> {
        let mut octets = Vec::new();
        self.stacks[side].receive_bytes(id, &mut octets);
        octets
    }

    fn events(&mut self, side: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.stacks[side].poll_event()).collect()
    }

    fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        let mut steps = 0;
        while self.next() <= until {
            self.step();
            steps += 1;
            assert!(steps < 100_000, "time stands still");
        }
        self.now = until;
    }

    fn next(&self) -> Instant {
        let arrival = self.flying.keys().next().map_or(Instant::NEVER, |(at, _)| *at);
        self.stacks.iter().map(Stack::poll_timeout).fold(arrival, Instant::min)
    }

    fn step(&mut self) {
        let next = self.next();
        if next == Instant::NEVER {
            return;
        }
        self.now = self.now.max(next);
        while let Some(first) = self.flying.first_entry().filter(|first| first.key().0 <= self.now)
        {
            let (side, packet) = first.remove();
            self.stacks[side].receive(&packet, self.now);
            self.collect(side);
        }
        for side in [0, 1] {
            self.stacks[side].handle_timeout(self.now);
            self.collect(side);
        }
    }

    fn collect(&mut self, side: usize) {
        while let Some(packet) = self.stacks[side].poll_transmit() {
            if let Some(trace) = &mut self.trace {
                trace.push(packet.clone());
            }
            if self.random.one_in_million(self.loss) {
                self.lost += 1;
                continue;
            }
            self.flying.insert((self.now + DELAY, self.sent), (1 - side, packet));
            self.sent += 1;
        }
    }
}

/// A peer made of single segments, without a key.
struct HandMade {
    stack: Stack,
    now: Instant,
    base: Repr<'static>,
    /// The peer's next sequence number.
    next: u32,
    /// The stack's next sequence number.
    theirs: u32,
}

impl HandMade {
    fn listening() -> Self {
        let [peer, ours] = V4.map(|address| address.parse().unwrap());
        let mut stack = Stack::new(vec![ours], MTU, 1);
        stack.listen(ours, peer);
        let now = Instant::from_secs(1);
        Self { stack, now, base: BASE, next: BASE.sequence, theirs: 0 }
    }

    fn connected() -> Self {
        let mut made = Self::listening();
        let options = &[option::MSS, 4, 5, 180, WINDOW_SCALE, 3, 7];
        let syn = Repr { flags: Flags::SYN, acknowledgement: 0, options, ..BASE };
        made.deliver(&syn, b"");
        let answer = made.stack.poll_transmit().expect("SYN and ACK");
        let segment = Segment::parse(&answer).unwrap();
        let view = View::new(&answer[segment.start..segment.end]).unwrap();
        made.theirs = view.sequence().wrapping_add(1);
        made.next = made.next.wrapping_add(1);
        made.base.acknowledgement = made.theirs;
        made.push(0, b"");
        made
    }

    fn connecting() -> Self {
        let mut made = Self::listening();
        let [peer, ours] = V4.map(|address| address.parse().unwrap());
        made.stack.connect(ours, peer).unwrap();
        made.stack.handle_timeout(made.now);
        let syn = made.stack.poll_transmit().expect("SYN");
        let segment = Segment::parse(&syn).unwrap();
        let view = View::new(&syn[segment.start..segment.end]).unwrap();
        made.theirs = view.sequence().wrapping_add(1);
        (made.base.source_port, made.base.destination_port) = (PORT, view.source_port());
        made
    }

    /// Octets so far ahead of the next that is due.
    fn push(&mut self, ahead: u32, octets: &[u8]) {
        let segment =
            Repr { sequence: self.next.wrapping_add(ahead), flags: Flags::ACK, ..self.base };
        self.deliver(&segment, octets);
    }

    fn deliver(&mut self, segment: &Repr<'_>, octets: &[u8]) {
        self.stack.receive(&packet(V4, segment, octets), self.now);
    }
}

fn packet(addresses: [&str; 2], segment: &Repr<'_>, payload: &[u8]) -> Vec<u8> {
    let segment = Repr { payload_len: payload.len(), ..*segment };
    let [source, destination]: [IpAddr; 2] = addresses.map(|address| address.parse().unwrap());
    let payload_len = segment.buffer_len();
    let mut packet;
    let start = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = ipv4::Repr {
                source,
                destination,
                protocol: protocol::TCP,
                ttl: 64,
                dscp: 0,
                identification: 0,
                dont_fragment: true,
                payload_len,
            };
            packet = vec![0; header.buffer_len() + payload_len];
            header.emit(&mut packet);
            header.buffer_len()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = ipv6::Repr {
                source,
                destination,
                next_header: protocol::TCP,
                hop_limit: 64,
                traffic_class: 0,
                payload_len,
            };
            packet = vec![0; header.buffer_len() + payload_len];
            header.emit(&mut packet);
            header.buffer_len()
        }
        _ => unreachable!("addresses of one family"),
    };
    segment.emit(source, destination, payload, &mut packet[start..]);
    packet
}
