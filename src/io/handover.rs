//! Two ports of one process that are joined: what one transmits the other receives, in another thread.
//!
//! A ring leads each way. A frame goes from pool to pool without a copy: its slot's memory changes
//! hands, and memory comes back by a ring of its own. Nothing waits: a ring that is full is a drop.

use std::cell::Cell;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use rtrb::{Consumer, Producer, RingBuffer};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};

use crate::io::frame::{Parcel, SMALL_SLOT};
use crate::io::port::{Counters, Port};
use crate::io::{Frame, Frames};
use crate::model::Instant;

/// Most frames on the way: 8 ms of 500,000 frames a second.
const RING: usize = 4_096;
/// Most of these that are longer than a small slot: 32 MiB.
const LARGE_MAX: usize = 512;

/// One of the two ports.
pub struct Handover {
    to: Producer<Parcel>,
    /// Slots that the other end has emptied.
    emptied: Consumer<Box<[u8]>>,
    /// Of those that were emptied: small ones, and large ones.
    spare: [Vec<Box<[u8]>>; 2],
    /// How many slots this end has made.
    made: [usize; 2],
    from: Consumer<Parcel>,
    returned: Producer<Box<[u8]>>,
    own: Arc<End>,
    other: Arc<End>,
    /// Since it last received, it has asked to be woken.
    slept: Cell<bool>,
    counters: Counters,
    lost: Arc<AtomicU64>,
}

/// What one end says to the other.
struct End {
    /// It waits for `wake`.
    sleeps: AtomicBool,
    wake: OwnedFd,
    /// It shows carrier to the other.
    carrier: AtomicBool,
}

/// Two ports that are joined.
///
/// # Errors
/// The process has no file descriptor left.
pub fn pair() -> Result<[Handover; 2], Errno> {
    let [a, b] = [End::new()?, End::new()?].map(Arc::new);
    let rings = || (RingBuffer::new(RING), RingBuffer::new(RING + LARGE_MAX));
    let ((to_b, from_a), (returned_by_b, emptied_for_a)) = rings();
    let ((to_a, from_b), (returned_by_a, emptied_for_b)) = rings();
    let end = |to, emptied, from, returned, own: &Arc<End>, other: &Arc<End>| Handover {
        to,
        emptied,
        spare: Default::default(),
        made: [0; 2],
        from,
        returned,
        own: Arc::clone(own),
        other: Arc::clone(other),
        slept: Cell::new(false),
        counters: Counters::default(),
        lost: Arc::default(),
    };
    Ok([
        end(to_b, emptied_for_a, from_b, returned_by_a, &a, &b),
        end(to_a, emptied_for_b, from_a, returned_by_b, &b, &a),
    ])
}

impl Handover {
    /// Packets that this end was given and the other will not, and that it did not give itself.
    pub fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }

    /// Memory for a slot of so many bytes, which the other end gets; none when as many as may be are
    /// with it.
    fn spare(&mut self, length: usize) -> Option<Box<[u8]>> {
        let class = class(length);
        if self.spare[class].is_empty() {
            while let Ok(memory) = self.emptied.pop() {
                self.spare[self::class(memory.len())].push(memory);
            }
        }
        self.spare[class].pop().or_else(|| {
            let may_be_made = self.made[class] < [RING, LARGE_MAX][class];
            may_be_made.then(|| {
                self.made[class] += 1;
                vec![0; length].into_boxed_slice()
            })
        })
    }
}

/// Of a slot of so many bytes: 0 is small.
const fn class(length: usize) -> usize {
    (length > SMALL_SLOT) as usize
}

impl Port for Handover {
    fn receive(&mut self, max: usize, into: &mut Vec<Frame>, frames: &mut Frames, _: Instant) {
        if self.slept.take() {
            self.own.is_awake();
        }
        for parcel in std::iter::from_fn(|| self.from.pop().ok()).take(max) {
            let packets = parcel.wire_packets();
            let memory = match frames.unpack(parcel) {
                Ok((frame, memory)) => {
                    into.push(frame);
                    self.counters.received += packets;
                    memory
                }
                Err(parcel) => {
                    self.counters.receive_dropped += packets;
                    self.lost.fetch_add(packets, Ordering::Relaxed);
                    parcel.into_memory()
                }
            };
            // There is room: the other end makes no more than the ring takes.
            let _ = self.returned.push(memory);
        }
    }

