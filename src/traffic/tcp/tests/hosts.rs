//! Two hosts, each the other's gateway, with a wire that delays, limits and splits.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::io::{Frame, Frames};
use crate::model::{Bandwidth, Instant};
use crate::traffic::{
    Direction, End, FlowError, Host, HostConfig, Sighting, TcpFlow, TcpMeter, TcpSpread, TcpWindow,
    sighting,
};
use crate::wire::{MacAddr, ethernet, ethertype, ipv4, ipv6, protocol, tcp};

const FAMILIES: [[&str; 2]; 2] = [["10.0.0.1", "10.0.0.2"], ["fd00::1", "fd00::2"]];
const NAMES: [&str; 2] = ["dc1.erp", "hub.app"];

/// A token bucket that drops what does not conform.
struct Policer {
    bps: u64,
    depth_bits: u64,
    /// In bits times 10^9.
    tokens: u128,
    since: Instant,
}

impl Policer {
    fn conforms(&mut self, bytes: usize, now: Instant) -> bool {
        let refill = now.since(self.since).as_nanos() * u128::from(self.bps);
        self.since = now;
        self.tokens = (self.tokens + refill).min(u128::from(self.depth_bits) * 1_000_000_000);
        let needed = bytes as u128 * 8 * 1_000_000_000;
        let conforms = self.tokens >= needed;
        if conforms {
            self.tokens -= needed;
        }
        conforms
    }
}

struct Net {
    now: Instant,
    frames: Frames,
    hosts: [Host; 2],
    /// Frames for host 0 and host 1, by arrival.
    wires: [VecDeque<(Instant, Frame)>; 2],
    delay: Duration,
    /// Towards host 1.
    policer: Option<Policer>,
    /// Of what host 0, host 1 sends.
    cut: bool,
    dropped: u64,
    seen: Option<Vec<(usize, Vec<u8>, u64)>>,
}

impl Net {
    fn new(addresses: [&str; 2], mtus: [u16; 2], delay: Duration) -> Self {
        let addresses = addresses.map(|address| address.parse::<IpAddr>().unwrap());
        let host = |own: usize| {
            Host::new(HostConfig {
                name: NAMES[own].to_owned(),
                mac: MacAddr([2, 0, 0, 0, 0, own as u8 + 1]),
                addresses: vec![addresses[own]],
                gateways: vec![addresses[1 - own]],
                mtu: mtus[own],
                seed: 7,
            })
        };
        Self {
            now: Instant::ZERO,
            frames: Frames::new(),
            hosts: [host(0), host(1)],
            wires: [VecDeque::new(), VecDeque::new()],
            delay,
            policer: None,
            cut: false,
            dropped: 0,
            seen: None,
        }
    }

