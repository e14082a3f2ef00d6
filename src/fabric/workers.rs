//! Several workers, each a thread with a fabric of its own: routers on more than one core.
//!
//! ```text
//!   worker 0                                     worker 1
//!   ce1 ──link──► handover ═══ ring ═══► handover ──patch──► ams/primary
//! ```
//!
//! What is in one worker is handed over at once, as in any [`Fabric`]. A link whose ends have different
//! workers is with one of them, rate, delay and faults; it ends in a port that leads to the other
//! worker, where a patch without properties goes on to the node. Threads run while time does: between
//! two runs everything is still, and belongs to the caller.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::fabric::capture::{LinkCapture, SharedCapture, locked};
use crate::fabric::topology::{Endpoint, Fabric, NodeIndex, Observer, Totals};
use crate::fabric::{Altered, LinkConfig, LinkIndex};
use crate::io::Port;
use crate::io::handover::{self, Handover};
use crate::model::{Instant, PortIndex, RouterConfig};
use crate::router::{DropReason, Launcher, Ledger};
use crate::telemetry::{Event, EventKind, EventLog};

/// The fabrics of a lab's workers. Nodes and links are known by one index everywhere; by it their
/// fabric is found.
#[derive(Debug)]
pub struct Workers<E> {
    fabrics: Vec<Fabric<E>>,
    /// What is at the ends of links between workers.
    far_ends: BTreeMap<LinkIndex, [NodeIndex; 2]>,
    /// Packets that links between workers had no room for.
    lost: Vec<Arc<AtomicU64>>,
    captures: Vec<SharedCapture>,
    log: EventLog,
}

impl<E> Index<NodeIndex> for Workers<E> {
    type Output = Fabric<E>;

    fn index(&self, node: NodeIndex) -> &Fabric<E> {
        &self.fabrics[node.worker()]
    }
}

impl<E> IndexMut<NodeIndex> for Workers<E> {
    fn index_mut(&mut self, node: NodeIndex) -> &mut Fabric<E> {
        &mut self.fabrics[node.worker()]
    }
}

impl<E> Index<LinkIndex> for Workers<E> {
    type Output = Fabric<E>;

    fn index(&self, link: LinkIndex) -> &Fabric<E> {
        &self.fabrics[link.worker()]
    }
}

impl<E> IndexMut<LinkIndex> for Workers<E> {
    fn index_mut(&mut self, link: LinkIndex) -> &mut Fabric<E> {
        &mut self.fabrics[link.worker()]
    }
}

impl<E: Endpoint> Workers<E> {
    /// At least one.
    pub fn new(seed: u64, workers: usize) -> Self {
        Self {
            fabrics: (0..workers.max(1)).map(|worker| Fabric::of_worker(worker, seed)).collect(),
            far_ends: BTreeMap::new(),
            lost: Vec::new(),
            captures: Vec::new(),
            log: EventLog::default(),
        }
    }

    pub const fn count(&self) -> usize {
        self.fabrics.len()
    }

    /// As [`Fabric::set_launcher`], of every worker.
    pub fn set_launcher(&mut self, launcher: &Launcher) {
        self.fabrics.iter_mut().for_each(|fabric| fabric.set_launcher(launcher.clone()));
    }

    pub fn add_router(&mut self, worker: usize, config: &RouterConfig) -> NodeIndex {
        self.fabrics[worker].add_router(config)
    }

    pub fn add_endpoint(&mut self, worker: usize, endpoint: E) -> NodeIndex {
        self.fabrics[worker].add_endpoint(endpoint)
    }

    /// As [`Fabric::add_port`].
    pub fn add_port(&mut self, worker: usize, port: Box<dyn Port>) -> NodeIndex {
        self.fabrics[worker].add_port(port)
    }

