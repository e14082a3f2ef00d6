//! Two hosts that are each other's gateway, frames made by hand, and arrivals made by hand.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use crate::io::{Frame, Frames};
use crate::model::Instant;
use crate::traffic::{
    Arrivals, Direction, End, Flow, FlowError, Host, HostConfig, Ledger, Meter, Spread,
};
use crate::wire::{
    MacAddr, arp, ethernet, ethertype, icmp, icmpv6, ipv4, ipv6, ndp, protocol, udp,
};

const SITE: (&str, MacAddr) = ("dc1.erp", MacAddr([2, 0, 0, 0, 0, 1]));
const VNET: (&str, MacAddr) = ("hub.app", MacAddr([2, 0, 0, 0, 0, 2]));
/// Bytes of the IP packets of test flows.
const SIZE: u16 = 512;

mod meter {
    use super::*;

    /// A probe each 10 ms, the first at 1 s.
    fn flow() -> Flow {
        let gap = Duration::from_millis(10);
        Flow { gap, start: Instant::from_secs(1), ..super::flow("10.0.0.1", "10.0.0.2") }
    }

    /// Ten probes that took 2 ms each, but for those that were lost.
    fn ten_without(lost: &[u32]) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for sequence in (0..10).filter(|sequence| !lost.contains(sequence)) {
            arrivals.record(sequence, flow().sent_at(sequence) + Duration::from_millis(2));
        }
        arrivals
    }

    fn whole(arrivals: &Arrivals) -> crate::traffic::Window {
        let flow = flow();
        Meter::new(&flow, 10, arrivals, Instant::from_secs(2)).window(Instant::ZERO, Instant::NEVER)
    }

    #[test]
    fn nothing_lost_is_no_outage() {
        let window = whole(&ten_without(&[]));
        assert_eq!((window.sent, window.received, window.lost), (10, 10, 0));
        assert_eq!((window.reordered, window.duplicated), (0, 0));
        assert_eq!(window.outage, None);
        assert_eq!(window.latency.min_us(), Some(2_000));
        assert_eq!(window.latency.p50_us(), Some(2_000));
        assert_eq!(window.latency.p99_us(), Some(2_000));
        assert_eq!(window.latency.max_us(), Some(2_000));
    }

    #[test]
    fn an_outage_is_from_the_first_lost_to_the_next_delivered() {
        let window = whole(&ten_without(&[3, 4]));
        let outage = window.outage.unwrap();
        assert_eq!(window.lost, 2);
        assert_eq!(outage.since, Instant::from_millis(1_030));
        assert_eq!(outage.duration, Duration::from_millis(20));
        assert!(!outage.open);
    }

    #[test]
    fn of_two_holes_the_longer_counts_and_of_equals_the_first() {
        let outage = whole(&ten_without(&[1, 4, 5, 6])).outage.unwrap();
        assert_eq!(outage.since, Instant::from_millis(1_040));
        assert_eq!(outage.duration, Duration::from_millis(30));
        let outage = whole(&ten_without(&[1, 4])).outage.unwrap();
        assert_eq!(outage.since, Instant::from_millis(1_010));
    }

    #[test]
    fn a_hole_without_an_end_lasts_to_the_end_of_the_run_and_is_open() {
        let outage = whole(&ten_without(&[7, 8, 9])).outage.unwrap();
        assert_eq!(outage.since, Instant::from_millis(1_070));
        assert_eq!(outage.duration, Duration::from_millis(930));
        assert!(outage.open);
        let outage = whole(&Arrivals::default()).outage.unwrap();
        assert!(outage.open && outage.duration == Duration::from_secs(1));
    }

    #[test]
    fn a_window_is_by_send_time_and_a_hole_may_end_after_it() {
        let (flow, arrivals) = (flow(), ten_without(&[4, 5, 6]));
        let meter = Meter::new(&flow, 10, &arrivals, Instant::from_secs(2));
        let window = meter.window(Instant::from_millis(1_020), Instant::from_millis(1_060));
        assert_eq!((window.sent, window.received, window.lost), (4, 2, 2));
        let outage = window.outage.unwrap();
        assert_eq!(outage.since, Instant::from_millis(1_040));
        assert_eq!(outage.duration, Duration::from_millis(30));
        let before = meter.window(Instant::ZERO, Instant::from_millis(1_040));
        assert_eq!((before.sent, before.outage), (4, None));
        let after = meter.window(Instant::from_millis(1_070), Instant::NEVER);
        assert_eq!((after.sent, after.lost), (3, 0));
    }

    #[test]
    fn probes_that_were_not_sent_are_not_lost() {
        let (flow, arrivals) = (flow(), ten_without(&[]));
        let meter = Meter::new(&flow, 4, &arrivals, Instant::from_secs(2));
        let window = meter.window(Instant::ZERO, Instant::NEVER);
        assert_eq!((window.sent, window.received, window.lost), (4, 4, 0));
    }

    #[test]
    fn late_arrivals_are_reordered_and_copies_are_duplicates() {
        let mut arrivals = ten_without(&[3]);
        arrivals.record(3, flow().sent_at(5) + Duration::from_millis(3));
        arrivals.record(3, flow().sent_at(9));
        arrivals.record(8, flow().sent_at(9));
        let window = whole(&arrivals);
        assert_eq!((window.lost, window.reordered, window.duplicated), (0, 1, 2));
        // The first arrival of probe 3 counts: 20 ms late, and 3 ms on the way.
        assert_eq!(window.latency.max_us(), Some(23_000));
        assert_eq!(window.latency.p50_us(), Some(2_000));
    }

    #[test]
    fn latencies_of_windows_add_up() {
        let mut sum = whole(&ten_without(&[])).latency;
        let mut slow = Arrivals::default();
        slow.record(0, Instant::from_millis(1_500));
        sum.add(&whole(&slow).latency);
        assert_eq!((sum.count(), sum.min_us(), sum.max_us()), (11, Some(2_000), Some(500_000)));
        assert_eq!(crate::traffic::Latency::new().p99_us(), None);
    }
}