    fn add(&mut self, flow: &TcpFlow) {
        for host in &mut self.hosts {
            host.add_tcp_flow(flow).unwrap();
        }
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            for host in &mut self.hosts {
                if host.poll_timeout() <= self.now {
                    host.handle_timeout(self.now, &mut self.frames);
                }
            }
            self.collect();
            let arrivals = self.wires.iter().filter_map(|wire| wire.front()).map(|(at, _)| *at);
            let next = self.hosts.iter().map(Host::poll_timeout).chain(arrivals).min().unwrap();
            if next > end {
                self.now = end;
                return;
            }
            self.now = next.max(self.now);
            for to in 0..2 {
                while let Some((_, frame)) = self.wires[to].pop_front_if(|(at, _)| *at <= self.now)
                {
                    self.hosts[to].receive(frame, &mut self.frames, self.now);
                }
            }
        }
    }

    fn collect(&mut self) {
        for from in 0..2 {
            while let Some(frame) = self.hosts[from].poll_transmit() {
                if let Some(seen) = &mut self.seen {
                    let packets = frame.meta.wire_packets();
                    seen.push((from, self.frames.bytes(&frame).to_vec(), packets));
                }
                if from == 0 && self.policer.is_some() && frame.meta.segments > 1 {
                    for part in split(&frame, &mut self.frames) {
                        self.carry(from, part);
                    }
                    self.frames.free(frame);
                } else {
                    self.carry(from, frame);
                }
            }
        }
    }

    fn carry(&mut self, from: usize, frame: Frame) {
        let policer = self.policer.as_mut().filter(|_| from == 0);
        if self.cut || policer.is_some_and(|policer| !policer.conforms(frame.len(), self.now)) {
            self.dropped += frame.meta.wire_packets();
            self.frames.free(frame);
        } else {
            self.wires[1 - from].push_back((self.now + self.delay, frame));
        }
    }

    fn window(&self, flow: &TcpFlow, from: Instant, to: Instant) -> TcpWindow {
        let end = |host: &End| usize::from(host.host == NAMES[1]);
        let sent = self.hosts[end(&flow.from)].tcp_sent(flow.id).unwrap();
        let received = self.hosts[end(&flow.to)].tcp_received(flow.id).unwrap();
        TcpMeter::new(sent, received, self.now).window(from, to)
    }

    fn assert_conserved(&self) {
        let mut on_the_way = 0;
        for (host, wire) in self.hosts.iter().zip(&self.wires) {
            assert!(host.ledger().holds(host.queued()), "{:?}", host.ledger());
            on_the_way += wire.iter().map(|(_, frame)| frame.meta.wire_packets()).sum::<u64>();
        }
        let [a, b] = [self.hosts[0].ledger(), self.hosts[1].ledger()];
        let transmitted = a.transmitted + b.transmitted;
        assert_eq!(transmitted, a.received + b.received + self.dropped + on_the_way);
        let queued: u64 = self.hosts.iter().map(Host::queued).sum();
        assert!(self.frames.in_use() as u64 <= queued + on_the_way);
    }

    /// Hands a frame to host 1; what comes back.
    fn inject(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let frame = self.frames.allocate_from(bytes).unwrap();
        self.hosts[1].receive(frame, &mut self.frames, self.now);
        let answers = std::iter::from_fn(|| self.hosts[1].poll_transmit());
        answers.map(|frame| self.frames.bytes(&frame).to_vec()).collect()
    }
}

/// The parts of a super-frame over IPv4, as a limiter makes them.
fn split(frame: &Frame, frames: &mut Frames) -> Vec<Frame> {
    let bytes = frames.bytes(frame).to_vec();
    let packet = ipv4::View::new(&bytes[ethernet::HEADER_LEN..]).unwrap();
    let view = tcp::View::new(packet.payload()).unwrap();
    let header_len = ethernet::HEADER_LEN + packet.header_len() + view.data_offset();
    let size = frame.meta.gso_size as usize;
    let mut parts = Vec::new();
    for (place, payload) in view.payload().chunks(size).enumerate() {
        let mut part = [&bytes[..header_len], payload].concat();
        let mut header = ipv4::Repr::parse(&packet).unwrap();
        header.payload_len = view.data_offset() + payload.len();
        header.emit(&mut part[ethernet::HEADER_LEN..]);
        let sequence = view.sequence().wrapping_add((place * size) as u32);
        let sequence_at = ethernet::HEADER_LEN + packet.header_len() + 4;
        part[sequence_at..sequence_at + 4].copy_from_slice(&sequence.to_be_bytes());
        parts.push(frames.allocate_from(&part).unwrap());
    }
    assert_eq!(parts.len() as u64, frame.meta.wire_packets());
    parts
}

fn spread(addresses: [&str; 2], flows: u32, mbps: Option<u64>, stop: Instant) -> TcpSpread {
    let end =
        |own: usize| End { host: NAMES[own].to_owned(), address: addresses[own].parse().unwrap() };
    TcpSpread {
        name: "erp".to_owned(),
        direction: Direction::ToAzure,
        from: end(0),
        to: end(1),
        flows,
        rate: mbps.map(Bandwidth::from_mbps),
        start: Instant::ZERO,
        stop,
        first_id: 7,
    }
}

const SECOND: Instant = Instant::from_secs(1);

