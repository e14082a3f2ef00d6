//! Two routers on one link, and hand-made messages where a neighbour does what ours would not.

use proptest::prelude::*;

use super::*;
use crate::wire::{ethertype, icmpv6, ipv6, protocol};

const HERE: AttachmentIndex = AttachmentIndex(1);
const ELSEWHERE: AttachmentIndex = AttachmentIndex(2);
const MAC_A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const MAC_B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
const MAC_C: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xc]);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn two_routers_find_each_other() {
    for [a, b] in [["172.16.0.1", "172.16.0.2"], ["fd00::1", "fd00::2"], ["fe80::1", "fe80::2"]] {
        let mut link = Link::of(a, b);
        let waiting = Some((ethertype::IPV4, vec![1, 2, 3]));
        assert_eq!(link.a.resolve(HERE, ip(b), waiting, link.now), None);
        link.settle();
        assert_eq!(link.a.mac(HERE, ip(b)), Some(MAC_B), "{b}");
        assert_eq!(link.b.mac(HERE, ip(a)), Some(MAC_A), "who asks is known, too");
        assert_eq!(changes(&mut link.a), [(HERE, ip(b), Some(MAC_B))]);
        let released = Injected {
            attachment: HERE,
            destination: MAC_B,
            ethertype: ethertype::IPV4,
            packet: vec![1, 2, 3],
        };
        assert_eq!(link.delivered, std::slice::from_ref(&released), "what waited goes out");

        let again = link.a.resolve(HERE, ip(b), Some((ethertype::IPV4, vec![1, 2, 3])), link.now);
        assert_eq!(again, Some(MAC_B));
        assert_eq!(link.a.poll_transmit(), Some(released), "and what comes later goes at once");
    }
}

#[test]
fn peers_of_a_point_to_point_link_find_each_other() {
    let mut link = Link::of("10.255.0.1", "10.255.7.2");
    link.a.set_attachment(
        HERE,
        MAC_A,
        vec![ip("10.255.0.1")],
        vec![net("10.255.7.2/32")],
        link.now,
    );
    link.b.set_attachment(
        HERE,
        MAC_B,
        vec![ip("10.255.7.2")],
        vec![net("10.255.0.1/32")],
        link.now,
    );
    link.a.want(HERE, ip("10.255.7.2"), true, link.now);
    link.settle();
    assert_eq!(link.a.mac(HERE, ip("10.255.7.2")), Some(MAC_B));
}

#[test]
fn a_silent_address_is_asked_for_three_times() {
    for (own, silent) in [("10.0.0.1", "10.0.0.9"), ("fd00::1", "fd00::9")] {
        let mut table = table(own);
        sent(&mut table);
        let mut now = Instant::from_secs(10);
        for n in 0..5 {
            table.resolve(HERE, ip(silent), Some((ethertype::IPV4, vec![n])), now);
        }
        assert_eq!(table.dropped_waiting(), 2, "three may wait");
        let since = Some(now);
        let row = Row { attachment: HERE, address: ip(silent), mac: None, since, own: false };
        assert_eq!(table.snapshot().last(), Some(&row));
        let mut asked = Vec::new();
        for _ in 0..100 {
            asked.extend(sent(&mut table).iter().map(|_| now));
            if table.poll_timeout() == Instant::NEVER {
                break;
            }
            now = table.poll_timeout();
            table.handle_timeout(now);
        }
        let start = Instant::from_secs(10);
        assert_eq!(asked, [start, start + SECOND, start + SECOND * 2]);
        assert_eq!(now, start + SECOND * 3);
        assert_eq!(table.dropped_waiting(), 5);
        assert_eq!(table.snapshot().len(), 1, "our own row is left");
        assert_eq!(changes(&mut table), []);
    }
}

