//! Nodes, the links between them, and the queue of what happens to them: by time, then in the order in
//! which it was scheduled. Who says what time it is drives it: [`virtual_time`](super::virtual_time)
//! or [`real_time`](super::real_time).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::fabric::capture::{Passage, SharedCapture, locked};
use crate::fabric::link::{Link, PLACE_BITS};
use crate::fabric::port::PortNode;
use crate::fabric::sender::Sender;
use crate::fabric::{Altered, Direction, Fault, LinkConfig, LinkIndex};
use crate::io::{Frame, Frames, Port, PortCounters};
use crate::model::{Instant, PortIndex, RouterConfig};
use crate::router::{DropReason, Launcher, Ledger, Operation, Router};
use crate::telemetry::{Event, EventKind, EventLog};

/// Something at the end of a link that is not a router: a host.
pub trait Endpoint {
    fn receive(&mut self, frame: Frame, frames: &mut Frames, now: Instant);
    fn handle_timeout(&mut self, now: Instant, frames: &mut Frames);
    /// When [`Endpoint::handle_timeout`] must next be called.
    fn poll_timeout(&self) -> Instant;
    fn poll_transmit(&mut self) -> Option<Frame>;
    fn ledger(&self) -> Ledger;
}

/// Sees frames as they enter the links it watches; it cannot change them.
pub trait Observer: Send {
    fn frame(&mut self, link: LinkIndex, direction: Direction, bytes: &[u8], now: Instant);
}

/// A node of a fabric: as [`LinkIndex`], its worker's number above its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodeIndex(pub usize);

impl NodeIndex {
    pub(super) const fn new(worker: usize, at: usize) -> Self {
        Self(worker << PLACE_BITS | at)
    }

    pub const fn worker(self) -> usize {
        self.0 >> PLACE_BITS
    }

    pub(super) const fn at(self) -> usize {
        self.0 & ((1 << PLACE_BITS) - 1)
    }
}

/// Routers, endpoints, ports and links: all of a lab, or what one of its workers has.
#[derive(Debug)]
pub struct Fabric<E> {
    pub(super) now: Instant,
    seed: u64,
    worker: usize,
    frames: Frames,
    nodes: Vec<Node<E>>,
    /// Those of the nodes that are ports of the host.
    ports: Vec<NodeIndex>,
    /// Starts the control processes of routers; none where control is in this process.
    launcher: Option<Launcher>,
    links: Vec<Link>,
    ends: Vec<[(NodeIndex, PortIndex); 2]>,
    watched: Vec<bool>,
    /// Links that go on at other workers, with the ports that lead there.
    crossings: Vec<(LinkIndex, NodeIndex)>,
    /// Links that go on with others of other workers, by which they are known.
    patches: BTreeMap<LinkIndex, LinkIndex>,
    captures: Vec<SharedCapture>,
    queue: Queue,
    /// When each source is in the queue for; an entry for another time is stale.
    scheduled_nodes: Vec<Instant>,
    scheduled_channels: Vec<[Instant; 2]>,
    /// Frames that came from no node of the fabric.
    outside: Ledger,
    log: EventLog,
}

#[derive(Debug)]
struct Node<E> {
    body: Body<E>,
    /// Link and direction of each port, by port index.
    ports: Vec<Option<(LinkIndex, Direction)>>,
    /// What went through earlier lives of a crashed router, and what found it down.
    past: Ledger,
}

#[derive(Debug)]
enum Body<E> {
    Router(Box<Router>),
    Endpoint(Box<E>),
    /// Where the fabric ends and the host's network begins.
    Port(Box<PortNode>),
    Sender(Box<Sender>),
    /// A crashed router: what it is to be again.
    Down(Box<RouterConfig>),
}

/// Who is in the queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Source {
    Channel(LinkIndex, Direction),
    Node(NodeIndex),
}

/// Every packet of the fabric, accounted for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Of all nodes and links: each receives and transmits what it passes on.
    pub sum: Ledger,
    /// Every ledger holds, and what nodes sent is what links took and the other way round.
    pub held: bool,
}

impl<E: Endpoint> Fabric<E> {
    pub fn new(seed: u64) -> Self {
        Self::of_worker(0, seed)
    }