/// Two hosts on one wire, each the other's gateway.
struct Pair {
    now: Instant,
    frames: Frames,
    hosts: [Host; 2],
    /// What was put on the wire, with the sender.
    seen: Vec<(usize, Vec<u8>)>,
    /// Whether frames are lost.
    cut: bool,
}

impl Pair {
    fn new(addresses: [&str; 2]) -> Self {
        let addresses = addresses.map(|address| address.parse::<IpAddr>().unwrap());
        let host = |(name, mac): (&str, MacAddr), own: usize| {
            Host::new(HostConfig {
                name: name.to_owned(),
                mac,
                addresses: vec![addresses[own]],
                gateways: vec![addresses[1 - own]],
                mtu: 1_500,
                seed: 7,
            })
        };
        Self {
            now: Instant::ZERO,
            frames: Frames::new(),
            hosts: [host(SITE, 0), host(VNET, 1)],
            seen: Vec::new(),
            cut: false,
        }
    }

    fn add(&mut self, flow: &Flow) {
        for host in &mut self.hosts {
            host.add_flow(flow).unwrap();
        }
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            for i in 0..2 {
                self.hosts[i].handle_timeout(self.now, &mut self.frames);
            }
            while let Some((i, frame)) = self.next_frame() {
                self.seen.push((i, self.frames.bytes(&frame).to_vec()));
                if self.cut {
                    self.frames.free(frame);
                } else {
                    self.hosts[1 - i].receive(frame, &mut self.frames, self.now);
                }
            }
            let next = self.hosts.iter().map(Host::poll_timeout).min().unwrap();
            if next > end {
                self.now = end;
                return;
            }
            self.now = next.max(self.now);
        }
    }

    fn next_frame(&mut self) -> Option<(usize, Frame)> {
        (0..2).find_map(|i| self.hosts[i].poll_transmit().map(|frame| (i, frame)))
    }

    /// Hands a frame to host 1 as if from the wire; what comes back.
    fn inject(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let frame = self.frames.allocate_from(bytes).unwrap();
        self.hosts[1].receive(frame, &mut self.frames, self.now);
        let answers = std::iter::from_fn(|| self.hosts[1].poll_transmit());
        answers.map(|frame| self.frames.bytes(&frame).to_vec()).collect()
    }

    fn ledger(&self, host: usize) -> Ledger {
        *self.hosts[host].ledger()
    }

    fn assert_conserved(&self) {
        for host in &self.hosts {
            assert!(host.ledger().holds(host.queued()), "{:?}", host.ledger());
        }
    }

    /// The first probe on the wire.
    fn probe(&self) -> Vec<u8> {
        let probe = self.seen.iter().find(|(_, bytes)| bytes.len() == SIZE as usize + 14);
        probe.expect("a probe was sent").1.clone()
    }
}