#[test]
fn a_wanted_neighbor_is_asked_for_until_it_answers() {
    let mut link = Link::of("10.0.0.1", "10.0.0.2");
    link.cut = true;
    link.a.want(HERE, ip("10.0.0.2"), true, link.now);
    link.a.resolve(HERE, ip("10.0.0.2"), Some((ethertype::IPV4, vec![0])), link.now);
    let start = link.now;
    let mut asked = Vec::new();
    while link.now < start + SECOND * 60 {
        let before = link.carried;
        link.now = link.a.poll_timeout();
        link.settle();
        asked.extend((link.carried > before).then(|| link.now.since(start).as_secs()));
    }
    assert_eq!(asked[..8], [1, 2, 3, 5, 8, 12, 17, 22], "one second apart, then up to five");
    assert_eq!(link.a.dropped_waiting(), 1, "packets wait for three questions only");

    link.cut = false;
    link.now = link.a.poll_timeout();
    link.settle();
    assert_eq!(link.a.mac(HERE, ip("10.0.0.2")), Some(MAC_B));
}

#[test]
fn entries_are_confirmed_before_they_expire_and_go_if_nobody_answers() {
    for (a, b) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let mut link = Link::of(a, b);
        link.now += SECOND;
        link.settle();
        link.a.resolve(HERE, ip(b), None, link.now);
        link.settle();
        changes(&mut link.a);
        let learned = link.now;
        link.now += SECOND;
        link.settle();
        link.now = link.a.poll_timeout();
        let age = link.now.since(learned);
        let to_all = link.to_all;
        assert!(age > LIFETIME * 7 / 10 && age < LIFETIME, "{age:?}");
        link.settle();
        assert_eq!(link.to_all, to_all, "asked and answered by unicast");
        assert_eq!(changes(&mut link.a), [], "the same MAC is no change");
        link.now += SECOND;
        link.settle();
        assert!(link.a.poll_timeout() > link.now + LIFETIME / 2);

        link.cut = true;
        while link.a.mac(HERE, ip(b)).is_some() {
            link.now = link.a.poll_timeout();
            link.settle();
        }
        assert_eq!(changes(&mut link.a), [(HERE, ip(b), None)]);
        assert_eq!(link.a.snapshot().len(), 1, "not wanted: gone");
    }
}

#[test]
fn a_wanted_neighbor_that_leaves_stays_in_the_table_as_incomplete() {
    let mut link = Link::of("10.0.0.1", "10.0.0.2");
    link.a.want(HERE, ip("10.0.0.2"), true, link.now);
    link.settle();
    changes(&mut link.a);
    link.cut = true;
    while link.a.mac(HERE, ip("10.0.0.2")).is_some() {
        link.now = link.a.poll_timeout();
        link.settle();
    }
    assert_eq!(changes(&mut link.a), [(HERE, ip("10.0.0.2"), None)]);
    let rows = link.a.snapshot();
    assert_eq!((rows[1].address, rows[1].mac), (ip("10.0.0.2"), None));
    link.a.want(HERE, ip("10.0.0.2"), false, link.now);
    for _ in 0..5 {
        link.now = link.a.poll_timeout().min(link.now + SECOND * 10);
        link.settle();
    }
    assert_eq!(link.a.snapshot().len(), 1);
}

#[test]
fn gratuitous_arp_replaces_a_mac_and_makes_no_entry() {
    let mut link = Link::of("10.0.0.1", "10.0.0.2");
    let gratuitous = announcement("10.0.0.2", MAC_C);
    link.a.handle_arp(HERE, &gratuitous, link.now);
    assert_eq!(link.a.mac(HERE, ip("10.0.0.2")), None, "nobody asked for it");

    link.a.resolve(HERE, ip("10.0.0.2"), None, link.now);
    link.settle();
    changes(&mut link.a);
    link.a.handle_arp(HERE, &gratuitous, link.now + SECOND);
    assert_eq!(changes(&mut link.a), [(HERE, ip("10.0.0.2"), Some(MAC_C))]);
    assert_eq!(link.a.snapshot()[1].since, Some(link.now + SECOND));
}