    pub(super) fn of_worker(worker: usize, seed: u64) -> Self {
        Self {
            now: Instant::ZERO,
            seed,
            worker,
            frames: Frames::new(),
            nodes: Vec::new(),
            ports: Vec::new(),
            launcher: None,
            links: Vec::new(),
            ends: Vec::new(),
            watched: Vec::new(),
            crossings: Vec::new(),
            patches: BTreeMap::new(),
            captures: Vec::new(),
            queue: Queue::default(),
            scheduled_nodes: Vec::new(),
            scheduled_channels: Vec::new(),
            outside: Ledger::default(),
            log: EventLog::default(),
        }
    }

    /// Routers that are added from here on have their control planes in processes of their own. Only
    /// [`RealTime`] hears them.
    pub fn set_launcher(&mut self, launcher: Launcher) {
        self.launcher = Some(launcher);
    }

    pub fn add_router(&mut self, config: &RouterConfig) -> NodeIndex {
        let router = Router::launch(config, self.seed, self.launcher.as_ref(), self.now);
        self.add_node(Body::Router(Box::new(router)))
    }

    pub fn add_endpoint(&mut self, endpoint: E) -> NodeIndex {
        self.add_node(Body::Endpoint(Box::new(endpoint)))
    }

    /// A port of the host at the end of a link, in place of a node. Only [`RealTime`] reads it.
    pub fn add_port(&mut self, port: Box<dyn Port>) -> NodeIndex {
        let node = self.add_node(Body::Port(Box::new(PortNode::new(port))));
        self.ports.push(node);
        node
    }

    /// Takes a port of the host back; nothing is plugged in there from here on. None of other nodes.
    pub fn take_port(&mut self, node: NodeIndex) -> Option<Box<dyn Port>> {
        match &mut self.nodes[node.at()].body {
            Body::Port(port) => Some(port.unplug(&mut self.frames)),
            Body::Router(_) | Body::Endpoint(_) | Body::Sender(_) | Body::Down(_) => None,
        }
    }

    /// Somebody else's equipment on a link, that sends in one direction.
    pub fn add_sender(&mut self, link: LinkIndex, direction: Direction) -> NodeIndex {
        let node = self.add_node(Body::Sender(Box::default()));
        self.nodes[node.at()].ports.push(Some((link, direction)));
        node
    }

    /// Gives a sender something to send.
    pub fn with_sender<T>(&mut self, node: NodeIndex, act: impl FnOnce(&mut Sender) -> T) -> T {
        let Body::Sender(sender) = &mut self.nodes[node.at()].body else {
            unreachable!("only senders are asked to send")
        };
        let result = act(sender);
        self.settle(node);
        result
    }

    /// When the last frame that a link has taken arrives.
    pub fn last_arrival(&self, link: LinkIndex, direction: Direction) -> Instant {
        self.links[link.at()].last_arrival(direction)
    }

    /// Joins two ports. A port has one link; of a port of the host each link has an index.
    pub fn add_link(&mut self, config: LinkConfig, ends: [(NodeIndex, PortIndex); 2]) -> LinkIndex {
        let index = LinkIndex::new(self.worker, self.links.len());
        self.links.push(Link::new(config, self.seed));
        self.ends.push(ends);
        self.watched.push(false);
        self.scheduled_channels.push([Instant::NEVER; 2]);
        for ((node, port), direction) in ends.into_iter().zip(Direction::BOTH) {
            let ports = &mut self.nodes[node.at()].ports;
            if ports.len() <= port.index() {
                ports.resize(port.index() + 1, None);
            }
            assert!(ports[port.index()].is_none(), "a port has one link");
            ports[port.index()] = Some((index, direction));
            if let Body::Port(port) = &mut self.nodes[node.at()].body {
                port.add_link();
            }
        }
        for (node, _) in ends {
            self.settle(node);
        }
        index
    }

    /// A link goes on at another worker, where `port` leads.
    pub(super) fn add_crossing(&mut self, link: LinkIndex, port: NodeIndex) {
        self.crossings.push((link, port));
    }

    /// A link goes on with `whole`, which is another worker's, where `port` leads.
    pub(super) fn add_patch(&mut self, link: LinkIndex, port: NodeIndex, whole: LinkIndex) {
        self.crossings.push((link, port));
        self.patches.insert(link, whole);
    }

    /// The link as it is known outside.
    fn whole(&self, link: LinkIndex) -> LinkIndex {
        self.patches.get(&link).copied().unwrap_or(link)
    }

    /// Packets that went to other workers, and came from them.
    pub(super) fn crossed(&self) -> [u64; 2] {
        let books = self.crossings.iter().map(|&(_, port)| self.ledger(port));
        books.fold([0; 2], |[to, from], books| [to + books.consumed, from + books.originated])
    }

