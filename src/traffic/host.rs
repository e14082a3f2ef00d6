//! One endpoint: answers ARP, neighbour discovery and ping, sends and takes probes, holds the ends
//! of TCP flows.
//!
//! A host has one gateway for each family and asks for no other MAC address: everything it sends
//! goes through the gateway, as behind a point-to-point port.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::Serialize;

use crate::io::{Frame, Frames, Meta};
use crate::model::{Instant, Random};
use crate::traffic::flow::{End, Flow, FlowError, PROBES_MAX};
use crate::traffic::meter::Arrivals;
use crate::traffic::packet;
use crate::traffic::probe::{self, Probe, Template};
use crate::traffic::tcp::{self, Endpoints, Role, TcpFlow, TcpReceived, TcpSent};
use crate::wire;
use crate::wire::{
    MacAddr, arp, ethernet, ethertype, icmp, icmpv6, ipv4, ipv6, ndp, protocol, udp,
};

/// Most flows that begin or end at a host.
const FLOWS_MAX: usize = 1 << 16;
/// Frames that wait for the MAC of one gateway; the next one is dropped as `no_neighbor`.
const WAITING_MAX: usize = 256;
/// Frames that wait to be polled. Full, probes are held back and replies are dropped.
const OUTBOX_MAX: usize = 4_096;
/// Between two requests for a MAC while none is answered (RFC 4861, 10: RetransTimer).
const RETRY: Duration = Duration::from_secs(1);
/// Age at which a known MAC is asked for again: 30 s, spread by factors from 0.5 to 1.5 (RFC 4861,
/// 6.3.2: ReachableTime), here as the most and the least in percent of it.
const REACHABLE_MAX: Duration = Duration::from_secs(45);
const REACHABLE_MIN_PERCENT: u64 = 33;
/// Unanswered requests after which a MAC is forgotten and waiting frames are dropped (RFC 4861,
/// 10: MAX_MULTICAST_SOLICIT).
const ATTEMPTS: u32 = 3;
/// Smallest MTU of a host with TCP flows: what every IPv4 link carries (RFC 791).
const TCP_MTU_MIN: u16 = 576;
/// Hop limit that proves that a neighbour-discovery packet crossed no router (RFC 4861, 7.1).
const NDP_HOP_LIMIT: u8 = 255;

/// What a host is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostConfig {
    /// Its full name, unique in the lab: `dc1.erp`.
    pub name: String,
    pub mac: MacAddr,
    pub addresses: Vec<IpAddr>,
    /// At most one of each family is used: the first.
    pub gateways: Vec<IpAddr>,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// Decides when a known MAC is asked for again, so that hosts do not ask in step.
    pub seed: u64,
}

/// Where a host's packets went, in wire packets. At any time received + originated = transmitted +
/// consumed + queued + all that is dropped, which is the rest.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Ledger {
    pub received: u64,
    pub originated: u64,
    pub transmitted: u64,
    pub consumed: u64,
    /// For another MAC or IP address, or of a protocol the host does not speak.
    pub not_for_us: u64,
    /// Cut short, inconsistent, with a wrong checksum, or a probe whose content changed.
    pub malformed: u64,
    /// The gateway's MAC was not known.
    pub no_neighbor: u64,
    /// A probe or TCP segment of a flow that does not end here, or with data that is not the
    /// flow's: content of another conversation.
    pub misdelivered: u64,
    /// No frame was free, or too many waited to be sent.
    pub no_buffer: u64,
}

impl Ledger {
    pub const fn dropped(&self) -> u64 {
        self.not_for_us + self.malformed + self.no_neighbor + self.misdelivered + self.no_buffer
    }

    /// Whether the conservation equation holds with this many frames queued.
    pub const fn holds(&self, queued: u64) -> bool {
        self.received + self.originated
            == self.transmitted + self.consumed + queued + self.dropped()
    }
}

/// An endpoint of the lab.
#[derive(Debug)]
pub struct Host {
    config: HostConfig,
    gateways: Vec<Gateway>,
    sources: Vec<Source>,
    /// Flow identifier → place in `sources`.
    source_of: BTreeMap<u32, usize>,
    /// When each source's next probe is due. What is due at once leaves in an order that is another
    /// each time: else it would be the same flows that find a limiter's bucket empty.
    schedule: BinaryHeap<Reverse<(Instant, u32, usize)>>,
    sinks: BTreeMap<u32, Sink>,
    tcp: Endpoints,
    outbox: VecDeque<Frame>,
    ledger: Ledger,
    random: Random,
    /// What decides who of those that are due at once leaves first.
    turns: Random,
}

