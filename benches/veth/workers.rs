//! What a second forwarding thread gives, and what it costs to hand frames from one to the other. Ports
//! are in memory, so that no kernel and no generator takes a core.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use msee::fabric::{LinkConfig, RealTime, Workers};
use msee::io::{Frame, Frames, Port, PortCounters};
use msee::lab::HostNode;
use msee::model::{Instant, PortIndex};
use msee::sys::clock;
use msee::sys::packet::VnetHeader;
use msee::wire::{MacAddr, arp, ethernet, ethertype};

use crate::network::Dut;
use crate::{frames, median, router};

const ROUNDS: usize = 5;
/// Not counted: the next hop's MAC, caches, the clock of the core.
const WARM_UP: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_secs(1);
/// As a lab runs between two looks.
const SLICE: Duration = Duration::from_millis(20);
const LENGTH: usize = 60;

/// What is where.
#[derive(Clone, Copy)]
enum Setting {
    /// Two routers in one thread.
    Together,
    /// Each in a thread of its own.
    Apart,
    /// One router.
    Alone,
    /// Its ports are in the other thread, so that every frame is handed over twice.
    Handed,
}

const SETTINGS: [(Setting, &str); 4] = [
    (Setting::Together, "two routers, one worker"),
    (Setting::Apart, "two routers, a worker each"),
    (Setting::Alone, "one router, one worker"),
    (Setting::Handed, "one router, its ports at another worker"),
];

/// Prints a table.
pub fn measure() {
    let mut rates = vec![Vec::new(); SETTINGS.len()];
    for round in 1..=ROUNDS {
        eprintln!("workers: round {round} of {ROUNDS}");
        for ((setting, _), rates) in SETTINGS.iter().zip(&mut rates) {
            rates.push(once(*setting));
        }
    }
    println!("\nFrames of {LENGTH} bytes, ports in memory, Mpps: median, least, most of {ROUNDS}");
    for ((_, name), rates) in SETTINGS.iter().zip(&mut rates) {
        let median = median(rates);
        println!("{name:40} {median:6.3} {:6.3} {:6.3}", rates[0], rates[ROUNDS - 1]);
    }
}

/// Millions of packets a second that all sinks take.
fn once(setting: Setting) -> f64 {
    // The workers of the routers, and that of all ports where it is another.
    let (routers, ports): (&[usize], _) = match setting {
        Setting::Together => (&[0, 0], None),
        Setting::Apart => (&[0, 1], None),
        Setting::Alone => (&[0], None),
        Setting::Handed => (&[0], Some(1)),
    };
    let count = routers.iter().copied().chain(ports).max().map_or(1, |last| last + 1);
    let mut workers = Workers::<HostNode>::new(1, count);
    let taken = Arc::new(AtomicU64::new(0));
    for &worker in routers {
        let node = workers.add_router(worker, &router::config());
        let ends: [Box<dyn Port>; 2] =
            [Box::new(Peer::source()), Box::new(Peer::next_hop(Arc::clone(&taken)))];
        for (port, index) in ends.into_iter().zip([PortIndex(0), PortIndex(1)]) {
            let port = workers.add_port(ports.unwrap_or(worker), port);
            workers.add_link(LinkConfig::named("link"), [(port, PortIndex(0)), (node, index)]);
        }
    }
    let mut time = RealTime::start();
    let mut run = |span: Duration| {
        let (before, begun) = (taken.load(Ordering::Relaxed), clock::monotonic());
        while clock::monotonic() < begun + span {
            time.run_workers(&mut workers, time.now() + SLICE, &mut router::Nobody);
        }
        let spent = clock::monotonic().saturating_sub(begun);
        (taken.load(Ordering::Relaxed) - before) as f64 / spent.as_secs_f64() / 1e6
    };
    run(WARM_UP);
    let rate = run(MEASURED);
    let totals = workers.totals();
    assert!(totals.held, "every packet is accounted for: {:?}", totals.sum);
    rate
}

/// Who is at the other end of a port: a source gives as many frames as it is asked for, a next hop says
/// its MAC and counts.
struct Peer {
    templates: Vec<Vec<u8>>,
    next: usize,
    taken: Arc<AtomicU64>,
    asked: VecDeque<arp::Repr>,
}

impl Peer {
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);

    fn source() -> Self {
        let header = VnetHeader::default().to_bytes().len();
        let templates = frames::of(Dut::Msee, LENGTH).into_iter();
        let templates = templates.map(|frame| frame[header..].to_vec()).collect();
        Self { templates, ..Self::next_hop(Arc::default()) }
    }

    const fn next_hop(taken: Arc<AtomicU64>) -> Self {
        Self { templates: Vec::new(), next: 0, taken, asked: VecDeque::new() }
    }
}

impl Port for Peer {
    fn receive(&mut self, max: usize, into: &mut Vec<Frame>, frames: &mut Frames, _: Instant) {
        for _ in 0..if self.templates.is_empty() { 0 } else { max } {
            self.next = (self.next + 1) % self.templates.len();
            into.extend(frames.allocate_from(&self.templates[self.next]));
        }
        for request in self.asked.drain(..) {
            let destination = request.sender_mac;
            let front =
                ethernet::Repr { destination, source: Self::MAC, ethertype: ethertype::ARP };
            let reply = arp::Repr {
                operation: arp::Operation::Reply,
                sender_mac: Self::MAC,
                sender: request.target,
                target_mac: destination,
                target: request.sender,
            };
            let mut bytes = [0; LENGTH];
            front.emit(&mut bytes);
            reply.emit(&mut bytes[ethernet::HEADER_LEN..]);
            into.extend(frames.allocate_from(&bytes));
        }
    }

    fn transmit(&mut self, frame: Frame, frames: &mut Frames) {
        let bytes = frames.bytes(&frame);
        match ethernet::View::new(bytes).map(|view| view.ethertype()) {
            Ok(ethertype::ARP) => {
                let packet = arp::View::new(&bytes[ethernet::HEADER_LEN..]);
                self.asked.extend(packet.and_then(|view| arp::Repr::parse(&view)));
            }
            _ => _ = self.taken.fetch_add(1, Ordering::Relaxed),
        }
        frames.free(frame);
    }

    fn flush(&mut self, _: &mut Frames) {}

    fn counters(&mut self) -> PortCounters {
        PortCounters::default()
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
}