    fn transmit(&mut self, frame: Frame, frames: &mut Frames) {
        let packets = frame.meta.wire_packets();
        let is_full = self.to.is_full();
        match frames.pack(frame, |length| if is_full { None } else { self.spare(length) }) {
            Ok(parcel) => {
                self.to.push(parcel).expect("the ring is not full");
                self.counters.transmitted += packets;
            }
            Err(frame) => {
                self.counters.transmit_dropped += packets;
                self.lost.fetch_add(packets, Ordering::Relaxed);
                frames.free(frame);
            }
        }
    }

    fn flush(&mut self, _: &mut Frames) {
        self.other.wake();
    }

    fn set_carrier(&mut self, up: bool) {
        if self.own.carrier.swap(up, Ordering::Release) != up {
            self.other.wake();
        }
    }

    fn has_carrier(&self) -> bool {
        self.other.carrier.load(Ordering::Acquire)
    }

    fn counters(&mut self) -> Counters {
        self.counters
    }

    /// Whoever asks goes to sleep: from here on the other end wakes it.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.slept.set(true);
        self.own.sleeps.store(true, Ordering::SeqCst);
        // What came before the other end could see this wakes it too.
        if !self.from.is_empty() {
            self.own.wake();
        }
        vec![self.own.wake.as_fd()]
    }
}

