//! Two ports and what passes between them, in a thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use msee::io::packet::{Mode, PacketPort};
use msee::io::port::Counters;
use msee::io::{Frame, Frames, Port};
use msee::model::Instant;
use msee::sys::clock;
use msee::sys::packet::Interface;
use msee::wire::vlan;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What happens to a frame on its way.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Push(u16),
    Pop,
}

/// What a relay saw.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    pub counters: [Counters; 2],
    /// Super-frames that came in at each port.
    pub super_frames: [u64; 2],
    /// Segments of the longest.
    pub longest: u16,
    /// Frames with a partial checksum that came in at each port.
    pub partial: [u64; 2],
}

/// What a port is told that it is.
pub fn now() -> Instant {
    Instant::ZERO + clock::monotonic()
}

/// A port on an interface of the calling thread's namespace.
pub fn open(name: &str, mode: Mode) -> PacketPort {
    PacketPort::open(Interface::by_name(name).unwrap(), mode).unwrap()
}

/// Carries frames from its first port to its second and back until it is stopped.
pub struct Relay {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Relay {
    /// What happens on the way from the first port to the second is `ways`, in order; on the way
    /// back `back`.
    pub fn start(ports: [&str; 2], mode: Mode, ways: &[Way], back: &[Way]) -> Self {
        let ports = ports.map(|name| open(name, mode));
        let ways = [ways.to_vec(), back.to_vec()];
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        Self { stop, thread: thread::spawn(move || carry(ports, &ways, &asked)) }
    }

    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn carry(mut ports: [PacketPort; 2], ways: &[Vec<Way>; 2], stop: &AtomicBool) -> Seen {
    let mut frames = Frames::new();
    let mut batch = Vec::new();
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let mut idle = true;
        for (direction, ways) in ways.iter().enumerate() {
            let [from, to] = ports.get_disjoint_mut([direction, 1 - direction]).unwrap();
            from.receive(64, &mut batch, &mut frames, now());
            idle &= batch.is_empty();
            for mut frame in batch.drain(..) {
                seen.super_frames[direction] += u64::from(frame.meta.is_super_frame());
                seen.partial[direction] += u64::from(frame.partial_checksum().is_some());
                seen.longest = seen.longest.max(frame.meta.segments);
                for way in ways {
                    change(*way, &mut frame, &mut frames);
                }
                to.transmit(frame, &mut frames);
            }
            to.flush(&mut frames);
        }
        if idle {
            wait(&ports);
        }
    }
    assert_eq!(frames.in_use(), 0);
    seen.counters = ports.each_mut().map(PacketPort::counters);
    seen
}

fn wait(ports: &[PacketPort; 2]) {
    let readable = ports.iter().flat_map(PacketPort::descriptors);
    let descriptors: Vec<_> = readable.collect();
    let mut polled: Vec<_> = descriptors.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let most = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    poll(&mut polled, Some(&most)).unwrap();
}

fn change(way: Way, frame: &mut Frame, frames: &mut Frames) {
    match way {
        Way::Push(id) => {
            assert!(frame.extend_front(vlan::TAG_LEN));
            vlan::push(frames.bytes_mut(frame), id);
        }
        Way::Pop => {
            vlan::pop(frames.bytes_mut(frame));
            assert!(frame.trim_front(vlan::TAG_LEN));
        }
    }
}