    /// As [`Fabric::add_link`]. A link between workers is with the one of a link that it follows, if
    /// it follows one, and else with that of its first end.
    ///
    /// # Panics
    /// The process has no file descriptor left.
    pub fn add_link(&mut self, config: LinkConfig, ends: [(NodeIndex, PortIndex); 2]) -> LinkIndex {
        let workers = ends.map(|(node, _)| node.worker());
        if workers[0] == workers[1] {
            return self.fabrics[workers[0]].add_link(config, ends);
        }
        let with = config.follows.first().map_or(workers[0], |followed| followed.worker());
        let here = workers.iter().position(|&worker| worker == with);
        let here = here.expect("what a link follows is at one of its ends");
        let there = 1 - here;
        let ports = handover::pair().expect("there are descriptors for two ports");
        self.lost.extend(ports.iter().map(Handover::lost));
        let [near, far] = ports;
        let near = (self.add_port(with, Box::new(near)), PortIndex(0));
        let far = (self.add_port(workers[there], Box::new(far)), PortIndex(0));
        let mut patch = LinkConfig::named(config.name.as_str());
        patch.shows_carrier[there] = config.shows_carrier[there];
        patch.shows_carrier[here] = false;
        let mut config = config;
        config.shows_carrier[there] = false;
        let (mut ends_here, mut ends_there) = (ends, ends);
        ends_here[there] = near;
        ends_there[here] = far;
        let link = self.fabrics[with].add_link(config, ends_here);
        self.fabrics[with].add_crossing(link, near.0);
        let patch = self.fabrics[workers[there]].add_link(patch, ends_there);
        self.fabrics[workers[there]].add_patch(patch, far.0, link);
        self.far_ends.insert(link, ends.map(|(node, _)| node));
        link
    }

    /// As [`Fabric::links`].
    pub fn links(&self) -> impl Iterator<Item = (LinkIndex, &str, [NodeIndex; 2])> {
        let links = self.fabrics.iter().flat_map(Fabric::links);
        links.map(|(link, name, ends)| {
            (link, name, self.far_ends.get(&link).copied().unwrap_or(ends))
        })
    }

    pub fn now(&self) -> Instant {
        self.fabrics[0].now()
    }

    /// Runs everything that happens up to and including `end`, in virtual time.
    pub fn run_until(&mut self, end: Instant, observer: &mut dyn Observer) {
        debug_assert_eq!(self.count(), 1, "virtual time is one queue");
        self.fabrics[0].run_until(end, observer);
        self.take_events();
    }

    /// The fabrics, each for a thread.
    pub(super) fn fabrics_mut(&mut self) -> &mut [Fabric<E>] {
        &mut self.fabrics
    }

    /// Puts the events of all workers in one order.
    pub(super) fn take_events(&mut self) {
        let mut events: Vec<_> = self.fabrics.iter_mut().flat_map(Fabric::take_events).collect();
        if self.fabrics.len() > 1 {
            events.sort_by_key(|event| event.at);
        }
        for Event { at, node, kind, detail } in events {
            self.log.record(at, &node, kind, detail);
        }
    }

    pub fn record(&mut self, node: &str, kind: EventKind, detail: impl Into<String>) {
        self.take_events();
        self.log.record(self.now(), node, kind, detail);
    }

    /// All that happened until the end of the last run, in order.
    pub fn events(&self) -> &[Event] {
        self.log.events()
    }

    /// As [`EventLog::since`].
    pub fn events_since(&self, number: usize) -> (usize, &[Event]) {
        self.log.since(number)
    }

    /// As [`EventLog::recorded`].
    pub const fn events_recorded(&self) -> usize {
        self.log.recorded()
    }

    /// As [`EventLog::forget`].
    pub fn forget_events(&mut self, before: usize) {
        self.log.forget(before);
    }