    /// Frames that enter `link` are shown to the observer of its run.
    pub fn watch(&mut self, link: LinkIndex) {
        self.watched[link.at()] = true;
    }

    /// Ends [`Fabric::watch`].
    pub fn unwatch(&mut self, link: LinkIndex) {
        self.watched[link.at()] = false;
    }

    /// Each link with its name and the nodes at its ends.
    pub fn links(&self) -> impl Iterator<Item = (LinkIndex, &str, [NodeIndex; 2])> {
        let links = self.links.iter().zip(&self.ends).enumerate();
        let links = links.map(|(at, (link, ends))| {
            let index = LinkIndex::new(self.worker, at);
            (index, link.config.name.as_str(), ends.map(|(node, _)| node))
        });
        links.filter(|(link, ..)| !self.patches.contains_key(link))
    }

    /// The ports of a node that have a link, each with the direction that leaves the node.
    pub fn ports_of(
        &self,
        node: NodeIndex,
    ) -> impl Iterator<Item = (PortIndex, LinkIndex, Direction)> {
        let ports = self.nodes[node.at()].ports.iter().enumerate();
        ports.filter_map(|(index, port)| {
            port.map(|(link, way)| (PortIndex(index as u16), self.whole(link), way))
        })
    }

    /// Writes what becomes of every frame on the links of a capture, until it is ended.
    pub(super) fn begin_capture(&mut self, capture: SharedCapture) {
        self.links.iter_mut().for_each(Link::keep_lost);
        self.routers_mut().for_each(|router| router.keep_dropped(true));
        self.captures.push(capture);
    }

    /// Ends those of the captures that are not to be kept.
    pub(super) fn keep_captures(&mut self, is_kept: impl Fn(&SharedCapture) -> bool) {
        self.captures.retain(is_kept);
        self.forget_lost();
    }

    fn forget_lost(&mut self) {
        if self.captures.is_empty() {
            self.links.iter_mut().for_each(Link::forget_lost);
            self.routers_mut().for_each(|router| router.keep_dropped(false));
        }
    }

    fn routers_mut(&mut self) -> impl Iterator<Item = &mut Router> {
        self.nodes.iter_mut().filter_map(|node| match &mut node.body {
            Body::Router(router) => Some(&mut **router),
            Body::Endpoint(_) | Body::Port(_) | Body::Sender(_) | Body::Down(_) => None,
        })
    }

    /// Puts a frame on a link as somebody else's equipment there would.
    pub fn send_from_outside(&mut self, link: LinkIndex, direction: Direction, bytes: &[u8]) {
        let Some(frame) = self.frames.allocate_from(bytes) else { return };
        self.outside.originated += 1;
        self.outside.transmitted += 1;
        self.put_on_link(link, direction, frame);
    }

    pub const fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn port_count(&self) -> usize {
        self.ports.len()
    }

    /// Takes a batch from a port of the host. False when it had nothing.
    pub(super) fn read_port(
        &mut self,
        at: usize,
        now: Instant,
        observer: &mut dyn Observer,
    ) -> bool {
        self.now = now;
        let node = self.ports[at];
        let Body::Port(port) = &mut self.nodes[node.at()].body else { return false };
        let moved = port.read(&mut self.frames, now);
        let changed = port.take_carrier_change();
        if moved {
            self.flush(node, observer);
        }
        if changed {
            self.refresh_carriers();
        }
        moved
    }

    /// Sends what the ports were given.
    pub(super) fn flush_ports(&mut self) {
        for node in &self.ports {
            if let Body::Port(port) = &mut self.nodes[node.at()].body {
                port.flush(&mut self.frames);
            }
        }
    }

    /// Lets routers hear their control processes, those that have said something or are gone. False
    /// when none has.
    pub(super) fn hear_controls(&mut self, now: Instant, observer: &mut dyn Observer) -> bool {
        self.now = now;
        let (nodes, mut polled): (Vec<_>, Vec<_>) = self.controls().unzip();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if polled.is_empty() || poll(&mut polled, Some(&at_once)).unwrap_or(0) == 0 {
            return false;
        }
        let ready = polled.iter().map(|fd| !fd.revents().is_empty());
        let ready: Vec<_> = nodes.into_iter().zip(ready).filter(|(_, ready)| *ready).collect();
        for &(node, _) in &ready {
            if let Body::Router(router) = &mut self.nodes[node.at()].body {
                router.hear_control(&mut self.frames, now);
                self.flush(node, observer);
            }
        }
        !ready.is_empty()
    }