#[derive(Debug)]
struct Gateway {
    address: IpAddr,
    mac: Option<MacAddr>,
    waiting: VecDeque<Frame>,
    next_request: Instant,
    /// Requests since the last sign of life.
    unanswered: u32,
}

#[derive(Debug)]
struct Source {
    flow: Flow,
    template: Template,
    sent: u32,
}

#[derive(Debug)]
struct Sink {
    flow: Flow,
    owner: u64,
    pattern: Vec<u8>,
    arrivals: Arrivals,
}

/// What became of a received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Consumed,
    NotForUs,
    Malformed,
    Misdelivered,
}

/// What a received frame makes the host send.
enum Reply {
    /// A whole frame.
    Frame(Vec<u8>),
    /// A whole frame but for the MAC of the gateway towards this address.
    Routed(IpAddr, Vec<u8>),
}

/// An IP packet of either version.
struct Packet<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    hop_limit: u8,
    payload: &'a [u8],
}

type Taken = (Fate, Option<Reply>);

impl Host {
    pub fn new(config: HostConfig) -> Self {
        let of_family = |v4| config.gateways.iter().find(|address| address.is_ipv4() == v4);
        let gateways = [of_family(true), of_family(false)].into_iter().flatten();
        let gateways = gateways.map(|address| Gateway::new(*address)).collect();
        let random = Random::new(config.seed, &config.name);
        let turns = Random::new(config.seed, &format!("{} turns", config.name));
        Self {
            config,
            gateways,
            sources: Vec::new(),
            source_of: BTreeMap::new(),
            schedule: BinaryHeap::new(),
            sinks: BTreeMap::new(),
            tcp: Endpoints::default(),
            outbox: VecDeque::new(),
            ledger: Ledger::default(),
            random,
            turns,
        }
    }

    /// Sends the flow's probes if it begins here, and takes them if it ends here.
    pub fn add_flow(&mut self, flow: &Flow) -> Result<(), FlowError> {
        self.check(flow)?;
        if flow.from.host == self.config.name {
            let place = self.sources.len();
            let template = Template::new(flow, self.config.mac);
            self.sources.push(Source { flow: flow.clone(), template, sent: 0 });
            self.source_of.insert(flow.id, place);
            self.schedule.push(Reverse((flow.start, 0, place)));
        }
        if flow.to.host == self.config.name {
            let sink = Sink {
                flow: flow.clone(),
                owner: probe::owner(&flow.from.host),
                pattern: probe::pattern(flow),
                arrivals: Arrivals::default(),
            };
            self.sinks.insert(flow.id, sink);
        }
        Ok(())
    }

    /// Opens the flow's connection and sends its data if it begins here, and listens for it if it
    /// ends here.
    pub fn add_tcp_flow(&mut self, flow: &TcpFlow) -> Result<(), FlowError> {
        self.check_tcp(flow)?;
        let (mac, mtu) = (self.config.mac, self.config.mtu);
        if flow.from.host == self.config.name {
            self.tcp.add_sender(flow, mac, mtu);
        }
        if flow.to.host == self.config.name {
            self.tcp.add_receiver(flow, mac, mtu);
        }
        Ok(())
    }

    /// The kernel of the host's namespace opens the flow's connection if it begins here, and listens
    /// for it if it ends here: its segments are seen, and never answered. A host has either such
    /// flows or those of [`Host::add_tcp_flow`].
    pub fn leave_tcp_flow(&mut self, flow: &TcpFlow) -> Result<(), FlowError> {
        self.check_tcp(flow)?;
        if flow.from.host == self.config.name {
            self.tcp.leave_to_kernel(flow, Role::Sender);
        }
        if flow.to.host == self.config.name {
            self.tcp.leave_to_kernel(flow, Role::Receiver);
        }
        Ok(())
    }

    /// No probe that begins here leaves then or later.
    pub fn stop_flows(&mut self, at: Instant) {
        for source in &mut self.sources {
            source.flow.stop = source.flow.stop.min(at);
        }
    }