#[test]
fn an_unsolicited_advertisement_replaces_a_mac_only_if_it_overrides() {
    let mut link = Link::of("fd00::1", "fd00::2");
    link.a.resolve(HERE, ip("fd00::2"), None, link.now);
    link.settle();
    changes(&mut link.a);
    for (overriding, expected) in [(false, MAC_B), (true, MAC_C)] {
        let (_, packet) =
            message::advert(MAC_C, v6("fd00::2"), message::ALL_NODES, false, overriding);
        link.a.handle_ndp(HERE, &packet, link.now);
        assert_eq!(link.a.mac(HERE, ip("fd00::2")), Some(expected));
    }
    let (_, packet) = message::advert(MAC_B, v6("fd00::2"), message::ALL_NODES, true, true);
    link.a.handle_ndp(HERE, &packet, link.now);
    assert_eq!(link.a.mac(HERE, ip("fd00::2")), Some(MAC_C), "solicited and to a group: invalid");
    let (_, packet) = message::advert(MAC_C, v6("fd00::7"), message::ALL_NODES, false, true);
    link.a.handle_ndp(HERE, &packet, link.now);
    assert_eq!(link.a.mac(HERE, ip("fd00::7")), None, "nobody asked for it");
}

#[test]
fn attachments_know_nothing_of_each_other() {
    let mut table = table("10.0.0.1");
    table.set_attachment(ELSEWHERE, MAC_A, vec![ip("10.0.0.1")], vec![net("10.0.0.0/24")], T0);
    table.resolve(HERE, ip("10.0.0.2"), None, T0);
    table.resolve(ELSEWHERE, ip("10.0.0.2"), None, T0);
    table.handle_arp(ELSEWHERE, &announcement("10.0.0.2", MAC_C), T0);
    assert_eq!(table.mac(HERE, ip("10.0.0.2")), None);
    assert_eq!(table.mac(ELSEWHERE, ip("10.0.0.2")), Some(MAC_C));
    table.handle_arp(HERE, &announcement("10.0.0.2", MAC_B), T0);
    assert_eq!(table.mac(ELSEWHERE, ip("10.0.0.2")), Some(MAC_C));
    changes(&mut table);
    table.carrier_lost(ELSEWHERE, T0);
    assert_eq!(changes(&mut table), [(ELSEWHERE, ip("10.0.0.2"), None)]);
    assert_eq!(table.mac(HERE, ip("10.0.0.2")), Some(MAC_B));
    table.remove_attachment(HERE);
    assert_eq!(changes(&mut table), [(HERE, ip("10.0.0.2"), None)]);
}

#[test]
fn senders_that_are_not_on_the_link_are_ignored() {
    let mut table = table("10.0.0.1");
    sent(&mut table);
    let request = |from, mac, target| arp(arp::Operation::Request, mac, from, target);
    let unwanted = [
        request("10.0.9.2", MAC_B, "10.0.0.1"),
        request("10.0.0.2", MacAddr::BROADCAST, "10.0.0.1"),
        request("10.0.0.2", MacAddr::default(), "10.0.0.1"),
        request("255.255.255.255", MAC_B, "10.0.0.1"),
        vec![0; 28],
        vec![1; 5],
    ];
    for (n, packet) in unwanted.iter().enumerate() {
        table.handle_arp(HERE, packet, T0);
        assert_eq!(table.counters().ignored, n as u64 + 1);
    }
    table.handle_arp(ELSEWHERE, &request("10.0.0.2", MAC_B, "10.0.0.1"), T0);
    table.handle_arp(HERE, &request("10.0.0.2", MAC_B, "10.0.0.77"), T0);
    assert_eq!(sent(&mut table), [], "answers only for addresses of its own, here");
    assert_eq!(table.snapshot().len(), 1);
    table.handle_arp(HERE, &request("10.0.0.2", MAC_B, "10.0.0.1"), T0);
    assert_eq!(sent(&mut table).len(), 1);
    table.handle_arp(HERE, &request("10.0.0.1", MAC_C, "10.0.0.9"), T0);
    assert_eq!(table.counters().conflicts, 1, "another host with our address");

    assert_eq!(table.resolve(HERE, ip("10.0.9.2"), Some((0x800, vec![])), T0), None);
    assert_eq!(table.resolve(ELSEWHERE, ip("10.0.0.2"), Some((0x800, vec![])), T0), None);
    assert_eq!((sent(&mut table), table.dropped_waiting()), (vec![], 2), "nobody to ask");
}