#[test]
fn data_crosses_in_both_families_and_in_super_frames() {
    for addresses in FAMILIES {
        let mut net = Net::new(addresses, [1_500, 1_400], Duration::from_millis(5));
        net.seen = Some(Vec::new());
        let flows = spread(addresses, 2, Some(40), SECOND).flows();
        for flow in &flows {
            net.add(flow);
        }
        net.run_until(Instant::from_secs(2));
        for flow in &flows {
            let window = net.window(flow, Instant::ZERO, SECOND);
            // 20 Mbps each, but for the handshake and what was on the way.
            assert!(window.goodput_bps > 19_000_000, "{}", window.goodput_bps);
            assert_eq!((window.retransmitted, window.timeouts, window.resets), (0, 0, 0));
            assert_eq!(window.rtt.p50_us().map(|micros| micros / 100), Some(99));
        }
        let seen = net.seen.take().unwrap();
        assert!(seen.iter().any(|(_, _, packets)| *packets > 1));
        let largest = seen.iter().map(|(_, bytes, packets)| bytes.len() / *packets as usize).max();
        // No packet is larger than the smaller of the two links takes.
        assert!(largest.unwrap() <= 1_414, "{largest:?}");
        for (from, bytes, packets) in &seen {
            check_segment(*from, bytes, *packets);
        }
        assert_eq!(net.hosts[1].ledger().dropped() + net.hosts[0].ledger().dropped(), 0);
        net.run_until(Instant::from_secs(10));
        assert_eq!(net.frames.in_use(), 0);
        net.assert_conserved();
    }
}

/// What a watcher sees of each frame, and that ordinary ones are whole.
fn check_segment(from: usize, bytes: &[u8], packets: u64) {
    let ethernet = ethernet::View::new(bytes).unwrap();
    let (source, destination, payload) = match ethernet.ethertype() {
        ethertype::IPV4 => {
            let view = ipv4::View::new(ethernet.payload()).unwrap();
            (view.source().into(), view.destination().into(), view.payload())
        }
        ethertype::IPV6 => {
            let view = ipv6::View::new(ethernet.payload()).unwrap();
            if view.next_header() != protocol::TCP {
                assert_eq!(sighting(bytes), None);
                return;
            }
            (IpAddr::V6(view.source()), IpAddr::V6(view.destination()), view.payload())
        }
        _ => {
            assert_eq!(sighting(bytes), None);
            return;
        }
    };
    let view = tcp::View::new(payload).unwrap();
    assert_eq!(view.verify_checksum(source, destination), packets == 1);
    let port = view.source_port().max(view.destination_port());
    let flow = u32::from(port) - 20_000;
    assert!((7..9).contains(&flow));
    assert_eq!(sighting(bytes), Some(Sighting { flow, is_reverse: from == 1, outer: None }));
}

/// One flow through 50 Mbps, 10 ms and a bucket of 5 ms.
#[test]
fn a_policer_is_filled_by_more_than_half() {
    let mut net = Net::new(FAMILIES[0], [1_400; 2], Duration::from_millis(5));
    let (bps, depth_bits) = (50_000_000, 50_000_000 / 200);
    let tokens = u128::from(depth_bits) * 1_000_000_000;
    net.policer = Some(Policer { bps, depth_bits, tokens, since: Instant::ZERO });
    let flow = spread(FAMILIES[0], 1, None, Instant::NEVER).flows().remove(0);
    net.add(&flow);
    net.run_until(Instant::from_secs(21));
    let window = net.window(&flow, SECOND, Instant::from_secs(21));
    assert!(window.goodput_bps > bps / 2 && window.goodput_bps < bps, "{window:?}");
    assert!(window.per_second_bps.iter().all(|second| *second < bps), "{window:?}");
    // Losses are repaired without waiting for a timer most of the time.
    assert!(window.retransmitted > 0 && window.timeouts < 20, "{window:?}");
    assert!(window.retransmitted * 20 < window.segments, "{window:?}");
    assert!(net.dropped > 0);
    net.hosts[0].stop_flows(net.now);
    net.run_until(Instant::from_secs(60));
    assert_eq!(net.hosts[0].queued() + net.hosts[1].queued(), 0);
    net.assert_conserved();
    let all = net.window(&flow, Instant::ZERO, Instant::NEVER);
    // What arrived for the second time or too early to be used is all that is not delivered.
    assert!(all.delivered_bytes / 1_348 <= all.segments - net.dropped);
}