    /// The books of all fabrics together. What is handed over is on the way until it is taken, and is
    /// made and consumed by nobody.
    pub fn totals(&self) -> Totals {
        let (mut sum, mut held, mut over) = (Ledger::default(), true, [0; 2]);
        for fabric in &self.fabrics {
            let totals = fabric.totals();
            held &= totals.held;
            sum.add(&totals.sum);
            let [to, from] = fabric.crossed();
            over = [over[0] + to, over[1] + from];
        }
        let [to, from] = over;
        let lost = self.lost.iter().map(|lost| lost.load(Ordering::Relaxed)).sum();
        held &= to >= from + lost;
        sum.consumed -= to;
        sum.originated -= from;
        sum.queued += to.saturating_sub(from + lost);
        sum.drop(DropReason::LinkFull, lost);
        held &= sum.holds();
        Totals { sum, held }
    }

    /// As [`Fabric::link_ledgers`]; a link between workers has those of its parts.
    pub fn link_ledgers(&self) -> impl Iterator<Item = (&str, &Ledger)> {
        self.fabrics.iter().flat_map(Fabric::link_ledgers)
    }

    /// As [`Fabric::altered`].
    pub fn altered(&self) -> impl Iterator<Item = (&str, Altered)> {
        self.fabrics.iter().flat_map(Fabric::altered)
    }

    /// As [`Fabric::lost_by_ports`].
    pub fn lost_by_ports(&mut self) -> u64 {
        self.fabrics.iter_mut().map(Fabric::lost_by_ports).sum()
    }

    /// Frames that are not free; none when nothing is on the way.
    pub fn frames_in_use(&self) -> usize {
        self.fabrics.iter().map(Fabric::frames_in_use).sum()
    }

    /// Writes what becomes of every frame on the links of a capture, until it is taken back or its
    /// client has enough.
    pub fn capture(&mut self, capture: LinkCapture) {
        let capture = Arc::new(Mutex::new(capture));
        for fabric in &mut self.fabrics {
            fabric.begin_capture(Arc::clone(&capture));
        }
        self.captures.push(capture);
    }

    /// How many captures there are.
    pub const fn captures(&self) -> usize {
        self.captures.len()
    }