#[test]
fn solicitations_are_valid_or_ignored() {
    let solicit = |source: Ipv6Addr, destination, hop_limit, flip: bool| {
        let message =
            ndp::Repr::NeighborSolicit { target: v6("fd00::1"), source_link: Some(MAC_B) };
        let header = ipv6::Repr {
            source,
            destination,
            next_header: protocol::ICMPV6,
            hop_limit,
            traffic_class: 0,
            payload_len: message.buffer_len(),
        };
        let mut packet = vec![0; 40 + message.buffer_len()];
        header.emit(&mut packet);
        message.emit(source, destination, &mut packet[40..]);
        packet[60] ^= u8::from(flip);
        packet
    };
    let group = ndp::solicited_node(v6("fd00::1"));
    let cases = [
        (solicit(v6("fd00::2"), group, 255, false), 1),
        (solicit(v6("fe80::2"), v6("fd00::1"), 255, false), 1),
        (solicit(v6("fd00::2"), group, 254, false), 0),
        (solicit(v6("fd00::2"), group, 255, true), 0),
        (solicit(v6("fd77::2"), group, 255, false), 0),
        (solicit(v6("::"), group, 255, false), 0),
    ];
    for (n, (packet, answers)) in cases.into_iter().enumerate() {
        let mut table = table("fd00::1");
        sent(&mut table);
        table.handle_ndp(HERE, &packet, T0);
        assert_eq!(sent(&mut table).len(), answers, "case {n}");
        assert_eq!(table.counters().ignored, 1 - answers as u64, "case {n}");
    }
}

#[test]
fn a_question_for_an_address_somebody_would_like_is_answered_to_all() {
    let mut table = table("fd00::1");
    table.handle_timeout(T0 + SECOND);
    sent(&mut table);
    let probe = message::solicit(MAC_B, None, v6("fd00::1"), None);
    table.handle_ndp(HERE, &probe.packet, T0 + SECOND);
    let answer = sent(&mut table);
    assert_eq!(answer[0].destination, ndp::multicast_mac(message::ALL_NODES));
    let arp_probe = arp(arp::Operation::Request, MAC_B, "0.0.0.0", "10.0.0.1");
    let mut table = self::table("10.0.0.1");
    sent(&mut table);
    table.handle_arp(HERE, &arp_probe, T0);
    assert_eq!((sent(&mut table).len(), table.snapshot().len()), (1, 1));
}

#[test]
fn two_hosts_with_one_address_find_out() {
    let mut link = Link::of("fd00::1", "fd00::1");
    link.settle();
    assert_eq!(link.a.duplicates(HERE), [ip("fd00::1")]);
    assert_eq!(link.b.duplicates(HERE), [ip("fd00::1")]);

    // One that comes later is told by the one that has it.
    let mut link = Link::of("fd00::1", "fd00::2");
    link.settle();
    link.now += SECOND;
    link.settle();
    link.b.set_attachment(HERE, MAC_B, vec![ip("fd00::1")], vec![net("fd00::/64")], link.now);
    link.settle();
    assert!(link.a.duplicates(HERE).is_empty());
    assert_eq!(link.b.duplicates(HERE), [ip("fd00::1")]);
    let question = message::solicit(MAC_C, Some(v6("fd00::3")), v6("fd00::1"), None);
    link.b.handle_ndp(HERE, &question.packet, link.now);
    assert_eq!(sent(&mut link.b), [], "it does not answer for it");
}

#[test]
fn new_addresses_are_announced_and_others_are_not() {
    let mut table = table("10.0.0.1");
    let announced = sent(&mut table);
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0].destination, MacAddr::BROADCAST);
    assert_eq!(announced[0].packet, announcement("10.0.0.1", MAC_A));

    let on_link = || vec![net("10.0.0.0/24"), net("10.1.0.0/24")];
    let both = || vec![ip("10.0.0.1"), ip("10.1.0.1")];
    table.set_attachment(HERE, MAC_A, both(), on_link(), T0);
    let announced = sent(&mut table);
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0].packet, announcement("10.1.0.1", MAC_A));
    table.set_attachment(HERE, MAC_A, both(), on_link(), T0);
    assert_eq!(sent(&mut table), [], "the same again changes nothing");
    table.set_attachment(HERE, MAC_C, both(), on_link(), T0);
    assert_eq!(sent(&mut table).len(), 2, "another MAC is news about every address");

    // Each neighbour is asked from the address on its own link.
    table.resolve(HERE, ip("10.1.0.9"), None, T0);
    let question = arp::Repr::parse(&arp::View::new(&sent(&mut table)[0].packet).unwrap());
    assert_eq!(IpAddr::V4(question.unwrap().sender), ip("10.1.0.1"));

    table.handle_arp(HERE, &announcement("10.1.0.9", MAC_B), T0);
    changes(&mut table);
    table.set_attachment(HERE, MAC_C, vec![ip("10.0.0.1")], vec![net("10.0.0.0/24")], T0);
    assert_eq!(changes(&mut table), [(HERE, ip("10.1.0.9"), None)], "no longer on the link");
}