    /// The control processes, as they are waited for.
    pub(super) fn controls(&self) -> impl Iterator<Item = (NodeIndex, PollFd<'_>)> {
        let nodes = self.launcher.iter().flat_map(|_| self.nodes.iter().enumerate());
        nodes.filter_map(|(at, node)| {
            let Body::Router(router) = &node.body else { return None };
            let (fd, unsent) = router.control_descriptor()?;
            let output = if unsent { PollFlags::OUT } else { PollFlags::empty() };
            Some((
                NodeIndex::new(self.worker, at),
                PollFd::from_borrowed_fd(fd, PollFlags::IN | output),
            ))
        })
    }

    /// What becomes readable when a port has something.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let ports = self.ports.iter().filter_map(|node| match &self.nodes[node.at()].body {
            Body::Port(port) => Some(port.descriptors()),
            Body::Router(_) | Body::Endpoint(_) | Body::Sender(_) | Body::Down(_) => None,
        });
        ports.flatten().collect()
    }

    /// When something may be due next, at the earliest.
    pub(super) fn next_due(&self) -> Instant {
        self.queue.next()
    }

    /// What is next, if it is due by `end`.
    pub(super) fn pop_until(&mut self, end: Instant) -> Option<(Instant, Source)> {
        loop {
            let (at, source) = self.queue.pop_until(end, self.worker)?;
            // Others were put off, or hurried.
            if at == self.scheduled(source) {
                return Some((at, source));
            }
        }
    }

    /// What is due at a source happens, `now`.
    pub(super) fn happen(&mut self, source: Source, now: Instant, observer: &mut dyn Observer) {
        self.now = now;
        match source {
            Source::Channel(link, direction) => self.run_channel(link, direction, observer),
            Source::Node(node) => self.run_node(node, observer),
        }
    }

    /// Makes a router what `config` says, by the smallest change.
    pub fn apply(&mut self, node: NodeIndex, config: &RouterConfig) {
        match &mut self.nodes[node.at()].body {
            Body::Router(router) => router.apply(config, self.now),
            Body::Down(waiting) => **waiting = config.clone(),
            Body::Endpoint(_) | Body::Port(_) | Body::Sender(_) => {
                unreachable!("only routers have a configuration")
            }
        }
        self.settle(node);
    }

    /// Carries out an operator's act; a router that is down does not hear it.
    pub fn operate(&mut self, node: NodeIndex, operation: &Operation) {
        if let Body::Router(router) = &mut self.nodes[node.at()].body {
            router.operate(operation, self.now);
            self.settle(node);
        }
    }

    /// Ends the control process of a router without a word; it comes back by itself.
    pub fn kill_control(&mut self, node: NodeIndex) {
        if let Body::Router(router) = &mut self.nodes[node.at()].body {
            router.kill_control(self.now);
            self.settle(node);
        }
    }

    /// Ends a router without a word; its links lose carrier.
    pub fn crash(&mut self, node: NodeIndex) {
        let entry = &mut self.nodes[node.at()];
        let Body::Router(router) = &mut entry.body else { return };
        entry.past.add(router.ledger());
        // What it was about to send dies with it.
        let unsent = std::mem::take(&mut entry.past.queued);
        entry.past.drop(DropReason::NodeDown, unsent);
        while let Some((_, frame)) = router.poll_transmit() {
            self.frames.free(frame);
        }
        let config = Box::new(router.config().clone());
        self.log_events(node);
        self.nodes[node.at()].body = Body::Down(config);
        self.schedule_node(node, Instant::NEVER);
        self.refresh_carriers();
    }

    /// Starts a crashed router anew.
    pub fn restart(&mut self, node: NodeIndex) {
        let Body::Down(config) = &self.nodes[node.at()].body else { return };
        let seed = self.seed ^ self.now.as_nanos();
        let mut router = Router::launch(config, seed, self.launcher.as_ref(), self.now);
        router.keep_dropped(!self.captures.is_empty());
        self.nodes[node.at()].body = Body::Router(Box::new(router));
        // A port without carrier has to hear so.
        for (port, link) in self.nodes[node.at()].ports.clone().into_iter().enumerate() {
            let port = PortIndex(port as u16);
            if let Some((link, _)) = link
                && self.blocked(link)
                && self.seeing_ends(link).contains(&(node, port))
            {
                self.tell_carrier(node, port, false);
            }
        }
        self.refresh_carriers();
        self.settle(node);
    }

    /// Puts a fault on a link, in the name of an owner: who shares the link mends only its own.
    pub fn break_link(
        &mut self,
        link: LinkIndex,
        directions: &[Direction],
        fault: Fault,
        owner: &str,
    ) {
        for &direction in directions {
            let channel = &mut self.links[link.at()].channels[direction as usize];
            channel.faults.push((owner.to_owned(), fault));
        }
        self.refresh_carriers();
    }

    /// Takes every fault of an owner off a link.
    pub fn mend_link(&mut self, link: LinkIndex, owner: &str) {
        self.links[link.at()].mend(owner, self.now);
        for direction in Direction::BOTH {
            let next = self.links[link.at()].next_arrival(direction);
            self.schedule_channel(link, direction, next);
        }
        self.refresh_carriers();
    }

    pub fn router(&self, node: NodeIndex) -> Option<&Router> {
        match &self.nodes[node.at()].body {
            Body::Router(router) => Some(router),
            Body::Endpoint(_) | Body::Port(_) | Body::Sender(_) | Body::Down(_) => None,
        }
    }

    pub fn endpoint(&self, node: NodeIndex) -> Option<&E> {
        match &self.nodes[node.at()].body {
            Body::Endpoint(endpoint) => Some(endpoint),
            Body::Router(_) | Body::Port(_) | Body::Sender(_) | Body::Down(_) => None,
        }
    }

    /// Changes an endpoint, then looks at when it next wants to run.
    pub fn with_endpoint<T>(
        &mut self,
        node: NodeIndex,
        act: impl FnOnce(&mut E) -> T,
    ) -> Option<T> {
        let Body::Endpoint(endpoint) = &mut self.nodes[node.at()].body else { return None };
        let result = act(endpoint);
        self.settle(node);
        Some(result)
    }

    pub fn record(&mut self, node: &str, kind: EventKind, detail: impl Into<String>) {
        self.log.record(self.now, node, kind, detail);
    }

    /// All that happened since this was last asked, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.log.drain()
    }

    /// The books of the whole fabric.
    pub fn totals(&self) -> Totals {
        let mut sum = self.outside.clone();
        let mut links = Ledger::default();
        let mut held = true;
        for (_, ledger) in self.link_ledgers() {
            held &= ledger.holds();
            links.add(ledger);
        }
        for node in (0..self.nodes.len()).map(|at| NodeIndex::new(self.worker, at)) {
            let ledger = self.ledger(node);
            held &= ledger.holds();
            sum.add(&ledger);
        }
        held &= sum.transmitted == links.received && sum.received == links.transmitted;
        sum.add(&links);
        held &= sum.holds();
        held &= self.frames.in_use() as u64 <= sum.queued;
        Totals { sum, held }
    }

    /// What went through a node, all its lives together.
    pub fn ledger(&self, node: NodeIndex) -> Ledger {
        let node = &self.nodes[node.at()];
        let mut ledger = node.past.clone();
        match &node.body {
            Body::Router(router) => ledger.add(router.ledger()),
            Body::Endpoint(endpoint) => ledger.add(&endpoint.ledger()),
            Body::Port(port) => ledger.add(&port.ledger()),
            Body::Sender(sender) => ledger.add(sender.ledger()),
            Body::Down(_) => {}
        }
        ledger
    }

    /// Each direction of each link, with the link's name.
    pub fn link_ledgers(&self) -> impl Iterator<Item = (&str, &Ledger)> {
        self.links.iter().flat_map(|link| {
            let name = link.config.name.as_str();
            link.channels.iter().map(move |channel| (name, &channel.ledger))
        })
    }

    /// As in reports.
    pub fn link_name(&self, link: LinkIndex) -> &str {
        &self.links[link.at()].config.name
    }

    /// The books of one direction of a link.
    pub fn link_ledger(&self, link: LinkIndex, direction: Direction) -> &Ledger {
        &self.links[link.at()].channels[direction as usize].ledger
    }

    /// What each direction of each link did to frames that it did not lose, with the link's name.
    pub fn altered(&self) -> impl Iterator<Item = (&str, Altered)> {
        self.links.iter().flat_map(|link| {
            let name = link.config.name.as_str();
            link.channels.iter().map(move |channel| (name, channel.altered))
        })
    }

    pub fn has_carrier(&self, link: LinkIndex) -> bool {
        self.links[link.at()].carrier
    }

    /// What a port of the host carried and did not; of other nodes, nothing.
    pub fn port_counters(&mut self, node: NodeIndex) -> PortCounters {
        match &mut self.nodes[node.at()].body {
            Body::Port(port) => port.counters(),
            Body::Router(_) | Body::Endpoint(_) | Body::Sender(_) | Body::Down(_) => {
                PortCounters::default()
            }
        }
    }

    /// Packets that the ports lost so far, which no link and no node of the fabric did.
    pub fn lost_by_ports(&mut self) -> u64 {
        let ports = self.ports.clone().into_iter().map(|node| self.port_counters(node));
        ports.map(|port| port.receive_dropped + port.transmit_dropped + port.kernel_dropped).sum()
    }

    /// Frames that are not free.
    pub fn frames_in_use(&self) -> usize {
        self.frames.in_use()
    }

    fn add_node(&mut self, body: Body<E>) -> NodeIndex {
        let index = NodeIndex::new(self.worker, self.nodes.len());
        self.nodes.push(Node { body, ports: Vec::new(), past: Ledger::default() });
        self.scheduled_nodes.push(Instant::NEVER);
        index
    }

    fn run_channel(&mut self, link: LinkIndex, direction: Direction, observer: &mut dyn Observer) {
        self.scheduled_channels[link.at()][direction as usize] = Instant::NEVER;
        let (node, port) = self.ends[link.at()][1 - direction as usize];
        for capture in &self.captures {
            let mut capture = locked(capture);
            for frame in self.links[link.at()].arriving(direction, self.now) {
                capture.see((link, direction), Passage::Arrives, frame, &self.frames, self.now);
            }
        }
        let arrived = self.links[link.at()].deliver(direction, self.now);
        let (frames, now) = (&mut self.frames, self.now);
        let Node { body, past, .. } = &mut self.nodes[node.at()];
        match body {
            Body::Router(router) => router.receive(port, arrived, frames, now),
            Body::Endpoint(endpoint) => {
                arrived.for_each(|frame| endpoint.receive(frame, frames, now));
            }
            Body::Port(host) => arrived.for_each(|frame| host.receive(port, frame, frames)),
            Body::Sender(_) => unreachable!("a sender is the end of no link"),
            Body::Down(_) => arrived.for_each(|frame| {
                let packets = frame.meta.wire_packets();
                past.received += packets;
                past.drop(DropReason::NodeDown, packets);
                for capture in &self.captures {
                    let from = Some(self.patches.get(&link).copied().unwrap_or(link));
                    let reason = DropReason::NodeDown;
                    locked(capture).is_dropped(node, from, &frame, reason, frames, now);
                }
                frames.free(frame);
            }),
        }
        self.capture_dropped(node, Some(link));
        let next = self.links[link.at()].next_arrival(direction);
        self.schedule_channel(link, direction, next);
        self.flush(node, observer);
    }

    fn run_node(&mut self, node: NodeIndex, observer: &mut dyn Observer) {
        self.scheduled_nodes[node.at()] = Instant::NEVER;
        match &mut self.nodes[node.at()].body {
            Body::Router(router) => router.handle_timeout(&mut self.frames, self.now),
            Body::Endpoint(endpoint) => endpoint.handle_timeout(self.now, &mut self.frames),
            Body::Sender(sender) => sender.handle_timeout(self.now, &mut self.frames),
            Body::Port(_) | Body::Down(_) => {}
        }
        self.flush(node, observer);
    }

    /// Puts what a node has to send on its links, takes its events, and notes when it wants to run.
    fn flush(&mut self, node: NodeIndex, observer: &mut dyn Observer) {
        loop {
            let entry = &mut self.nodes[node.at()];
            let (port, frame) = match &mut entry.body {
                Body::Router(router) => match router.poll_transmit() {
                    Some(sent) => sent,
                    None => break,
                },
                Body::Endpoint(endpoint) => match endpoint.poll_transmit() {
                    Some(frame) => (PortIndex(0), frame),
                    None => break,
                },
                Body::Port(port) => match port.poll_transmit() {
                    Some(sent) => sent,
                    None => break,
                },
                Body::Sender(sender) => match sender.poll_transmit() {
                    Some(frame) => (PortIndex(0), frame),
                    None => break,
                },
                Body::Down(_) => break,
            };
            let (link, direction) = entry
                .ports
                .get(port.index())
                .copied()
                .flatten()
                .expect("every port of a compiled topology has a link");
            if self.watched[link.at()] {
                observer.frame(link, direction, self.frames.bytes(&frame), self.now);
            }
            self.put_on_link(link, direction, frame);
        }
        self.settle(node);
    }

    fn put_on_link(&mut self, link: LinkIndex, direction: Direction, frame: Frame) {
        let before = self.links[link.at()].in_flight(direction);
        let arrival = self.links[link.at()].accept(direction, frame, &mut self.frames, self.now);
        if let Some(arrival) = arrival {
            self.schedule_channel(link, direction, arrival);
        }
        if !self.captures.is_empty() {
            self.capture_sent(link, direction, before);
            self.capture_lost(link, direction);
        }
    }

    /// Shows the captures what a link has just taken, behind so many frames.
    fn capture_sent(&mut self, link: LinkIndex, direction: Direction, before: [usize; 2]) {
        for capture in &self.captures {
            let mut capture = locked(capture);
            for frame in self.links[link.at()].sent_after(direction, before) {
                capture.see((link, direction), Passage::Leaves, frame, &self.frames, self.now);
            }
        }
    }

    /// Shows the captures what a link has just lost.
    fn capture_lost(&mut self, link: LinkIndex, direction: Direction) {
        for (frame, reason) in self.links[link.at()].take_lost(direction) {
            for capture in &self.captures {
                locked(capture).see(
                    (link, direction),
                    Passage::IsLost(reason),
                    &frame,
                    &self.frames,
                    self.now,
                );
            }
            self.frames.free(frame);
        }
    }

    /// Shows the captures what a router has just dropped, of what came from a link.
    fn capture_dropped(&mut self, node: NodeIndex, from: Option<LinkIndex>) {
        if self.captures.is_empty() {
            return;
        }
        let from = from.map(|link| self.whole(link));
        let Body::Router(router) = &mut self.nodes[node.at()].body else { return };
        for (frame, reason) in router.take_dropped() {
            for capture in &self.captures {
                locked(capture).is_dropped(node, from, &frame, reason, &self.frames, self.now);
            }
            self.frames.free(frame);
        }
    }

    fn settle(&mut self, node: NodeIndex) {
        self.log_events(node);
        self.capture_dropped(node, None);
        let wanted = match &self.nodes[node.at()].body {
            Body::Router(router) => router.poll_timeout(),
            Body::Endpoint(endpoint) => endpoint.poll_timeout(),
            Body::Sender(sender) => sender.poll_timeout(),
            Body::Port(_) | Body::Down(_) => Instant::NEVER,
        };
        self.schedule_node(node, wanted);
    }

    fn log_events(&mut self, node: NodeIndex) {
        if let Body::Router(router) = &mut self.nodes[node.at()].body {
            for event in router.drain_events() {
                self.log.record(event.at, &event.node, event.kind, event.detail);
            }
        }
    }

    fn refresh_carriers(&mut self) {
        for at in 0..self.links.len() {
            let link = LinkIndex::new(self.worker, at);
            let carrier = !self.blocked(link);
            if self.links[at].carrier != carrier {
                self.links[at].set_carrier(carrier, &mut self.frames, self.now);
                for direction in Direction::BOTH {
                    self.capture_lost(link, direction);
                }
                for (node, port) in self.seeing_ends(link) {
                    self.tell_carrier(node, port, carrier);
                }
            }
        }
        // Another worker hears of what is here: of what is there it knows.
        for (link, port) in self.crossings.clone() {
            let carrier = !self.blocked_here(link, |node| node != port);
            if let Body::Port(port) = &mut self.nodes[port.at()].body {
                port.set_carrier(carrier);
            }
        }
    }

    fn seeing_ends(&self, link: LinkIndex) -> Vec<(NodeIndex, PortIndex)> {
        let ends = self.ends[link.at()].into_iter().zip(self.links[link.at()].config.shows_carrier);
        ends.filter(|(_, shows)| *shows).map(|(end, _)| end).collect()
    }

    /// Whether a link has no carrier for a reason of its own or of one it follows.
    fn blocked(&self, link: LinkIndex) -> bool {
        self.blocked_here(link, |_| true)
    }

    /// The same, as far as it is for the link itself, what it follows and those of the nodes.
    fn blocked_here(&self, link: LinkIndex, counts: impl Fn(NodeIndex) -> bool) -> bool {
        let gone = |node: NodeIndex| match &self.nodes[node.at()].body {
            Body::Down(_) => true,
            Body::Port(port) => !port.has_carrier(),
            Body::Router(_) | Body::Endpoint(_) | Body::Sender(_) => false,
        };
        let down = |link: LinkIndex| {
            let ends = self.ends[link.at()].iter();
            self.links[link.at()].is_cut() || ends.into_iter().any(|&(n, _)| counts(n) && gone(n))
        };
        down(link) || self.links[link.at()].config.follows.iter().any(|&other| down(other))
    }

    fn tell_carrier(&mut self, node: NodeIndex, port: PortIndex, up: bool) {
        match &mut self.nodes[node.at()].body {
            Body::Router(router) => router.carrier(port, up, &mut self.frames, self.now),
            Body::Port(port) => port.set_carrier(up),
            Body::Endpoint(_) | Body::Sender(_) | Body::Down(_) => return,
        }
        self.settle(node);
    }

    fn scheduled(&self, source: Source) -> Instant {
        match source {
            Source::Channel(link, direction) => {
                self.scheduled_channels[link.at()][direction as usize]
            }
            Source::Node(node) => self.scheduled_nodes[node.at()],
        }
    }

    fn schedule_channel(&mut self, link: LinkIndex, direction: Direction, at: Instant) {
        if at != self.scheduled_channels[link.at()][direction as usize] {
            self.scheduled_channels[link.at()][direction as usize] = at;
            self.queue.push(at, Source::Channel(link, direction));
        }
    }

    fn schedule_node(&mut self, node: NodeIndex, at: Instant) {
        let at = at.max(self.now);
        if at != self.scheduled_nodes[node.at()] {
            self.scheduled_nodes[node.at()] = at;
            self.queue.push(at, Source::Node(node));
        }
    }
}