fn end(host: &str, address: &str) -> End {
    End { host: host.to_owned(), address: address.parse().unwrap() }
}

/// A flow from the first host to the second: 100 pps for a second.
fn flow(from: &str, to: &str) -> Flow {
    let spread = Spread {
        name: "erp".to_owned(),
        direction: Direction::ToAzure,
        from: end(SITE.0, from),
        to: end(VNET.0, to),
        flows: 1,
        rate_pps: 100,
        size: SIZE,
        start: Instant::ZERO,
        stop: Instant::from_secs(1),
        first_id: 1,
    };
    spread.flows().remove(0)
}

const FAMILIES: [[&str; 2]; 2] = [["10.0.0.1", "10.0.0.2"], ["fd00::1", "fd00::2"]];

#[test]
fn probes_cross_both_ways_in_both_families() {
    for [from, to] in FAMILIES {
        let mut pair = Pair::new([from, to]);
        let there = flow(from, to);
        let back = there.reversed(2);
        pair.add(&there);
        pair.add(&back);
        pair.run_until(Instant::from_secs(2));
        for (flow, source, sink) in [(&there, 0, 1), (&back, 1, 0)] {
            assert_eq!(pair.hosts[source].sent(flow.id), Some(100));
            let arrivals = pair.hosts[sink].arrivals(flow.id).unwrap();
            let window =
                Meter::new(flow, 100, arrivals, pair.now).window(Instant::ZERO, Instant::NEVER);
            assert_eq!((window.received, window.lost), (100, 0));
            assert_eq!(window.latency.max_us(), Some(0));
        }
        assert_eq!(pair.ledger(0).dropped() + pair.ledger(1).dropped(), 0);
        assert_eq!(pair.frames.in_use(), 0);
        pair.assert_conserved();
    }
}

#[test]
fn the_gateway_is_asked_for_before_the_first_probe_leaves() {
    for [from, to] in FAMILIES {
        let mut pair = Pair::new([from, to]);
        pair.add(&flow(from, to));
        pair.run_until(Instant::ZERO);
        let (_, first) = pair.seen.iter().find(|(host, _)| *host == 0).unwrap();
        let view = ethernet::View::new(first).unwrap();
        assert!(view.destination().is_multicast());
        let probe = pair.probe();
        assert_eq!(ethernet::View::new(&probe).unwrap().destination(), VNET.1);
        assert_eq!(pair.hosts[0].gateway_mac(to.parse().unwrap()), Some(VNET.1));
    }
}

#[test]
fn waiting_probes_are_bounded_and_counted() {
    let [from, to] = FAMILIES[0];
    let mut pair = Pair::new([from, to]);
    pair.add(&Flow { gap: Duration::from_millis(1), ..flow(from, to) });
    pair.cut = true;
    pair.run_until(Instant::from_millis(999));
    assert_eq!(pair.hosts[0].sent(1), Some(1_000));
    assert_eq!(pair.hosts[0].queued(), 256);
    assert_eq!(pair.ledger(0).no_neighbor, 1_000 - 256);
    pair.assert_conserved();

    // Three requests without an answer, and what waits is dropped too.
    pair.run_until(Instant::from_secs(10));
    assert_eq!(pair.ledger(0).no_neighbor, 1_000);
    assert_eq!(pair.hosts[0].queued(), 0);
    assert_eq!(pair.frames.in_use(), 0);
    pair.assert_conserved();
}