    /// No TCP flow that begins here sends anything new then or later; what was lost is repeated.
    pub fn stop_tcp_flows(&mut self, at: Instant) {
        self.tcp.stop(at);
    }

    /// Takes a frame from the wire. What it makes the host send is polled afterwards.
    pub fn receive(&mut self, frame: Frame, frames: &mut Frames, now: Instant) {
        let packets = frame.meta.wire_packets();
        self.ledger.received += packets;
        let (fate, reply) = self.take(frames.bytes(&frame), frame.meta, now);
        frames.free(frame);
        match fate {
            Fate::Consumed => self.ledger.consumed += packets,
            Fate::NotForUs => self.ledger.not_for_us += packets,
            Fate::Malformed => self.ledger.malformed += packets,
            Fate::Misdelivered => self.ledger.misdelivered += packets,
        }
        match reply {
            Some(Reply::Frame(bytes)) => self.send(&bytes, frames),
            Some(Reply::Routed(to, bytes)) => self.send_routed(to, &bytes, frames),
            None => {}
        }
        self.release_waiting(frames);
        self.send_segments(frames, now);
    }

    /// Sends the probes, segments and requests that are due.
    pub fn handle_timeout(&mut self, now: Instant, frames: &mut Frames) {
        for place in 0..self.gateways.len() {
            if now >= self.gateways[place].next_request {
                self.request(place, frames, now);
            }
        }
        while self.outbox.len() < OUTBOX_MAX
            && let Some(&Reverse((at, _, place))) = self.schedule.peek()
            && at <= now
        {
            self.schedule.pop();
            self.send_probe(place, frames, now);
        }
        self.tcp.handle_timeout(now);
        self.send_segments(frames, now);
    }

    /// The next frame for the wire.
    pub fn poll_transmit(&mut self) -> Option<Frame> {
        let frame = self.outbox.pop_front()?;
        self.ledger.transmitted += frame.meta.wire_packets();
        Some(frame)
    }

