//! The ends of TCP flows that are at one host, between its frames and their state machines.
//!
//! Data of more than one segment leaves as a super-frame, as with TSO: its TCP checksum is zero,
//! which says that it is left to the hardware, and stays so in the parts of a frame that is split.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::IpAddr;
use std::ops::Range;

use crate::io::{Frame, Frames, Meta};
use crate::model::Instant;
use crate::traffic::flow::End;
use crate::traffic::tcp::content::Content;
use crate::traffic::tcp::flow::{Role, TcpFlow, conversation, mss};
use crate::traffic::tcp::receiver::{Receiver, ReceiverConfig};
use crate::traffic::tcp::record::{TcpReceived, TcpSent};
use crate::traffic::tcp::segment::Segment;
use crate::traffic::tcp::sender::{Outgoing, Sender, SenderConfig};
use crate::traffic::{packet, probe};
use crate::wire::{MacAddr, checksum, ethernet, ethertype, ipv4, ipv6, protocol, tcp};

/// Of the TCP header.
const CHECKSUM: Range<usize> = 16..18;

/// All ends of TCP flows at a host.
#[derive(Default, Debug)]
pub(in crate::traffic) struct Endpoints {
    list: Vec<Endpoint>,
    /// Flow identifier and part in it → place in `list`.
    place_of: BTreeMap<(u32, Role), usize>,
    /// An entry for another time than the endpoint's `scheduled` is stale.
    schedule: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Those that may have something to send.
    ready: VecDeque<usize>,
    /// All are the kernel's: it looks at checksums and answers.
    kernel: bool,
}

/// What became of a segment; with the segment that answers it, if one is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::traffic) enum Taken {
    Consumed,
    NotForUs,
    Malformed,
    /// Of a flow that is not of this host, or with data of another one.
    Misdelivered(Option<Vec<u8>>),
    /// Nobody listens at that port.
    Refused(Option<Vec<u8>>),
}

#[derive(Debug)]
struct Endpoint {
    body: Body,
    path: Path,
    content: Content,
    /// When it is to be called; an earlier deadline may have passed by.
    scheduled: Instant,
    is_ready: bool,
}

#[derive(Debug)]
enum Body {
    Sender(Box<Sender>),
    Receiver(Box<Receiver>),
    /// The kernel of the host's namespace has it; its segments are seen and left alone.
    Kernel,
}

/// Where the segments of an endpoint go.
#[derive(Clone, Copy, Debug)]
struct Path {
    mac: MacAddr,
    local: IpAddr,
    remote: IpAddr,
    /// Source, destination.
    ports: (u16, u16),
}

impl Endpoints {
    /// The flow has been checked: its addresses are of one family, its ports tell it.
    pub fn add_sender(&mut self, flow: &TcpFlow, mac: MacAddr, mtu: u16) {
        let mss = mss(mtu, flow.to.address);
        let application = flow.application(mtu);
        let sender = Sender::new(SenderConfig { mss, key: key(flow, &flow.from), application });
        let path = Path {
            mac,
            local: flow.from.address,
            remote: flow.to.address,
            ports: (flow.source_port, flow.destination_port),
        };
        self.add(flow, Role::Sender, path, Body::Sender(Box::new(sender)));
    }

    /// As [`Endpoints::add_sender`].
    pub fn add_receiver(&mut self, flow: &TcpFlow, mac: MacAddr, mtu: u16) {
        let (mss, key) = (mss(mtu, flow.from.address), key(flow, &flow.to));
        let receiver = Receiver::new(ReceiverConfig { mss, key, start: flow.start });
        let path = Path {
            mac,
            local: flow.to.address,
            remote: flow.from.address,
            ports: (flow.destination_port, flow.source_port),
        };
        self.add(flow, Role::Receiver, path, Body::Receiver(Box::new(receiver)));
    }

    /// One end of the flow is the kernel's, and so are all others here.
    pub fn leave_to_kernel(&mut self, flow: &TcpFlow, role: Role) {
        debug_assert!(self.kernel || self.list.is_empty(), "a host has one TCP");
        self.kernel = true;
        let (local, remote, ports) = match role {
            Role::Sender => (&flow.from, &flow.to, (flow.source_port, flow.destination_port)),
            Role::Receiver => (&flow.to, &flow.from, (flow.destination_port, flow.source_port)),
        };
        let mac = MacAddr::default();
        let path = Path { mac, local: local.address, remote: remote.address, ports };
        self.add(flow, role, path, Body::Kernel);
    }

    /// No sender here sends anything new then or later.
    pub fn stop(&mut self, at: Instant) {
        for endpoint in &mut self.list {
            if let Body::Sender(sender) = &mut endpoint.body {
                sender.stop(at);
            }
        }
    }