#[test]
fn want_may_come_before_the_attachment() {
    let mut link = Link::of("10.0.0.1", "10.0.0.2");
    let mut early = Table::new(5);
    early.want(HERE, ip("10.0.0.2"), true, T0);
    assert_eq!(sent(&mut early), []);
    early.set_attachment(HERE, MAC_A, vec![ip("10.0.0.1")], vec![net("10.0.0.0/24")], T0);
    link.a = early;
    link.settle();
    assert_eq!(link.a.mac(HERE, ip("10.0.0.2")), Some(MAC_B));
}

#[test]
fn a_cut_link_is_forgotten_and_asked_again_when_it_returns() {
    let mut link = Link::of("10.0.0.1", "10.0.0.2");
    link.a.want(HERE, ip("10.0.0.2"), true, link.now);
    link.a.resolve(HERE, ip("10.0.0.3"), Some((ethertype::IPV4, vec![1])), link.now);
    link.settle();
    changes(&mut link.a);
    link.cut = true;
    link.a.carrier_lost(HERE, link.now);
    assert_eq!(changes(&mut link.a), [(HERE, ip("10.0.0.2"), None)]);
    assert_eq!(link.a.dropped_waiting(), 1);
    for _ in 0..10 {
        link.now = link.a.poll_timeout();
        link.settle();
    }
    link.cut = false;
    link.now += Duration::from_millis(1);
    link.a.carrier_restored(HERE, link.now);
    link.settle();
    assert_eq!(changes(&mut link.a), [(HERE, ip("10.0.0.2"), Some(MAC_B))], "at once");
}

#[test]
fn a_scan_does_not_fill_the_table() {
    let mut table = Table::new(1);
    table.set_attachment(HERE, MAC_A, vec![ip("10.0.0.1")], vec![net("10.0.0.0/8")], T0);
    for n in 0..10_000_u32 {
        let address = IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + n));
        table.resolve(HERE, address, Some((ethertype::IPV4, vec![1])), T0);
    }
    assert_eq!(table.snapshot().len(), ENTRIES_MAX + 1);
    assert_eq!(table.dropped_waiting(), 10_000 - ENTRIES_MAX as u64);
    assert!(sent(&mut table).len() <= TRANSMIT_MAX);
    table.want(HERE, ip("10.9.9.9"), true, T0);
    assert_eq!(sent(&mut table).len(), 1, "what is wanted has its place");
}

proptest! {
    #[test]
    fn no_message_panics(octets in proptest::collection::vec(any::<u8>(), 0..120), kind in 133_u8..138) {
        let mut table = table("fd00::1");
        table.handle_arp(HERE, &octets, T0);
        table.handle_ndp(HERE, &octets, T0);
        let mut octets = octets;
        if let Some(first) = octets.first_mut() {
            *first = kind;
        }
        let (source, destination) = (v6("fd00::2"), v6("fd00::1"));
        let header = ipv6::Repr {
            source,
            destination,
            next_header: protocol::ICMPV6,
            hop_limit: 255,
            traffic_class: 0,
            payload_len: octets.len(),
        };
        let mut packet = vec![0; 40];
        header.emit(&mut packet);
        packet.extend(&octets);
        // The right checksum, so that what is behind it is reached.
        if octets.len() >= 4 {
            packet[42..44].fill(0);
            let sums = [
                crate::wire::checksum::pseudo_header(source.into(), destination.into(), 58, octets.len()),
                crate::wire::checksum::sum(&packet[40..]),
            ];
            let sum = crate::wire::checksum::finish(crate::wire::checksum::combine(&sums));
            packet[42..44].copy_from_slice(&sum.to_be_bytes());
            let valid = icmpv6::View::new(&packet[40..]);
            prop_assert!(valid.is_err() || valid.unwrap().verify_checksum(source, destination));
        }
        table.handle_ndp(HERE, &packet, T0);
    }
}