    /// Ends the capture that was begun last.
    pub fn end_capture(&mut self) -> Option<LinkCapture> {
        let capture = self.captures.pop()?;
        for fabric in &mut self.fabrics {
            fabric.keep_captures(|other| !Arc::ptr_eq(other, &capture));
        }
        let capture = Arc::into_inner(capture).expect("no worker has it any more");
        Some(capture.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends the clients of captures what they take, and ends those that are over.
    pub fn tend_captures(&mut self) {
        if self.captures.is_empty() {
            return;
        }
        let now = self.now();
        self.captures.retain(|capture| locked(capture).tend(now));
        let kept = &self.captures;
        for fabric in &mut self.fabrics {
            fabric.keep_captures(|capture| kept.iter().any(|other| Arc::ptr_eq(other, capture)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::*;
    use crate::fabric::{Direction, RealTime};
    use crate::io::{Frame, Frames};

    const NEAR: PortIndex = PortIndex(0);
    const EVERY: Duration = Duration::from_millis(1);

    /// Sends a burst each millisecond, or sends back what it receives.
    #[derive(Debug, Default)]
    struct Talker {
        unsent: u64,
        burst: u64,
        next: Instant,
        echoes: bool,
        leaving: VecDeque<Frame>,
        ledger: Ledger,
    }

    impl Endpoint for Talker {
        fn receive(&mut self, frame: Frame, frames: &mut Frames, _: Instant) {
            self.ledger.received += 1;
            self.ledger.consumed += 1;
            if self.echoes {
                self.ledger.originated += 1;
                self.ledger.queued += 1;
                self.leaving.push_back(frame);
            } else {
                frames.free(frame);
            }
        }

        fn handle_timeout(&mut self, now: Instant, frames: &mut Frames) {
            for _ in 0..self.burst.min(self.unsent) {
                self.leaving.push_back(frames.allocate(60).expect("a frame is free"));
                self.unsent -= 1;
                self.ledger.originated += 1;
                self.ledger.queued += 1;
            }
            self.next = now + EVERY;
        }

        fn poll_timeout(&self) -> Instant {
            if self.unsent == 0 { Instant::NEVER } else { self.next }
        }

        fn poll_transmit(&mut self) -> Option<Frame> {
            let frame = self.leaving.pop_front()?;
            self.ledger.queued -= 1;
            self.ledger.transmitted += 1;
            Some(frame)
        }

        fn ledger(&self) -> Ledger {
            self.ledger.clone()
        }
    }

    /// Counts what enters each direction.
    #[derive(Default)]
    struct Entered([u64; 2]);

    impl Observer for Entered {
        fn frame(&mut self, link: LinkIndex, direction: Direction, _: &[u8], _: Instant) {
            assert_eq!(link.worker(), 0, "it is with its first end");
            self.0[direction as usize] += 1;
        }
    }

    /// A talker and one that answers, each with a worker of its own.
    fn apart(unsent: u64, burst: u64) -> (Workers<Talker>, NodeIndex, NodeIndex, LinkIndex) {
        let mut workers = Workers::new(1, 2);
        let talker = workers.add_endpoint(0, Talker { unsent, burst, ..Talker::default() });
        let echo = workers.add_endpoint(1, Talker { echoes: true, ..Talker::default() });
        let link = LinkConfig { delay: EVERY / 2, ..LinkConfig::named("link") };
        let link = workers.add_link(link, [(talker, NEAR), (echo, NEAR)]);
        (workers, talker, echo, link)
    }

    #[test]
    fn frames_go_there_and_back_and_the_books_hold_whenever_it_is_still() {
        const FRAMES: u64 = 20_000;
        let (mut workers, talker, echo, link) = apart(FRAMES, 200);
        workers[link].watch(link);
        let links: Vec<_> = workers.links().collect();
        assert_eq!(links, [(link, "link", [talker, echo])]);
        for (node, outbound) in [(talker, Direction::Forward), (echo, Direction::Backward)] {
            let ports: Vec<_> = workers[node].ports_of(node).collect();
            assert_eq!(ports, [(NEAR, link, outbound)], "it is one link to both");
        }
        let (mut time, mut entered) = (RealTime::start(), Entered::default());
        let mut on_the_way = 0;
        while workers[talker].ledger(talker).received < FRAMES {
            let end = time.now() + Duration::from_millis(2);
            time.run_workers(&mut workers, end, &mut entered);
            let totals = workers.totals();
            assert!(totals.held, "{:?}", totals.sum);
            on_the_way = on_the_way.max(totals.sum.queued);
            assert!(time.now() < Instant::from_secs(60), "{:?}", totals.sum);
        }
        assert!(on_the_way > 0);
        assert_eq!(entered.0, [FRAMES; 2]);
        let sum = workers.totals().sum;
        // Nobody makes and consumes a frame because it goes to another worker.
        assert_eq!((sum.originated, sum.consumed, sum.queued), (2 * FRAMES, 2 * FRAMES, 0));
        assert_eq!((workers.frames_in_use(), workers.lost_by_ports()), (0, 0));
    }

    /// More at once than the ring takes: what is lost has a name.
    #[test]
    fn what_the_ring_has_no_room_for_is_counted() {
        const FRAMES: u64 = 100_000;
        let (mut workers, talker, echo, _) = apart(FRAMES, FRAMES);
        let mut time = RealTime::start();
        while workers[talker].ledger(talker).transmitted < FRAMES || workers.totals().sum.queued > 0
        {
            let end = time.now() + Duration::from_millis(2);
            time.run_workers(&mut workers, end, &mut Entered::default());
            let totals = workers.totals();
            assert!(totals.held, "{:?}", totals.sum);
        }
        let lost = workers.totals().sum.dropped[DropReason::LinkFull as usize];
        let [there, back] = [echo, talker].map(|node| workers[node].ledger(node).received);
        assert!(lost > 0 && there > 0);
        assert_eq!((FRAMES - there) + (there - back), lost);
        assert_eq!((workers.lost_by_ports(), workers.frames_in_use()), (lost, 0));
    }
}