    /// Takes the payload of an IP packet between `ends`, source and destination. What it makes an
    /// endpoint send is polled afterwards. `ours` says whether the packet is for this host.
    pub fn take(
        &mut self,
        ends: (IpAddr, IpAddr),
        payload: &[u8],
        meta: Meta,
        ours: bool,
        now: Instant,
    ) -> Taken {
        let Ok(view) = tcp::View::new(payload) else {
            return if ours { Taken::Malformed } else { Taken::NotForUs };
        };
        let offloaded = self.kernel || meta.segments > 1 || payload[CHECKSUM] == [0, 0];
        if !offloaded && !view.verify_checksum(ends.0, ends.1) {
            return Taken::Malformed;
        }
        let ports = (view.source_port(), view.destination_port());
        let segment = Segment::parse(&view);
        let refusal = || {
            let answer = segment.refusal().filter(|_| ours && !self.kernel)?;
            Some(encode(&answer, (ends.1, ends.0), (ports.1, ports.0)))
        };
        let Some(key) = conversation(ports.0, ports.1) else {
            return if ours { Taken::Refused(refusal()) } else { Taken::NotForUs };
        };
        let Some(&place) = self.place_of.get(&key) else {
            return Taken::Misdelivered(refusal());
        };
        if !ours {
            return Taken::NotForUs;
        }
        let endpoint = &mut self.list[place];
        if ends != (endpoint.path.remote, endpoint.path.local) {
            return Taken::Misdelivered(refusal());
        }
        if !endpoint.is_content_of(&segment, view.payload(), meta) {
            return Taken::Misdelivered(None);
        }
        match &mut endpoint.body {
            Body::Sender(sender) => sender.handle_segment(&segment, now),
            Body::Receiver(receiver) => receiver.handle_segment(&segment, now),
            Body::Kernel => return Taken::Consumed,
        }
        self.make_ready(place);
        Taken::Consumed
    }

    /// Runs the timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&Reverse((at, place))) = self.schedule.peek()
            && at <= now
        {
            self.schedule.pop();
            let endpoint = &mut self.list[place];
            if endpoint.scheduled != at {
                continue;
            }
            endpoint.scheduled = Instant::NEVER;
            match &mut endpoint.body {
                Body::Sender(sender) => sender.handle_timeout(now),
                Body::Receiver(receiver) => receiver.handle_timeout(now),
                Body::Kernel => {}
            }
            self.make_ready(place);
        }
    }

    /// The next frame with the address it is for and the packets it is, its destination MAC not
    /// yet filled in. No frame when none was free.
    pub fn poll_transmit(
        &mut self,
        frames: &mut Frames,
        now: Instant,
    ) -> Option<(IpAddr, u64, Option<Frame>)> {
        while let Some(&place) = self.ready.front() {
            let endpoint = &mut self.list[place];
            if let Some(outgoing) = endpoint.poll_transmit(now) {
                return Some(endpoint.emit(&outgoing, frames));
            }
            endpoint.is_ready = false;
            self.ready.pop_front();
            let at = self.list[place].poll_timeout();
            self.schedule(place, at);
        }
        None
    }

    /// When [`Endpoints::handle_timeout`] must next be called. In the past while something is ready
    /// that was not polled.
    pub fn poll_timeout(&self) -> Instant {
        if !self.ready.is_empty() {
            return Instant::ZERO;
        }
        self.schedule.peek().map_or(Instant::NEVER, |Reverse((at, _))| *at)
    }

    pub fn sent(&self, flow: u32) -> Option<&TcpSent> {
        match &self.list[*self.place_of.get(&(flow, Role::Sender))?].body {
            Body::Sender(sender) => Some(sender.record()),
            Body::Receiver(_) | Body::Kernel => None,
        }
    }

    pub fn received(&self, flow: u32) -> Option<&TcpReceived> {
        match &self.list[*self.place_of.get(&(flow, Role::Receiver))?].body {
            Body::Sender(_) | Body::Kernel => None,
            Body::Receiver(receiver) => Some(receiver.record()),
        }
    }

    pub fn contains(&self, flow: u32) -> bool {
        let has = |role| self.place_of.contains_key(&(flow, role));
        has(Role::Sender) || has(Role::Receiver)
    }

    pub const fn len(&self) -> usize {
        self.list.len()
    }

    fn add(&mut self, flow: &TcpFlow, role: Role, path: Path, body: Body) {
        let place = self.list.len();
        let content = flow.content();
        let scheduled = Instant::NEVER;
        self.list.push(Endpoint { body, path, content, scheduled, is_ready: false });
        self.place_of.insert((flow.id, role), place);
        let at = self.list[place].poll_timeout();
        self.schedule(place, at);
    }

    fn make_ready(&mut self, place: usize) {
        if !self.list[place].is_ready {
            self.list[place].is_ready = true;
            self.ready.push_back(place);
        }
    }

    /// A deadline that has moved away is found out when the old one comes.
    fn schedule(&mut self, place: usize, at: Instant) {
        let endpoint = &mut self.list[place];
        if at < endpoint.scheduled {
            endpoint.scheduled = at;
            self.schedule.push(Reverse((at, place)));
        }
    }
}

