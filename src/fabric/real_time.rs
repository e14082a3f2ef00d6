//! The host's clock: what is due happens when its time has come, and ports are read between.
//!
//! ```text
//!   ┌─► read a port ─► what is due ─► write ports ─┐ one port after the other
//!   └──── nothing moved: wait for a port, ◄────────┘
//!         the next deadline or the end
//! ```
//!
//! The queue of the fabric is the delay line of its links. A turn takes at most a batch from each
//! port, so that no port and no deadline waits long for another. Control processes are heard between
//! turns: what they say is read in parts, and nothing waits for them. Each worker has such a loop.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::fabric::topology::{Endpoint, Fabric, Observer};
use crate::fabric::workers::Workers;
use crate::fabric::{Direction, LinkIndex};
use crate::model::Instant;
use crate::sys::clock;

/// How long a loop that found nothing to do looks again before it sleeps, at least and at most. A sleep
/// costs the first packet after it some 50 µs; looking costs a core that others may need.
const SPIN: [Duration; 2] = [Duration::from_micros(20), Duration::from_micros(320)];

/// How often a loop that does not sleep looks whether a control process has said something: a look is
/// a system call.
const HEAR_EVERY: Duration = Duration::from_micros(100);

/// Runs a [`Fabric`], or those of several [`Workers`], by the host's clock.
#[derive(Debug)]
pub struct RealTime {
    zero: Zero,
    /// One for each worker that has run.
    loops: Vec<Loop>,
}

/// The moment at which a fabric's time began (CLOCK_MONOTONIC).
#[derive(Clone, Copy, Debug)]
struct Zero(Duration);

/// What a worker knows from one run to the next.
#[derive(Debug)]
struct Loop {
    zero: Zero,
    /// When it last ran, or was to be woken.
    expected: Instant,
    longest_stall: Duration,
    spin: Spin,
    /// When control processes are heard next.
    hear: Instant,
}

impl RealTime {
    /// The fabric's time begins now.
    pub fn start() -> Self {
        Self { zero: Zero(clock::monotonic()), loops: Vec::new() }
    }

    /// The moment at which the fabric's time began (CLOCK_MONOTONIC).
    pub const fn zero(&self) -> Duration {
        self.zero.0
    }

    pub fn now(&self) -> Instant {
        self.zero.now()
    }

    /// The longest time that the host kept a worker from running, or that one was behind with what was
    /// due, since it was last asked.
    pub fn take_longest_stall(&mut self) -> Duration {
        let stalls = self.loops.iter_mut().map(|one| std::mem::take(&mut one.longest_stall));
        stalls.max().unwrap_or_default()
    }

    /// Runs everything until `end`.
    pub fn run_until<E: Endpoint>(
        &mut self,
        fabric: &mut Fabric<E>,
        end: Instant,
        observer: &mut dyn Observer,
    ) {
        self.loops(1)[0].run_until(fabric, end, observer);
    }

    /// Runs everything of all workers until `end`: the first in this thread, the others each in its
    /// own. One at a time has the observer.
    pub fn run_workers<E: Endpoint + Send>(
        &mut self,
        workers: &mut Workers<E>,
        end: Instant,
        observer: &mut dyn Observer,
    ) {
        let loops = self.loops(workers.count());
        match (loops, workers.fabrics_mut()) {
            ([one], [fabric]) => one.run_until(fabric, end, observer),
            (loops, fabrics) => run_together(loops, fabrics, end, observer),
        }
        workers.take_events();
    }

    fn loops(&mut self, count: usize) -> &mut [Loop] {
        let zero = self.zero;
        self.loops.resize_with(self.loops.len().max(count), || Loop::new(zero));
        &mut self.loops
    }
}

fn run_together<E: Endpoint + Send>(
    loops: &mut [Loop],
    fabrics: &mut [Fabric<E>],
    end: Instant,
    observer: &mut dyn Observer,
) {
    let observer = Mutex::new(observer);
    let observer = &observer;
    let mut workers = loops.iter_mut().zip(fabrics).enumerate();
    let first = workers.next();
    std::thread::scope(|threads| {
        for (number, (one, fabric)) in workers {
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            let run = move || one.run_until(fabric, end, &mut InTurn(observer));
            thread.spawn_scoped(threads, run).expect("the host has a thread left");
        }
        if let Some((_, (one, fabric))) = first {
            one.run_until(fabric, end, &mut InTurn(observer));
        }
    });
}

/// An observer that several workers share.
struct InTurn<'o, 'm>(&'m Mutex<&'o mut dyn Observer>);