/// What comes next: by time, then in the order in which it was scheduled.
#[derive(Debug, Default)]
struct Queue {
    /// Time, order and source in one number: half the size of the three, and compared at once.
    entries: BinaryHeap<Reverse<u128>>,
    /// Whether the first entry was taken. It stays until the next one replaces it, as nearly every
    /// event causes another: that costs one walk down the heap instead of two and one up.
    taken: bool,
    order: u64,
}

/// Bits of an entry for the source, and above them for the order.
const SOURCE_BITS: u32 = PLACE_BITS + 2;
const ORDER_BITS: u32 = 40;

impl Queue {
    /// Nothing is due at [`Instant::NEVER`].
    fn push(&mut self, at: Instant, source: Source) {
        if at == Instant::NEVER {
            return;
        }
        // Begins anew after 2^40, days into a run: two of one nanosecond may then change places.
        self.order = (self.order + 1) & ((1 << ORDER_BITS) - 1);
        let low = self.order << SOURCE_BITS | source.code();
        let entry = Reverse(u128::from(at.as_nanos()) << 64 | u128::from(low));
        if std::mem::take(&mut self.taken)
            && let Some(mut first) = self.entries.peek_mut()
        {
            *first = entry;
        } else {
            self.entries.push(entry);
        }
    }