/// A cut of 0.9 s under 8 Mbps at 10 ms. For some tens of milliseconds the window lets new data
/// leave. 22 ms after the last of it (two round trips and 2 ms) a tail loss probe goes out, 210 ms
/// later the first retransmission, then after 420 and after 840 ms: at 1.49 s and those tens of
/// milliseconds. It arrives 5 ms later.
#[test]
fn a_cut_ends_for_the_flow_with_the_next_retransmission() {
    let mut net = Net::new(FAMILIES[0], [1_400; 2], Duration::from_millis(5));
    let flow = spread(FAMILIES[0], 1, Some(8), Instant::from_secs(10)).flows().remove(0);
    net.add(&flow);
    net.run_until(Instant::from_secs(5));
    net.cut = true;
    net.run_until(Instant::from_millis(5_900));
    net.cut = false;
    net.run_until(Instant::from_secs(12));
    let window = net.window(&flow, Instant::from_millis(4_900), Instant::from_secs(6));
    assert_eq!((window.timeouts, window.resets), (2, 0));
    let after = net.window(&flow, Instant::from_secs(6), Instant::from_secs(12));
    assert_eq!((after.timeouts, after.resets), (1, 0));
    let stall = window.longest_stall.as_millis();
    assert!((1_490..1_560).contains(&stall), "{stall}");
    // The application lost nothing and caught up.
    let all = net.window(&flow, Instant::ZERO, Instant::from_secs(10));
    assert!(all.delivered_bytes > 9_970_000, "{}", all.delivered_bytes);
    let last = net.window(&flow, Instant::from_secs(9), Instant::from_secs(10));
    assert!(last.goodput_bps.abs_diff(8_000_000) < 100_000, "{}", last.goodput_bps);
    net.assert_conserved();
}

/// Another customer's host with the same addresses and ports: its data is not taken.
#[test]
fn content_of_another_conversation_is_noticed() {
    let mut net = Net::new(FAMILIES[0], [1_400; 2], Duration::from_millis(5));
    let flow = spread(FAMILIES[0], 1, Some(8), SECOND).flows().remove(0);
    let other = TcpFlow { from: End { host: "other.erp".to_owned(), ..flow.from.clone() }, ..flow };
    let ours = spread(FAMILIES[0], 1, Some(8), SECOND).flows().remove(0);
    net.hosts[0].add_tcp_flow(&ours).unwrap();
    net.hosts[1].add_tcp_flow(&other).unwrap();
    net.run_until(SECOND);
    assert!(net.hosts[1].ledger().misdelivered > 0);
    let received = net.hosts[1].tcp_received(ours.id).unwrap();
    let meter = TcpMeter::new(net.hosts[0].tcp_sent(ours.id).unwrap(), received, net.now);
    assert_eq!(meter.window(Instant::ZERO, Instant::NEVER).delivered_bytes, 0);
    net.assert_conserved();
}

/// A host that is not of the flow, and one that has the address of neither end.
#[test]
fn segments_of_a_flow_that_is_not_here_are_misdelivered_and_refused() {
    let mut net = Net::new(FAMILIES[0], [1_400; 2], Duration::from_millis(5));
    let flow = spread(FAMILIES[0], 1, Some(8), Instant::from_secs(9)).flows().remove(0);
    net.hosts[0].add_tcp_flow(&flow).unwrap();
    net.run_until(SECOND);
    let misdelivered = net.hosts[1].ledger().misdelivered;
    assert_eq!(misdelivered, 1);
    let sent = net.hosts[0].tcp_sent(flow.id).unwrap();
    let nothing = super::TcpReceived::new(Instant::ZERO);
    let window = TcpMeter::new(sent, &nothing, net.now).window(Instant::ZERO, Instant::NEVER);
    assert_eq!(window.resets, 1);
    // It tries again a second after it was refused.
    net.run_until(Instant::from_millis(1_100));
    assert_eq!(net.hosts[1].ledger().misdelivered, 2);
    net.assert_conserved();
}