impl End {
    fn new() -> Result<Self, Errno> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { sleeps: AtomicBool::new(false), wake, carrier: AtomicBool::new(true) })
    }

    /// Ends its sleep, if it sleeps.
    fn wake(&self) {
        // What was pushed is seen by whoever says after this that it sleeps.
        fence(Ordering::SeqCst);
        if self.sleeps.load(Ordering::Relaxed) && self.sleeps.swap(false, Ordering::SeqCst) {
            // It has room for 2^64 wakes.
            let _ = write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    /// It is awake, whoever woke it.
    fn is_awake(&self) {
        self.sleeps.store(false, Ordering::SeqCst);
        let _ = read(&self.wake, &mut [0_u8; 8]);
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover").field("counters", &self.counters).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::io::PartialChecksum;

    fn receive(port: &mut Handover, frames: &mut Frames) -> Vec<Frame> {
        let mut into = Vec::new();
        port.receive(RING, &mut into, frames, Instant::ZERO);
        into
    }

    #[test]
    fn a_frame_arrives_as_it_was_and_leaves_nothing_behind() {
        let [mut near, mut far] = pair().unwrap();
        let (mut ours, mut theirs) = (Frames::new(), Frames::new());
        for length in [60, 60_000] {
            let bytes: Vec<_> = (0..length).map(|i| i as u8).collect();
            let mut frame = ours.allocate_from(&bytes).unwrap();
            frame.meta.gso_size = 1_000;
            frame.meta.segments = 3;
            let partial = Some(PartialChecksum { start: 34, offset: 16 });
            frame.set_partial_checksum(partial);
            assert!(frame.trim_front(4));
            let (meta, partial) = (frame.meta, frame.partial_checksum());
            near.transmit(frame, &mut ours);
            near.flush(&mut ours);
            assert_eq!(ours.in_use(), 0);
            let mut arrived = receive(&mut far, &mut theirs);
            let mut frame = arrived.pop().unwrap();
            assert!(arrived.is_empty());
            assert_eq!(theirs.bytes(&frame), &bytes[4..]);
            assert_eq!((frame.meta, frame.partial_checksum()), (meta, partial));
            assert!(frame.extend_front(4), "its headroom came with it");
            assert_eq!(theirs.bytes(&frame), bytes);
            theirs.free(frame);
            assert_eq!(theirs.in_use(), 0);
        }
        assert_eq!((near.counters().transmitted, far.counters().received), (6, 6));
    }

    #[test]
    fn memory_goes_round_and_is_bounded() {
        let [mut near, mut far] = pair().unwrap();
        let (mut ours, mut theirs) = (Frames::new(), Frames::new());
        for (length, most) in [(60, RING), (10_000, LARGE_MAX)] {
            let before = [near.counters().transmitted, near.counters().transmit_dropped];
            for _ in 0..2 {
                for _ in 0..RING + 10 {
                    let frame = ours.allocate(length).unwrap();
                    near.transmit(frame, &mut ours);
                }
                let arrived = receive(&mut far, &mut theirs);
                assert_eq!(arrived.len(), most);
                for frame in arrived {
                    theirs.free(frame);
                }
            }
            assert_eq!(near.made[class(length)], most);
            let (most, over) = (most as u64, (RING + 10 - most) as u64);
            let Counters { transmitted, transmit_dropped, .. } = near.counters();
            assert_eq!(
                [transmitted - before[0], transmit_dropped - before[1]],
                [2 * most, 2 * over]
            );
        }
        assert_eq!((ours.in_use(), theirs.in_use()), (0, 0));
    }

    fn is_woken(port: &Handover, within: Timespec) -> bool {
        let descriptors = port.descriptors();
        let mut polled = [PollFd::from_borrowed_fd(descriptors[0], PollFlags::IN)];
        poll(&mut polled, Some(&within)).unwrap() > 0
    }

    #[test]
    fn who_sleeps_is_woken_by_what_came_before_and_after_and_by_carrier() {
        let [mut near, mut far] = pair().unwrap();
        let (mut ours, mut theirs) = (Frames::new(), Frames::new());
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert!(!is_woken(&far, now));
        near.transmit(ours.allocate(60).unwrap(), &mut ours);
        near.flush(&mut ours);
        assert!(is_woken(&far, minute), "what came while it slept");
        assert_eq!(receive(&mut far, &mut theirs).len(), 1);
        assert!(!is_woken(&far, now), "once");
        assert!(receive(&mut far, &mut theirs).is_empty());
        near.transmit(ours.allocate(60).unwrap(), &mut ours);
        near.flush(&mut ours);
        assert!(is_woken(&far, minute), "what came before it slept");
        receive(&mut far, &mut theirs);
        assert!(!is_woken(&far, now));
        assert!(far.has_carrier());
        near.set_carrier(false);
        assert!(is_woken(&far, minute), "carrier");
        assert!(!far.has_carrier() && near.has_carrier());
    }

    /// Each thread sleeps when it has nothing, so that a wake that is lost hangs the test.
    #[test]
    fn between_threads_nothing_is_lost_or_overtaken() {
        const FRAMES: u32 = 200_000;
        let [mut near, mut far] = pair().unwrap();
        let sends = thread::spawn(move || {
            let (mut frames, mut next, mut answers) = (Frames::new(), 0_u32, 0);
            while answers < FRAMES {
                while next < FRAMES && next - answers < 1_000 {
                    let frame = frames.allocate_from(&next.to_be_bytes()).unwrap();
                    near.transmit(frame, &mut frames);
                    next += 1;
                }
                near.flush(&mut frames);
                let arrived = receive(&mut near, &mut frames);
                if arrived.is_empty() {
                    assert!(is_woken(&near, Timespec { tv_sec: 60, tv_nsec: 0 }));
                }
                for frame in arrived {
                    assert_eq!(frames.bytes(&frame), answers.to_be_bytes());
                    answers += 1;
                    frames.free(frame);
                }
            }
            (near.counters(), frames.in_use())
        });
        let (mut frames, mut returned) = (Frames::new(), 0);
        while returned < FRAMES {
            let arrived = receive(&mut far, &mut frames);
            if arrived.is_empty() {
                assert!(is_woken(&far, Timespec { tv_sec: 60, tv_nsec: 0 }));
            }
            returned += arrived.len() as u32;
            for frame in arrived {
                far.transmit(frame, &mut frames);
            }
            far.flush(&mut frames);
        }
        let (counters, in_use) = sends.join().unwrap();
        assert_eq!((counters.transmitted, counters.received), (FRAMES.into(), FRAMES.into()));
        assert_eq!((counters.transmit_dropped, in_use, frames.in_use()), (0, 0, 0));
    }
}