impl Observer for InTurn<'_, '_> {
    fn frame(&mut self, link: LinkIndex, direction: Direction, bytes: &[u8], now: Instant) {
        let mut observer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        observer.frame(link, direction, bytes, now);
    }
}

impl Zero {
    fn now(self) -> Instant {
        Instant::ZERO + clock::monotonic().saturating_sub(self.0)
    }
}

impl Loop {
    fn new(zero: Zero) -> Self {
        let (spin, longest_stall) = (Spin::default(), Duration::ZERO);
        Self { zero, expected: Instant::ZERO, longest_stall, spin, hear: Instant::ZERO }
    }

    fn now(&self) -> Instant {
        self.zero.now()
    }

    /// Runs everything of one fabric until `end`.
    fn run_until<E: Endpoint>(
        &mut self,
        fabric: &mut Fabric<E>,
        end: Instant,
        observer: &mut dyn Observer,
    ) {
        let mut idle_since = None;
        loop {
            let begun = self.now();
            let now = begun.min(end);
            self.note_stall(begun);
            // Whoever asks for less than it takes falls behind without a gap.
            self.longest_stall = self.longest_stall.max(begun.since(end));
            let mut moved = fabric.turn(now, observer);
            if self.hear <= now {
                moved |= fabric.hear_controls(now, observer);
                self.hear = now + HEAR_EVERY;
            }
            self.note_stall(self.now());
            if now == end {
                return;
            }
            if moved {
                idle_since = None;
            } else if now.since(*idle_since.get_or_insert(now)) >= self.spin.0 {
                let until = self.sleep(fabric, end);
                let woken = self.now();
                self.spin.slept(woken.since(now));
                // Who is woken later than it asked for has been kept from running.
                self.expected = woken.min(until);
                self.hear = Instant::ZERO;
                idle_since = None;
            }
        }
    }

    /// It runs `now`, and should have since [`Loop::expected`].
    fn note_stall(&mut self, now: Instant) {
        self.longest_stall = self.longest_stall.max(now.since(self.expected));
        self.expected = now;
    }

    /// Until a port has something, the next deadline, or the end, whose time it returns. A signal ends
    /// it too.
    fn sleep<E: Endpoint>(&self, fabric: &Fabric<E>, end: Instant) -> Instant {
        let until = fabric.next_due().min(end);
        let left = until.since(self.now());
        let timeout =
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let descriptors = fabric.descriptors();
        let mut polled: Vec<_> =
            descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        polled.extend(fabric.controls().map(|(_, fd)| fd));
        // Whatever ends it, the next turn looks at everything.
        let _ = poll(&mut polled, Some(&timeout));
        until
    }
}

/// How long to look before a sleep: longer after sleeps that were not worth their cost, since what came
/// then comes again soon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Spin(Duration);

impl Default for Spin {
    fn default() -> Self {
        Self(SPIN[0])
    }
}

impl Spin {
    fn slept(&mut self, time: Duration) {
        let next = if time < SPIN[1] { self.0 * 2 } else { self.0 / 2 };
        self.0 = next.clamp(SPIN[0], SPIN[1]);
    }
}

impl<E: Endpoint> Fabric<E> {
    /// Lets happen what is due, reads each port and sees what it gave to its end. False when nothing
    /// moved. What one port gave has left before the next is read: it waits for nobody, and it is in
    /// the cache still.
    fn turn(&mut self, now: Instant, observer: &mut dyn Observer) -> bool {
        self.now = now;
        let mut moved = self.run_due(now, observer);
        for port in 0..self.port_count() {
            if self.read_port(port, now, observer) {
                self.run_due(now, observer);
                moved = true;
            }
        }
        moved
    }

    /// Lets happen what is due and writes the ports. False when nothing was.
    fn run_due(&mut self, now: Instant, observer: &mut dyn Observer) -> bool {
        let mut moved = false;
        while let Some((_, source)) = self.pop_until(now) {
            self.happen(source, now, observer);
            moved = true;
        }
        if moved {
            self.flush_ports();
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_sleeps_make_it_look_longer_and_long_ones_shorter() {
        let [least, most] = SPIN;
        let mut spin = Spin::default();
        spin.slept(Duration::from_micros(60));
        assert_eq!(spin.0, least * 2);
        for _ in 0..10 {
            spin.slept(Duration::from_micros(60));
        }
        assert_eq!(spin.0, most);
        spin.slept(Duration::from_millis(1));
        assert_eq!(spin.0, most / 2);
        for _ in 0..10 {
            spin.slept(Duration::from_millis(1));
        }
        assert_eq!(spin.0, least);
    }
}