/// The kernel of the host answers: the model takes what is for it, says nothing, and still notices
/// what is for nobody here.
#[test]
fn what_is_left_to_the_kernel_is_never_answered() {
    let mut net = Net::new(FAMILIES[0], [1_400; 2], Duration::from_millis(5));
    let mut flows = spread(FAMILIES[0], 2, Some(8), Instant::from_secs(9)).flows();
    for flow in &mut flows {
        flow.start = Instant::ZERO;
    }
    for flow in &flows {
        net.hosts[0].add_tcp_flow(flow).unwrap();
    }
    net.hosts[1].leave_tcp_flow(&flows[0]).unwrap();
    net.run_until(Instant::from_millis(900));
    assert_eq!(net.hosts[1].ledger().misdelivered, 1);
    for flow in &flows {
        let sent = net.hosts[0].tcp_sent(flow.id).unwrap();
        let nothing = super::TcpReceived::new(Instant::ZERO);
        let window = TcpMeter::new(sent, &nothing, net.now).window(Instant::ZERO, Instant::NEVER);
        assert_eq!(window.resets, 0, "nobody refused it");
    }
    assert!(net.hosts[1].tcp_received(flows[0].id).is_none());
    net.assert_conserved();
}

#[test]
fn other_connections_are_refused() {
    let mut net = Net::new(FAMILIES[0], [1_400; 2], Duration::from_millis(5));
    net.run_until(SECOND);
    let segment = |source_port, flags, to: &str| {
        let [from, to] = ["10.0.0.1", to].map(|address| address.parse::<IpAddr>().unwrap());
        let header = tcp::Repr {
            source_port,
            destination_port: 179,
            sequence: 100,
            acknowledgement: 9,
            flags,
            window: 1_000,
            urgent: 0,
            options: &[],
            payload_len: 3,
        };
        let mut payload = vec![0; header.buffer_len()];
        header.emit(from, to, b"abc", &mut payload);
        let packet = crate::traffic::packet::ip(from, to, protocol::TCP, 64, &payload);
        let mac = |own| MacAddr([2, 0, 0, 0, 0, own]);
        crate::traffic::packet::frame(mac(2), mac(1), ethertype::IPV4, &packet)
    };
    let before = *net.hosts[1].ledger();
    // RFC 9293, 3.10.7.1.
    let answer = |answers: &[Vec<u8>]| {
        let packet = ipv4::View::new(&answers[0][ethernet::HEADER_LEN..]).unwrap();
        let view = tcp::View::new(packet.payload()).unwrap();
        assert!(view.verify_checksum(packet.source().into(), packet.destination().into()));
        assert_eq!((view.source_port(), view.destination_port()), (179, 30_000));
        (view.sequence(), view.acknowledgement(), view.flags())
    };
    let syn = segment(30_000, tcp::Flags::SYN, "10.0.0.2");
    assert_eq!(sighting(&syn), None);
    let refused = answer(&net.inject(&syn));
    assert_eq!(refused, (0, 104, tcp::Flags::RST | tcp::Flags::ACK));
    let refused = answer(&net.inject(&segment(30_000, tcp::Flags::ACK, "10.0.0.2")));
    assert_eq!(refused, (9, 0, tcp::Flags::RST));
    assert!(net.inject(&segment(30_000, tcp::Flags::RST, "10.0.0.2")).is_empty());
    let ledger = net.hosts[1].ledger();
    assert_eq!(ledger.consumed - before.consumed, 3);
    assert_eq!(ledger.originated - before.originated, 2);

    let mut changed = segment(30_000, tcp::Flags::ACK, "10.0.0.2");
    *changed.last_mut().unwrap() ^= 1;
    assert!(net.inject(&changed).is_empty());
    assert!(net.inject(&segment(30_000, tcp::Flags::SYN, "10.0.0.9")).is_empty());
    let ledger = net.hosts[1].ledger();
    assert_eq!((ledger.malformed, ledger.not_for_us), (1, 1));
    assert!(ledger.holds(0));
}