#[test]
fn waiting_probes_leave_in_order_when_the_gateway_answers() {
    let [from, to] = FAMILIES[0];
    let mut pair = Pair::new([from, to]);
    pair.add(&flow(from, to));
    pair.cut = true;
    pair.run_until(Instant::from_millis(500));
    pair.cut = false;
    pair.run_until(Instant::from_secs(2));
    let flow = flow(from, to);
    let window = Meter::new(&flow, 100, pair.hosts[1].arrivals(1).unwrap(), pair.now)
        .window(Instant::ZERO, Instant::NEVER);
    assert_eq!((window.lost, window.reordered), (0, 0));
    assert_eq!(window.latency.max_us(), Some(1_000_000));
    pair.assert_conserved();
}

#[test]
fn a_gateway_that_falls_silent_is_forgotten() {
    let [from, to] = FAMILIES[0];
    let mut pair = Pair::new([from, to]);
    pair.run_until(Instant::from_secs(1));
    let gateway: IpAddr = to.parse().unwrap();
    assert!(pair.hosts[0].gateway_mac(gateway).is_some());
    pair.cut = true;
    pair.run_until(Instant::from_secs(14));
    assert!(pair.hosts[0].gateway_mac(gateway).is_some());
    pair.run_until(Instant::from_secs(50));
    assert!(pair.hosts[0].gateway_mac(gateway).is_none());
}

#[test]
fn a_replaced_gateway_is_learned_from_its_gratuitous_arp() {
    let mut pair = Pair::new(FAMILIES[0]);
    pair.run_until(Instant::from_secs(1));
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    let gateway = "10.0.0.1".parse().unwrap();
    let announcement = arp::Repr {
        operation: arp::Operation::Request,
        sender_mac: mac,
        sender: gateway,
        target_mac: MacAddr::default(),
        target: gateway,
    };
    assert!(pair.inject(&arp_frame(mac, &announcement)).is_empty());
    assert_eq!(pair.hosts[1].gateway_mac(gateway.into()), Some(mac));
}

#[test]
fn arp_is_answered_for_own_addresses_only() {
    let mut pair = Pair::new(FAMILIES[0]);
    let ask = |target: &str| arp::Repr {
        operation: arp::Operation::Request,
        sender_mac: SITE.1,
        sender: "10.0.0.7".parse().unwrap(),
        target_mac: MacAddr::default(),
        target: target.parse().unwrap(),
    };
    let answers = pair.inject(&arp_frame(SITE.1, &ask("10.0.0.2")));
    let view = ethernet::View::new(&answers[0]).unwrap();
    assert_eq!((answers.len(), view.destination()), (1, SITE.1));
    let reply = arp::Repr::parse(&arp::View::new(view.payload()).unwrap()).unwrap();
    assert_eq!(reply.operation, arp::Operation::Reply);
    assert_eq!((reply.sender_mac, reply.sender), (VNET.1, "10.0.0.2".parse().unwrap()));
    assert!(pair.inject(&arp_frame(SITE.1, &ask("10.0.0.3"))).is_empty());
    pair.assert_conserved();
}

#[test]
fn neighbor_solicitations_are_answered_and_need_hop_limit_255() {
    let mut pair = Pair::new(FAMILIES[1]);
    let target = "fd00::2".parse().unwrap();
    let group = ndp::solicited_node(target);
    let ask = |source: &str, source_link, hop_limit| {
        let source = source.parse().unwrap();
        let message = ndp::Repr::NeighborSolicit { target, source_link };
        let mut payload = vec![0; message.buffer_len()];
        message.emit(source, group, &mut payload);
        ip_frame(source.into(), group.into(), protocol::ICMPV6, hop_limit, &payload)
    };
    let answers = pair.inject(&ask("fd00::1", Some(SITE.1), 255));
    assert_eq!(ethernet::View::new(&answers[0]).unwrap().destination(), SITE.1);
    assert_eq!(pair.hosts[1].gateway_mac("fd00::1".parse().unwrap()), Some(SITE.1));
    // Duplicate address detection asks from no address; all nodes are told.
    let answers = pair.inject(&ask("::", None, 255));
    assert_eq!(
        ethernet::View::new(&answers[0]).unwrap().destination(),
        MacAddr([0x33, 0x33, 0, 0, 0, 1])
    );
    assert!(pair.inject(&ask("fd00::1", Some(SITE.1), 254)).is_empty());
    assert_eq!(pair.ledger(1).malformed, 1);
    pair.assert_conserved();
}