const T0: Instant = Instant::from_secs(10);

/// Two tables and the link between them.
struct Link {
    a: Table,
    b: Table,
    now: Instant,
    cut: bool,
    /// Messages that were sent over the link.
    carried: usize,
    /// Those that were for a group.
    to_all: usize,
    /// What was neither ARP nor neighbour discovery.
    delivered: Vec<Injected>,
}

impl Link {
    fn of(a: &str, b: &str) -> Self {
        let now = T0;
        let on_link = || vec![net("172.16.0.0/30"), net("10.0.0.0/24"), net("fd00::/64")];
        let mut tables = [Table::new(1), Table::new(2)];
        tables[0].set_attachment(HERE, MAC_A, vec![ip(a)], on_link(), now);
        tables[1].set_attachment(HERE, MAC_B, vec![ip(b)], on_link(), now);
        let [a, b] = tables;
        Self { a, b, now, cut: false, carried: 0, to_all: 0, delivered: Vec::new() }
    }

    /// Runs what is due and carries messages until there are none.
    fn settle(&mut self) {
        self.a.handle_timeout(self.now);
        self.b.handle_timeout(self.now);
        loop {
            let (from_a, from_b) = (sent(&mut self.a), sent(&mut self.b));
            if from_a.is_empty() && from_b.is_empty() {
                return;
            }
            self.carry(from_a, false);
            self.carry(from_b, true);
        }
    }

    fn carry(&mut self, messages: Vec<Injected>, to_a: bool) {
        for message in messages {
            self.carried += 1;
            self.to_all += usize::from(message.destination.is_multicast());
            let (to, mac) = if to_a { (&mut self.a, MAC_A) } else { (&mut self.b, MAC_B) };
            if self.cut || !(message.destination.is_multicast() || message.destination == mac) {
                continue;
            }
            match message.ethertype {
                ethertype::ARP => to.handle_arp(HERE, &message.packet, self.now),
                ethertype::IPV6 => to.handle_ndp(HERE, &message.packet, self.now),
                _ => self.delivered.push(message),
            }
        }
    }
}

fn table(own: &str) -> Table {
    let mut table = Table::new(7);
    let on_link = vec![net("10.0.0.0/24"), net("fd00::/64")];
    table.set_attachment(HERE, MAC_A, vec![ip(own)], on_link, T0 - SECOND * 5);
    table.handle_timeout(T0 - SECOND * 4);
    if ip(own).is_ipv6() {
        sent(&mut table);
    }
    table
}

fn sent(table: &mut Table) -> Vec<Injected> {
    std::iter::from_fn(|| table.poll_transmit()).collect()
}

fn changes(table: &mut Table) -> Vec<(AttachmentIndex, IpAddr, Option<MacAddr>)> {
    let changes = std::iter::from_fn(|| table.poll_change());
    changes
        .map(|change| match change {
            Change::Neighbor { attachment, address, mac } => (attachment, address, mac),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn announcement(address: &str, mac: MacAddr) -> Vec<u8> {
    arp(arp::Operation::Request, mac, address, address)
}

fn arp(operation: arp::Operation, mac: MacAddr, sender: &str, target: &str) -> Vec<u8> {
    let arp = arp::Repr {
        operation,
        sender_mac: mac,
        sender: sender.parse().unwrap(),
        target_mac: MacAddr::default(),
        target: target.parse().unwrap(),
    };
    let mut packet = vec![0; arp.buffer_len()];
    arp.emit(&mut packet);
    packet
}

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn v6(address: &str) -> Ipv6Addr {
    address.parse().unwrap()
}

fn net(block: &str) -> Prefix {
    block.parse().unwrap()
}