#[test]
fn a_host_without_its_gateway_counts_segments_and_not_frames() {
    let mut net = Net::new(FAMILIES[0], [1_400; 2], Duration::from_millis(5));
    let flow = spread(FAMILIES[0], 1, None, Instant::from_secs(40)).flows().remove(0);
    net.add(&flow);
    net.run_until(Instant::from_secs(2));
    // The wire is dead until the gateway is forgotten; what is sent then is dropped at home.
    net.cut = true;
    net.run_until(Instant::from_secs(300));
    assert!(net.hosts[0].ledger().no_neighbor > 0);
    assert_eq!(net.hosts[0].gateway_mac(FAMILIES[0][1].parse().unwrap()), None);
    net.assert_conserved();
}

#[test]
fn flows_that_cannot_be_are_refused() {
    let mut net = Net::new(FAMILIES[0], [1_400, 500], Duration::from_millis(5));
    let good = spread(FAMILIES[0], 1, Some(8), SECOND).flows().remove(0);
    let mut refused = |flow: TcpFlow| net.hosts[0].add_tcp_flow(&flow).unwrap_err();
    assert_eq!(refused(TcpFlow { id: 8, ..good.clone() }), FlowError::Ports(8));
    assert_eq!(refused(TcpFlow { source_port: 1_000, ..good.clone() }), FlowError::Ports(7));
    assert_eq!(refused(TcpFlow { destination_port: 80, ..good.clone() }), FlowError::Ports(7));
    let idle = TcpFlow { rate: Some(Bandwidth::from_bps(0)), ..good.clone() };
    assert_eq!(refused(idle), FlowError::NoRate);
    let far = TcpSpread { first_id: 40_000, ..spread(FAMILIES[0], 1, None, SECOND) };
    assert_eq!(refused(far.flows().remove(0)), FlowError::Ports(40_000));
    net.hosts[0].add_tcp_flow(&good).unwrap();
    assert_eq!(net.hosts[0].add_tcp_flow(&good), Err(FlowError::Duplicate(7)));
    let small = net.hosts[1].add_tcp_flow(&good);
    assert_eq!(small, Err(FlowError::Mtu { mtu: 500, min: 576 }));
}

#[test]
fn a_rate_is_divided_evenly() {
    let flows = spread(FAMILIES[0], 4, Some(300), SECOND).flows();
    let ids: Vec<_> = flows.iter().map(|flow| (flow.id, flow.index, flow.source_port)).collect();
    assert_eq!(ids, [(7, 0, 20_007), (8, 1, 20_008), (9, 2, 20_009), (10, 3, 20_010)]);
    assert!(flows.iter().all(|flow| flow.rate == Some(Bandwidth::from_mbps(75))));
    assert_eq!(flows[2].start, Instant::ZERO + Duration::from_micros(500));
    assert!(spread(FAMILIES[0], 4, Some(0), SECOND).flows().is_empty());
    assert_eq!(spread(FAMILIES[0], 2, None, SECOND).flows()[1].rate, None);
}

/// The traffic of a drill: four flows of 300 Mbps together, for 14 s here.
#[test]
fn a_busy_drill_costs_little() {
    let mut net = Net::new(FAMILIES[0], [1_400; 2], Duration::from_millis(5));
    let flows = spread(FAMILIES[0], 4, Some(300), Instant::from_secs(14)).flows();
    for flow in &flows {
        net.add(flow);
    }
    net.run_until(Instant::from_secs(15));
    for flow in &flows {
        let window = net.window(flow, SECOND, Instant::from_secs(13));
        assert!(window.goodput_bps.abs_diff(75_000_000) < 750_000, "{}", window.goodput_bps);
        assert_eq!(window.retransmitted, 0);
    }
    net.assert_conserved();
}