#[test]
fn ping_is_answered_through_the_gateway() {
    let mut pair = Pair::new(FAMILIES[0]);
    pair.run_until(Instant::ZERO);
    let request = icmp::Repr::EchoRequest { ident: 7, sequence: 3, data: b"hello" };
    let mut payload = vec![0; request.buffer_len()];
    request.emit(&mut payload);
    let (from, to) = ("192.0.2.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let answers = pair.inject(&ip_frame(from, to, protocol::ICMP, 60, &payload));
    let view = ethernet::View::new(&answers[0]).unwrap();
    assert_eq!(view.destination(), SITE.1);
    let packet = ipv4::View::new(view.payload()).unwrap();
    assert!(packet.verify_checksum());
    assert_eq!((IpAddr::V4(packet.source()), IpAddr::V4(packet.destination())), (to, from));
    let reply = icmp::Repr::parse(&icmp::View::new(packet.payload()).unwrap()).unwrap();
    assert_eq!(reply, icmp::Repr::EchoReply { ident: 7, sequence: 3, data: b"hello" });

    payload[8] ^= 1;
    assert!(pair.inject(&ip_frame(from, to, protocol::ICMP, 60, &payload)).is_empty());
    assert_eq!(pair.ledger(1).malformed, 1);
}

#[test]
fn ping_over_ipv6_is_answered() {
    let mut pair = Pair::new(FAMILIES[1]);
    pair.run_until(Instant::ZERO);
    let (from, to) = ("2001:db8::1".parse().unwrap(), "fd00::2".parse().unwrap());
    let request = icmpv6::Repr::EchoRequest { ident: 7, sequence: 3, data: b"hello" };
    let mut payload = vec![0; request.buffer_len()];
    request.emit(from, to, &mut payload);
    let frame = ip_frame(from.into(), to.into(), protocol::ICMPV6, 60, &payload);
    let answers = pair.inject(&frame);
    let packet = ethernet::View::new(&answers[0]).unwrap().payload();
    let packet = ipv6::View::new(packet).unwrap();
    assert_eq!((packet.source(), packet.destination()), (to, from));
    let reply = icmpv6::View::new(packet.payload()).unwrap();
    assert!(reply.verify_checksum(to, from));
    assert_eq!(reply.kind(), icmpv6::kind::ECHO_REPLY);
}

#[test]
fn changed_content_is_malformed_and_not_an_arrival() {
    let [from, to] = FAMILIES[0];
    let mut pair = Pair::new([from, to]);
    pair.add(&flow(from, to));
    pair.cut = true;
    pair.run_until(Instant::ZERO);
    pair.cut = false;
    pair.run_until(Instant::from_secs(1));
    let sound = pair.probe();
    let malformed = pair.ledger(1).malformed;

    // With a checksum that no longer fits, and with one that was made to fit.
    let mut changed = sound.clone();
    *changed.last_mut().unwrap() ^= 1;
    pair.inject(&changed);
    assert_eq!(pair.ledger(1).malformed, malformed + 1);
    remake_udp_checksum(&mut changed);
    pair.inject(&changed);
    assert_eq!(pair.ledger(1).malformed, malformed + 2);

    // A number from the future would make the sink store what it never gets.
    let mut forged = sound.clone();
    forged[14 + 20 + 8 + 8] = 0xff;
    remake_udp_checksum(&mut forged);
    pair.inject(&forged);
    assert_eq!(pair.ledger(1).malformed, malformed + 3);
    pair.inject(&sound);
    assert_eq!(pair.ledger(1).malformed, malformed + 3);
    pair.assert_conserved();
}

#[test]
fn a_probe_of_another_host_or_flow_is_misdelivered() {
    let [from, to] = FAMILIES[0];
    let probe_of = |flow: &Flow| {
        let mut pair = Pair::new([from, to]);
        pair.hosts[0].add_flow(flow).unwrap();
        pair.run_until(Instant::ZERO);
        pair.probe()
    };
    let ours = flow(from, to);
    let elsewhere = Flow { id: 9, ..ours.clone() };
    // Same addresses, same flow number, but the sink expects it from a host of another customer.
    let other_customer = Flow { from: end("other.erp", from), ..ours.clone() };

    for (expected, sent, misdelivered) in
        [(&ours, &ours, 0), (&ours, &elsewhere, 1), (&other_customer, &ours, 1)]
    {
        let mut pair = Pair::new([from, to]);
        pair.hosts[1].add_flow(expected).unwrap();
        pair.inject(&probe_of(sent));
        assert_eq!(pair.ledger(1).misdelivered, misdelivered);
        assert_eq!(pair.hosts[1].arrivals(1).unwrap().at(0).is_some(), misdelivered == 0);
        pair.assert_conserved();
    }
    // A host that expects no flow at all notices too, also in a frame for another MAC.
    let mut pair = Pair::new([from, "10.0.0.77"]);
    let mut stray = probe_of(&ours);
    pair.inject(&stray);
    stray[5] ^= 0x40;
    pair.inject(&stray);
    assert_eq!(pair.ledger(1).misdelivered, 2);
}

#[test]
fn frames_for_others_are_not_for_us() {
    let mut pair = Pair::new(FAMILIES[0]);
    let (from, to) = ("10.0.0.1".parse().unwrap(), "10.0.0.3".parse().unwrap());
    pair.inject(&ip_frame(from, to, protocol::TCP, 64, &[0; 20]));
    let mut tagged = ip_frame(from, to, protocol::TCP, 64, &[0; 20]);
    tagged[12..14].copy_from_slice(&ethertype::VLAN.to_be_bytes());
    pair.inject(&tagged);
    pair.inject(&[0; 5]);
    assert_eq!((pair.ledger(1).not_for_us, pair.ledger(1).malformed), (2, 1));
    pair.assert_conserved();
}

#[test]
fn flows_are_spread_over_the_gap_and_have_their_own_ports() {
    let spread = Spread {
        name: "erp".to_owned(),
        direction: Direction::ToAzure,
        from: end(SITE.0, "10.0.0.1"),
        to: end(VNET.0, "10.0.0.2"),
        flows: 64,
        rate_pps: 2_000,
        size: SIZE,
        start: Instant::from_secs(1),
        stop: Instant::from_secs(61),
        first_id: 100,
    };
    let flows = spread.flows();
    assert_eq!(flows.len(), 64);
    assert_eq!(flows[5].gap, Duration::from_millis(32));
    assert_eq!((flows[5].id, flows[5].index), (105, 5));
    let mut ports: Vec<_> = flows.iter().map(|flow| flow.source_port).collect();
    ports.dedup();
    assert_eq!(ports.len(), 64);
    let back = flows[5].reversed(205);
    assert_eq!((back.source_port, back.destination_port), (9, flows[5].source_port));
    assert_eq!((back.direction, &back.from), (Direction::ToOnprem, &spread.to));
    assert!(Spread { rate_pps: 0, ..spread }.flows().is_empty());
}

/// A gap has eight instants at least; trains have at most eight flows, and few bytes.
#[test]
fn the_probes_of_many_flows_leave_in_trains() {
    for (flows, size, train) in
        [(7, 64, 1), (16, 64, 2), (64, 64, 8), (640, 64, 8), (640, 1_400, 2)]
    {
        let spread = Spread {
            name: "erp".to_owned(),
            direction: Direction::ToAzure,
            from: end(SITE.0, "10.0.0.1"),
            to: end(VNET.0, "10.0.0.2"),
            flows,
            rate_pps: u64::from(flows) * 10,
            size,
            start: Instant::ZERO,
            stop: Instant::NEVER,
            first_id: 0,
        };
        for flow in spread.flows() {
            let first = flow.index / train * train;
            let offset = Duration::from_millis(100) * first / flows;
            assert_eq!(flow.start, Instant::ZERO + offset, "{flows} of {size} bytes");
        }
    }
}

#[test]
fn flows_that_cannot_be_are_refused() {
    let mut pair = Pair::new(FAMILIES[0]);
    let good = flow("10.0.0.1", "10.0.0.2");
    let mut refused = |flow: Flow| pair.hosts[0].add_flow(&flow).unwrap_err();
    let stranger = Flow { from: end("x", "10.0.0.1"), ..good.clone() };
    assert_eq!(refused(stranger), FlowError::NotHere(SITE.0.to_owned()));
    let elsewhere = Flow { from: end(SITE.0, "10.9.9.9"), ..good.clone() };
    assert_eq!(refused(elsewhere), FlowError::NoAddress("10.9.9.9".parse().unwrap()));
    let mixed = Flow { to: end(VNET.0, "fd00::2"), ..good.clone() };
    assert!(matches!(refused(mixed), FlowError::Families(..)));
    for size in [55, 1_501] {
        let flow = Flow { size, ..good.clone() };
        assert_eq!(refused(flow), FlowError::Size { size, min: 56, max: 1_500 });
    }
    assert_eq!(refused(Flow { gap: Duration::ZERO, ..good.clone() }), FlowError::NoGap);
    pair.hosts[0].add_flow(&Flow { size: 56, ..good.clone() }).unwrap();
    assert_eq!(pair.hosts[0].add_flow(&good), Err(FlowError::Duplicate(1)));
}

#[test]
fn a_stopped_flow_sends_no_more() {
    let [from, to] = FAMILIES[0];
    let mut pair = Pair::new([from, to]);
    pair.add(&Flow { stop: Instant::NEVER, ..flow(from, to) });
    pair.run_until(Instant::from_millis(495));
    pair.hosts[0].stop_flows(pair.now);
    pair.run_until(Instant::from_secs(5));
    assert_eq!(pair.hosts[0].sent(1), Some(50));
}

#[test]
fn too_many_due_probes_are_held_back_and_not_dropped() {
    let [from, to] = FAMILIES[0];
    let mut pair = Pair::new([from, to]);
    pair.run_until(Instant::ZERO);
    let gap = Duration::from_micros(100);
    pair.add(&Flow { gap, ..flow(from, to) });
    // The host is called again only when all is due.
    pair.now = Instant::from_secs(1);
    pair.hosts[0].handle_timeout(pair.now, &mut pair.frames);
    assert_eq!(pair.hosts[0].sent(1), Some(4_096));
    assert!(pair.hosts[0].poll_timeout() < pair.now);
    pair.run_until(Instant::from_secs(2));
    assert_eq!(pair.hosts[0].sent(1), Some(10_000));
    assert_eq!(pair.ledger(0).no_buffer, 0);
    pair.assert_conserved();
}

/// The traffic of the drill that has to run in a second of real time: 64 flows and 2,000 pps each
/// way for 60 s. Sources, sinks and meters together cost 38 ms of processor time in a release
/// build, 160 ns a probe.
#[test]
fn the_traffic_of_a_minute_is_sent_taken_and_measured() {
    let [from, to] = FAMILIES[0];
    let mut pair = Pair::new([from, to]);
    let spread = Spread {
        name: "erp".to_owned(),
        direction: Direction::ToAzure,
        from: end(SITE.0, from),
        to: end(VNET.0, to),
        flows: 64,
        rate_pps: 2_000,
        size: SIZE,
        start: Instant::ZERO,
        stop: Instant::from_secs(60),
        first_id: 1,
    };
    let there = spread.flows();
    let back: Vec<_> = there.iter().map(|flow| flow.reversed(flow.id + 64)).collect();
    there.iter().chain(&back).for_each(|flow| pair.add(flow));
    pair.run_quietly_until(Instant::from_secs(61));
    for (flows, source, sink) in [(&there, 0, 1), (&back, 1, 0)] {
        let mut received = 0;
        for flow in flows {
            let sent = pair.hosts[source].sent(flow.id).unwrap();
            let arrivals = pair.hosts[sink].arrivals(flow.id).unwrap();
            let window = Meter::new(flow, sent, arrivals, pair.now)
                .window(Instant::ZERO, Instant::from_secs(60));
            assert_eq!((window.sent, window.lost), (1_875, 0));
            received += window.received;
        }
        assert_eq!(received, 120_000);
    }
    pair.assert_conserved();
}

proptest! {
    #[test]
    fn random_frames_never_panic_and_every_one_is_counted(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        ethertype in prop::sample::select(vec![
            ethertype::ARP, ethertype::IPV4, ethertype::IPV6, 0x1234,
        ]),
    ) {
        let mut pair = Pair::new(FAMILIES[0]);
        pair.inject(&bytes);
        let mut frame = ethernet_header(VNET.1, SITE.1, ethertype);
        frame.extend(bytes);
        pair.inject(&frame);
        prop_assert_eq!(pair.ledger(1).received, 2);
        pair.assert_conserved();
    }

    #[test]
    fn a_probe_with_any_byte_changed_is_never_a_wrong_arrival(
        at in 14_usize..14 + SIZE as usize,
        xor in 1_u8..,
    ) {
        let [from, to] = FAMILIES[0];
        let mut pair = Pair::new([from, to]);
        pair.hosts[0].add_flow(&flow(from, to)).unwrap();
        pair.run_until(Instant::ZERO);
        let mut probe = pair.probe();
        pair.hosts[1].add_flow(&flow(from, to)).unwrap();
        let before = pair.ledger(1).dropped();
        probe[at] ^= xor;
        pair.inject(&probe);
        prop_assert_eq!(pair.ledger(1).dropped(), before + 1);
        prop_assert!(pair.hosts[1].arrivals(1).unwrap().at(0).is_none());
        pair.assert_conserved();
    }
}

impl Pair {
    /// As [`Pair::run_until`], but keeps no copy of what is on the wire.
    fn run_quietly_until(&mut self, end: Instant) {
        while self.now < end {
            for i in 0..2 {
                self.hosts[i].handle_timeout(self.now, &mut self.frames);
            }
            while let Some((i, frame)) = self.next_frame() {
                self.hosts[1 - i].receive(frame, &mut self.frames, self.now);
            }
            let next = self.hosts.iter().map(Host::poll_timeout).min().unwrap();
            self.now = next.min(end);
        }
    }
}

fn arp_frame(source: MacAddr, packet: &arp::Repr) -> Vec<u8> {
    let mut frame = ethernet_header(MacAddr::BROADCAST, source, ethertype::ARP);
    let mut bytes = [0; arp::LEN];
    packet.emit(&mut bytes);
    frame.extend(bytes);
    frame
}

/// A frame for the second host.
fn ip_frame(from: IpAddr, to: IpAddr, protocol: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let ethertype = if to.is_ipv4() { ethertype::IPV4 } else { ethertype::IPV6 };
    let mut frame = ethernet_header(VNET.1, SITE.1, ethertype);
    frame.extend(crate::traffic::packet::ip(from, to, protocol, ttl, payload));
    frame
}

fn ethernet_header(destination: MacAddr, source: MacAddr, ethertype: u16) -> Vec<u8> {
    let mut header = vec![0; ethernet::HEADER_LEN];
    ethernet::Repr { destination, source, ethertype }.emit(&mut header);
    header
}

/// Makes the UDP checksum of an IPv4 frame fit its content.
fn remake_udp_checksum(frame: &mut [u8]) {
    let packet = ipv4::View::new(&frame[14..]).unwrap();
    let (from, to) = (packet.source().into(), packet.destination().into());
    let datagram = udp::View::new(packet.payload()).unwrap();
    let (header, payload) = (udp::Repr::parse(&datagram).unwrap(), datagram.payload().to_vec());
    header.emit(from, to, &payload, &mut frame[14 + 20..]);
}