    /// When [`Host::handle_timeout`] must next be called. In the past while probes or segments are
    /// held back because too many frames wait to be polled.
    pub fn poll_timeout(&self) -> Instant {
        let probe = self.schedule.peek().map_or(Instant::NEVER, |Reverse((at, ..))| *at);
        let requests = self.gateways.iter().map(|gateway| gateway.next_request);
        requests.fold(probe.min(self.tcp.poll_timeout()), Instant::min)
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    pub fn config(&self) -> &HostConfig {
        &self.config
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Packets that wait for a MAC or to be polled, as on the wire.
    pub fn queued(&self) -> u64 {
        let waiting = self.gateways.iter().flat_map(|gateway| &gateway.waiting);
        waiting.chain(&self.outbox).map(|frame| frame.meta.wire_packets()).sum()
    }

    /// The MAC of a gateway, once it is known.
    pub fn gateway_mac(&self, gateway: IpAddr) -> Option<MacAddr> {
        self.gateways.iter().find(|known| known.address == gateway)?.mac
    }

    /// How many probes of a flow that begins here have been sent.
    pub fn sent(&self, flow: u32) -> Option<u32> {
        self.source_of.get(&flow).map(|place| self.sources[*place].sent)
    }

    /// What arrived of a flow that ends here.
    pub fn arrivals(&self, flow: u32) -> Option<&Arrivals> {
        self.sinks.get(&flow).map(|sink| &sink.arrivals)
    }

    /// What the sending end of a TCP flow that begins here has written down.
    pub fn tcp_sent(&self, flow: u32) -> Option<&TcpSent> {
        self.tcp.sent(flow)
    }

    /// What the receiving end of a TCP flow that ends here has written down.
    pub fn tcp_received(&self, flow: u32) -> Option<&TcpReceived> {
        self.tcp.received(flow)
    }

    fn check(&self, flow: &Flow) -> Result<(), FlowError> {
        self.check_ends(flow.id, &flow.from, &flow.to)?;
        let (size, min, max) = (flow.size, probe::min_size(flow.to.address), self.config.mtu);
        if size < min || size > max {
            return Err(FlowError::Size { size, min, max });
        }
        if flow.gap.is_zero() {
            return Err(FlowError::NoGap);
        }
        Ok(())
    }

    fn check_tcp(&self, flow: &TcpFlow) -> Result<(), FlowError> {
        self.check_ends(flow.id, &flow.from, &flow.to)?;
        if !flow.is_told_by_ports() {
            return Err(FlowError::Ports(flow.id));
        }
        if flow.rate.is_some_and(|rate| rate.bps() == 0) {
            return Err(FlowError::NoRate);
        }
        let (mtu, min) = (self.config.mtu, TCP_MTU_MIN);
        if mtu < min { Err(FlowError::Mtu { mtu, min }) } else { Ok(()) }
    }

    fn check_ends(&self, id: u32, from: &End, to: &End) -> Result<(), FlowError> {
        let ends = [from, to];
        let mut here = ends.into_iter().filter(|end| end.host == self.config.name).peekable();
        if here.peek().is_none() {
            return Err(FlowError::NotHere(self.config.name.clone()));
        }
        if let Some(end) = here.find(|end| !self.config.addresses.contains(&end.address)) {
            return Err(FlowError::NoAddress(end.address));
        }
        let (from, to) = (from.address, to.address);
        if from.is_ipv4() != to.is_ipv4() {
            return Err(FlowError::Families(from, to));
        }
        let is_known = self.source_of.contains_key(&id) || self.sinks.contains_key(&id);
        if is_known || self.tcp.contains(id) {
            return Err(FlowError::Duplicate(id));
        }
        if self.sources.len() + self.sinks.len() + self.tcp.len() >= FLOWS_MAX {
            return Err(FlowError::TooMany(FLOWS_MAX));
        }
        Ok(())
    }

    /// Sends the probe of a source that has come due, unless its flow has stopped.
    fn send_probe(&mut self, place: usize, frames: &mut Frames, now: Instant) {
        let source = &mut self.sources[place];
        let sequence = source.sent;
        if source.flow.sent_at(sequence) >= source.flow.stop || sequence == PROBES_MAX {
            return;
        }
        source.sent += 1;
        let turn = self.turns.next_u32();
        self.schedule.push(Reverse((source.flow.sent_at(source.sent), turn, place)));
        let to = source.flow.to.address;
        let frame = source.template.emit(sequence, now, frames);
        self.originate(to, frame, 1, frames);
    }

    /// Lets the TCP flows send while there is room in the outbox.
    fn send_segments(&mut self, frames: &mut Frames, now: Instant) {
        while self.outbox.len() < OUTBOX_MAX
            && let Some((to, packets, frame)) = self.tcp.poll_transmit(frames, now)
        {
            self.originate(to, frame, packets, frames);
        }
    }

    /// Asks for the MAC of a gateway, and gives up on it after some silence.
    fn request(&mut self, place: usize, frames: &mut Frames, now: Instant) {
        let gateway = &mut self.gateways[place];
        gateway.next_request = now + RETRY;
        if gateway.unanswered == ATTEMPTS {
            gateway.mac = None;
            for frame in gateway.waiting.drain(..) {
                self.ledger.no_neighbor += frame.meta.wire_packets();
                frames.free(frame);
            }
        } else {
            gateway.unanswered += 1;
        }
        let bytes = match gateway.address {
            IpAddr::V4(address) => self.arp_request(address),
            IpAddr::V6(address) => self.neighbor_solicit(address),
        };
        self.send(&bytes, frames);
    }

    fn arp_request(&self, target: Ipv4Addr) -> Vec<u8> {
        let own = self.config.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        let request = arp::Repr {
            operation: arp::Operation::Request,
            sender_mac: self.config.mac,
            sender: own.unwrap_or(Ipv4Addr::UNSPECIFIED),
            target_mac: MacAddr::default(),
            target,
        };
        self.arp_frame(MacAddr::BROADCAST, &request)
    }

    fn neighbor_solicit(&self, target: Ipv6Addr) -> Vec<u8> {
        let source = self.config.addresses.iter().find_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        let source = source.unwrap_or(self.link_local());
        let group = ndp::solicited_node(target);
        let solicit = ndp::Repr::NeighborSolicit { target, source_link: Some(self.config.mac) };
        self.ndp_frame(ndp::multicast_mac(group), source, group, &solicit)
    }

    /// A frame of the host's own making, complete.
    fn send(&mut self, bytes: &[u8], frames: &mut Frames) {
        self.ledger.originated += 1;
        match frames.allocate_from(bytes) {
            Some(frame) => self.push(frame, frames),
            None => self.ledger.no_buffer += 1,
        }
    }

    fn send_routed(&mut self, to: IpAddr, bytes: &[u8], frames: &mut Frames) {
        let frame = frames.allocate_from(bytes);
        self.originate(to, frame, 1, frames);
    }

    /// Gives a frame of so many packets the MAC of its gateway, or lets it wait for it.
    fn originate(&mut self, to: IpAddr, frame: Option<Frame>, packets: u64, frames: &mut Frames) {
        self.ledger.originated += packets;
        let Some(frame) = frame else {
            self.ledger.no_buffer += packets;
            return;
        };
        let family = |gateway: &&mut Gateway| gateway.address.is_ipv4() == to.is_ipv4();
        match self.gateways.iter_mut().find(family) {
            Some(Gateway { mac: Some(mac), .. }) => {
                set_destination(frames.bytes_mut(&frame), *mac);
                self.push(frame, frames);
            }
            Some(gateway) if gateway.waiting.len() < WAITING_MAX => {
                gateway.waiting.push_back(frame);
            }
            Some(_) | None => {
                self.ledger.no_neighbor += packets;
                frames.free(frame);
            }
        }
    }

    /// Sends what waited for a MAC that is known.
    fn release_waiting(&mut self, frames: &mut Frames) {
        for place in 0..self.gateways.len() {
            let gateway = &mut self.gateways[place];
            let Some(mac) = gateway.mac else { continue };
            for frame in std::mem::take(&mut gateway.waiting) {
                set_destination(frames.bytes_mut(&frame), mac);
                self.push(frame, frames);
            }
        }
    }

    fn push(&mut self, frame: Frame, frames: &mut Frames) {
        if self.outbox.len() < OUTBOX_MAX {
            self.outbox.push_back(frame);
        } else {
            self.ledger.no_buffer += frame.meta.wire_packets();
            frames.free(frame);
        }
    }

    fn take(&mut self, bytes: &[u8], meta: Meta, now: Instant) -> Taken {
        let Ok(ethernet) = ethernet::View::new(bytes) else { return (Fate::Malformed, None) };
        let destination = ethernet.destination();
        let for_us = destination == self.config.mac || destination.is_multicast();
        match ethernet.ethertype() {
            ethertype::ARP if for_us => self.take_arp(ethernet.payload(), now),
            ethertype::IPV4 | ethertype::IPV6 => {
                match Packet::parse(ethernet.ethertype(), ethernet.payload()) {
                    Some(packet) => self.take_packet(&packet, meta, for_us, now),
                    None => (Fate::Malformed, None),
                }
            }
            _ => (Fate::NotForUs, None),
        }
    }

    fn take_arp(&mut self, bytes: &[u8], now: Instant) -> Taken {
        let parsed = arp::View::new(bytes).and_then(|view| arp::Repr::parse(&view));
        let Ok(packet) = parsed else { return (Fate::Malformed, None) };
        self.learn(packet.sender.into(), packet.sender_mac, now);
        let asked = packet.operation == arp::Operation::Request
            && self.config.addresses.contains(&packet.target.into());
        let reply = asked.then(|| {
            let reply = arp::Repr {
                operation: arp::Operation::Reply,
                sender_mac: self.config.mac,
                sender: packet.target,
                target_mac: packet.sender_mac,
                target: packet.sender,
            };
            Reply::Frame(self.arp_frame(packet.sender_mac, &reply))
        });
        (Fate::Consumed, reply)
    }

    fn take_packet(
        &mut self,
        packet: &Packet<'_>,
        meta: Meta,
        for_us: bool,
        now: Instant,
    ) -> Taken {
        let ours = for_us && self.is_ours(packet.destination);
        if packet.protocol == protocol::TCP {
            return self.take_tcp(packet, meta, ours, now);
        }
        if packet.protocol == protocol::UDP {
            let sound =
                |view: &udp::View<'_>| view.verify_checksum(packet.source, packet.destination);
            let Some(datagram) = udp::View::new(packet.payload).ok().filter(sound) else {
                return (Fate::Malformed, None);
            };
            // A probe of another conversation counts as such however it came here.
            if let Some(probe) = Probe::new(datagram.payload()) {
                return (self.take_probe(&probe, ours, now), None);
            }
        }
        let multicast = for_us && packet.destination.is_multicast();
        match (packet.destination, packet.protocol) {
            (IpAddr::V4(_), protocol::ICMP) if ours => self.take_icmp(packet),
            (IpAddr::V6(destination), protocol::ICMPV6) if ours || multicast => {
                self.take_icmpv6(packet, destination, now)
            }
            _ if ours || multicast => (Fate::Consumed, None),
            _ => (Fate::NotForUs, None),
        }
    }

    fn take_probe(&mut self, probe: &Probe<'_>, ours: bool, now: Instant) -> Fate {
        let sink = self.sinks.get_mut(&probe.flow());
        let Some(sink) = sink.filter(|sink| sink.owner == probe.owner()) else {
            return Fate::Misdelivered;
        };
        if !ours {
            return Fate::NotForUs;
        }
        if probe.pattern() != sink.pattern || !probe::is_plausible(&sink.flow, probe, now) {
            return Fate::Malformed;
        }
        sink.arrivals.record(probe.sequence(), now);
        Fate::Consumed
    }

    fn take_tcp(&mut self, packet: &Packet<'_>, meta: Meta, ours: bool, now: Instant) -> Taken {
        let ends = (packet.source, packet.destination);
        let (fate, refusal) = match self.tcp.take(ends, packet.payload, meta, ours, now) {
            tcp::Taken::Consumed => (Fate::Consumed, None),
            tcp::Taken::Malformed => (Fate::Malformed, None),
            tcp::Taken::NotForUs => (Fate::NotForUs, None),
            tcp::Taken::Misdelivered(refusal) => (Fate::Misdelivered, refusal),
            tcp::Taken::Refused(refusal) => (Fate::Consumed, refusal),
        };
        (fate, refusal.map(|segment| self.answer(packet, &segment)))
    }

    fn take_icmp(&self, packet: &Packet<'_>) -> Taken {
        let parsed = icmp::View::new(packet.payload).and_then(|view| icmp::Repr::parse(&view));
        let (ident, sequence, data) = match parsed {
            Ok(icmp::Repr::EchoRequest { ident, sequence, data }) => (ident, sequence, data),
            // A sound message of a type that `wire` does not know is `Malformed` to it.
            Ok(_) | Err(wire::Error::Malformed) => return (Fate::Consumed, None),
            Err(wire::Error::Truncated | wire::Error::Checksum) => return (Fate::Malformed, None),
        };
        let reply = icmp::Repr::EchoReply { ident, sequence, data };
        let mut payload = vec![0; reply.buffer_len()];
        reply.emit(&mut payload);
        (Fate::Consumed, Some(self.answer(packet, &payload)))
    }

    fn take_icmpv6(&mut self, packet: &Packet<'_>, destination: Ipv6Addr, now: Instant) -> Taken {
        let (Ok(view), IpAddr::V6(source)) = (icmpv6::View::new(packet.payload), packet.source)
        else {
            return (Fate::Malformed, None);
        };
        if !view.verify_checksum(source, destination) {
            return (Fate::Malformed, None);
        }
        match view.kind() {
            icmpv6::kind::NEIGHBOR_SOLICIT | icmpv6::kind::NEIGHBOR_ADVERT => {
                self.take_ndp(packet, source, now)
            }
            icmpv6::kind::ECHO_REQUEST if !destination.is_multicast() => {
                let Ok(icmpv6::Repr::EchoRequest { ident, sequence, data }) =
                    icmpv6::Repr::parse(&view)
                else {
                    return (Fate::Malformed, None);
                };
                let reply = icmpv6::Repr::EchoReply { ident, sequence, data };
                let mut payload = vec![0; reply.buffer_len()];
                reply.emit(destination, source, &mut payload);
                (Fate::Consumed, Some(self.answer(packet, &payload)))
            }
            _ => (Fate::Consumed, None),
        }
    }

    fn take_ndp(&mut self, packet: &Packet<'_>, source: Ipv6Addr, now: Instant) -> Taken {
        let message = match ndp::Repr::parse(packet.payload) {
            Ok(message) if packet.hop_limit == NDP_HOP_LIMIT => message,
            Ok(_) | Err(_) => return (Fate::Malformed, None),
        };
        match message {
            ndp::Repr::NeighborAdvert { target, target_link, .. } => {
                if let Some(mac) = target_link {
                    self.learn(target.into(), mac, now);
                }
                (Fate::Consumed, None)
            }
            ndp::Repr::NeighborSolicit { target, source_link } => {
                if let Some(mac) = source_link {
                    self.learn(source.into(), mac, now);
                }
                let asked = self.is_ours(target.into());
                let reply = asked.then(|| self.neighbor_advert(target, source, source_link));
                (Fate::Consumed, reply.map(Reply::Frame))
            }
        }
    }

    /// Answers a solicitation; one from no address is answered to all nodes (RFC 4861, 7.2.4).
    fn neighbor_advert(&self, target: Ipv6Addr, to: Ipv6Addr, mac: Option<MacAddr>) -> Vec<u8> {
        const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let (to, mac, solicited) = match mac {
            Some(mac) if !to.is_unspecified() => (to, mac, true),
            Some(_) | None => (ALL_NODES, ndp::multicast_mac(ALL_NODES), false),
        };
        let advert = ndp::Repr::NeighborAdvert {
            target,
            target_link: Some(self.config.mac),
            router: false,
            solicited,
            overriding: true,
        };
        self.ndp_frame(mac, target, to, &advert)
    }

    /// A payload of the same protocol back to where the request came from.
    fn answer(&self, request: &Packet<'_>, payload: &[u8]) -> Reply {
        let (from, to) = (request.destination, request.source);
        let packet = packet::ip(from, to, request.protocol, packet::TTL, payload);
        let ethertype = if to.is_ipv4() { ethertype::IPV4 } else { ethertype::IPV6 };
        let frame = packet::frame(MacAddr::default(), self.config.mac, ethertype, &packet);
        Reply::Routed(to, frame)
    }

    /// Any sign of life of a gateway tells its MAC, also one that nobody asked for.
    fn learn(&mut self, address: IpAddr, mac: MacAddr, now: Instant) {
        let gateway = self.gateways.iter_mut().find(|gateway| gateway.address == address);
        if let Some(gateway) = gateway.filter(|_| !mac.is_multicast()) {
            gateway.mac = Some(mac);
            gateway.unanswered = 0;
            let reachable = self.random.jittered(REACHABLE_MAX, REACHABLE_MIN_PERCENT, 100);
            gateway.next_request = now + reachable;
        }
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.config.addresses.contains(&address) || address == IpAddr::V6(self.link_local())
    }

    fn link_local(&self) -> Ipv6Addr {
        ndp::link_local(self.config.mac)
    }

    fn arp_frame(&self, destination: MacAddr, packet: &arp::Repr) -> Vec<u8> {
        let mut bytes = [0; arp::LEN];
        packet.emit(&mut bytes);
        packet::frame(destination, self.config.mac, ethertype::ARP, &bytes)
    }

    fn ndp_frame(
        &self,
        mac: MacAddr,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        message: &ndp::Repr,
    ) -> Vec<u8> {
        let mut payload = vec![0; message.buffer_len()];
        message.emit(source, destination, &mut payload);
        let (source, destination) = (source.into(), destination.into());
        let packet = packet::ip(source, destination, protocol::ICMPV6, NDP_HOP_LIMIT, &payload);
        packet::frame(mac, self.config.mac, ethertype::IPV6, &packet)
    }
}

impl Gateway {
    /// Asked for as soon as the host runs, so that flows rarely wait.
    fn new(address: IpAddr) -> Self {
        Self {
            address,
            mac: None,
            waiting: VecDeque::new(),
            next_request: Instant::ZERO,
            unanswered: 0,
        }
    }
}

impl<'a> Packet<'a> {
    /// `None` when it is malformed, or a fragment: hosts do not reassemble.
    fn parse(ethertype: u16, bytes: &'a [u8]) -> Option<Self> {
        if ethertype == ethertype::IPV6 {
            let view = ipv6::View::new(bytes).ok()?;
            return Some(Self {
                source: view.source().into(),
                destination: view.destination().into(),
                protocol: view.next_header(),
                hop_limit: view.hop_limit(),
                payload: view.payload(),
            });
        }
        let view = ipv4::View::new(bytes).ok()?;
        let whole = view.verify_checksum() && !view.is_fragment();
        whole.then(|| Self {
            source: view.source().into(),
            destination: view.destination().into(),
            protocol: view.protocol(),
            hop_limit: view.ttl(),
            payload: view.payload(),
        })
    }
}

/// Writes the destination MAC of a frame that has an Ethernet header.
fn set_destination(frame: &mut [u8], mac: MacAddr) {
    frame[..6].copy_from_slice(&mac.0);
}