    /// When the first entry is due. Asked when [`Queue::pop_until`] has found nothing more.
    fn next(&self) -> Instant {
        debug_assert!(!self.taken, "an entry that was taken is no more");
        let first = self.entries.peek();
        first.map_or(Instant::NEVER, |Reverse(entry)| Instant::from_nanos((entry >> 64) as u64))
    }

    /// Takes the first entry that is due by `end`.
    fn pop_until(&mut self, end: Instant, worker: usize) -> Option<(Instant, Source)> {
        if std::mem::take(&mut self.taken) {
            self.entries.pop();
        }
        let &Reverse(entry) = self.entries.peek()?;
        let at = Instant::from_nanos((entry >> 64) as u64);
        self.taken = at <= end;
        self.taken.then(|| (at, Source::from_code(entry as u64, worker)))
    }
}

impl Source {
    /// In [`SOURCE_BITS`].
    fn code(self) -> u64 {
        let code = match self {
            Self::Channel(link, direction) => link.at() << 2 | (direction as usize) << 1,
            Self::Node(node) => node.at() << 1 | 1,
        };
        debug_assert!(code >> SOURCE_BITS == 0, "links and nodes are bounded by the lab file");
        code as u64
    }

    /// Of the low bits of `entry`, in a worker's queue.
    fn from_code(entry: u64, worker: usize) -> Self {
        let code = (entry & ((1 << SOURCE_BITS) - 1)) as usize;
        match (code & 1, code >> 1 & 1) {
            (1, _) => Self::Node(NodeIndex::new(worker, code >> 1)),
            (_, 0) => Self::Channel(LinkIndex::new(worker, code >> 2), Direction::Forward),
            (_, _) => Self::Channel(LinkIndex::new(worker, code >> 2), Direction::Backward),
        }
    }
}