impl Endpoint {
    fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        match &mut self.body {
            Body::Sender(sender) => sender.poll_transmit(now),
            Body::Receiver(receiver) => {
                let segment = receiver.poll_transmit(now)?;
                Some(Outgoing { segment, offset: 0 })
            }
            Body::Kernel => None,
        }
    }

    fn poll_timeout(&self) -> Instant {
        match &self.body {
            Body::Sender(sender) => sender.poll_timeout(),
            Body::Receiver(receiver) => receiver.poll_timeout(),
            Body::Kernel => Instant::NEVER,
        }
    }

    /// Whether the payload is the flow's, as far as its place in the stream is known.
    fn is_content_of(&self, segment: &Segment, payload: &[u8], meta: Meta) -> bool {
        let Body::Receiver(receiver) = &self.body else { return true };
        let Some(offset) = receiver.place(segment.sequence).filter(|_| !payload.is_empty()) else {
            return true;
        };
        let whole = meta.segments <= 1 || meta.gso_size == 0;
        let size = if whole { payload.len() } else { meta.gso_size.into() };
        self.content.matches(offset, size, payload)
    }

    fn emit(&self, outgoing: &Outgoing, frames: &mut Frames) -> (IpAddr, u64, Option<Frame>) {
        let size = match &self.body {
            Body::Sender(sender) => sender.segment() as usize,
            Body::Receiver(_) | Body::Kernel => 0,
        };
        let len = outgoing.segment.len as usize;
        let segments = if len > size { len.div_ceil(size) } else { 1 };
        let mut frame = self.path.frame(&outgoing.segment, frames);
        if let Some(frame) = &mut frame {
            let bytes = frames.bytes_mut(frame);
            if len > 0 {
                let payload_at = bytes.len() - len;
                self.content.write(outgoing.offset, size, &mut bytes[payload_at..]);
            }
            if segments > 1 {
                frame.meta.gso_size = size as u16;
                frame.meta.segments = segments as u16;
            } else {
                self.path.write_checksum(&mut bytes[self.path.segment_at()..]);
            }
        }
        (self.path.remote, segments as u64, frame)
    }
}

impl Path {
    /// Where the TCP header begins in a frame.
    const fn segment_at(&self) -> usize {
        let header = match self.local {
            IpAddr::V4(_) => ipv4::MIN_HEADER_LEN,
            IpAddr::V6(_) => ipv6::HEADER_LEN,
        };
        ethernet::HEADER_LEN + header
    }

    /// A frame with all headers, a checksum of zero and no payload yet.
    fn frame(&self, segment: &Segment, frames: &mut Frames) -> Option<Frame> {
        segment.with_repr(self.ports, |repr| {
            let segment_at = self.segment_at();
            let payload_len = repr.header_len() + segment.len as usize;
            let frame = frames.allocate(segment_at + payload_len)?;
            let bytes = frames.bytes_mut(&frame);
            let (link, rest) = bytes.split_at_mut(ethernet::HEADER_LEN);
            let (ip, rest) = rest.split_at_mut(segment_at - ethernet::HEADER_LEN);
            let ethertype = self.emit_ip(payload_len, ip);
            ethernet::Repr { destination: MacAddr::default(), source: self.mac, ethertype }
                .emit(link);
            repr.emit(self.local, self.remote, &[], &mut rest[..repr.header_len()]);
            rest[CHECKSUM].fill(0);
            Some(frame)
        })
    }

    /// Returns the ethertype.
    fn emit_ip(&self, payload_len: usize, buffer: &mut [u8]) -> u16 {
        match (self.local, self.remote) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let repr = ipv4::Repr {
                    source,
                    destination,
                    protocol: protocol::TCP,
                    ttl: packet::TTL,
                    dscp: 0,
                    identification: 0,
                    dont_fragment: true,
                    payload_len,
                };
                repr.emit(buffer);
                ethertype::IPV4
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let repr = ipv6::Repr {
                    source,
                    destination,
                    next_header: protocol::TCP,
                    hop_limit: packet::TTL,
                    traffic_class: 0,
                    payload_len,
                };
                repr.emit(buffer);
                ethertype::IPV6
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                unreachable!("both addresses come from one checked flow")
            }
        }
    }

    fn write_checksum(&self, segment: &mut [u8]) {
        let pseudo = checksum::pseudo_header(self.local, self.remote, protocol::TCP, segment.len());
        let sum = checksum::combine(&[pseudo, checksum::sum(segment)]);
        segment[CHECKSUM].copy_from_slice(&checksum::finish(sum).to_be_bytes());
    }
}

/// A segment without data as the payload of an IP packet.
fn encode(segment: &Segment, ends: (IpAddr, IpAddr), ports: (u16, u16)) -> Vec<u8> {
    segment.with_repr(ports, |repr| {
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(ends.0, ends.1, &[], &mut bytes);
        bytes
    })
}

/// What one end of a flow draws its sequence numbers from.
fn key(flow: &TcpFlow, end: &End) -> u64 {
    probe::owner(&format!("{} {}", flow.id, end.host))
}
