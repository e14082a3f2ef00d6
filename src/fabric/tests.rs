//! Links with faults, between two endpoints that count.

use std::collections::VecDeque;
use std::time::Duration;

use crate::fabric::{
    Direction, Endpoint, Fault, Impairment, LinkConfig, LinkIndex, NodeIndex, Observer, VirtualTime,
};
use crate::io::{Frame, Frames};
use crate::model::{Bandwidth, Instant, PortIndex};
use crate::router::{DropReason, Ledger};

const FRAMES: u64 = 100;
const BYTES: usize = 976;
const DELAY: Duration = Duration::from_millis(1);
/// With 24 bytes of overhead a frame takes 100 ms.
const SLOW: Bandwidth = Bandwidth::from_bps(80_000);

/// Whose faults they are.
const OWNER: &str = "test";

#[test]
fn what_a_slow_rate_held_back_goes_on_at_once_when_it_is_mended() {
    let (mut fabric, link) = pair(None);
    impair(&mut fabric, link);
    fabric.run_until(Instant::from_millis(1050), &mut Nobody);
    assert_eq!(received(&fabric), 10);
    fabric.mend_link(link, OWNER);
    fabric.run_until(fabric.now() + DELAY, &mut Nobody);
    assert_eq!(received(&fabric), FRAMES);
    assert!(fabric.totals().held);
}

#[test]
fn a_mended_link_keeps_its_own_rate() {
    let (mut fabric, link) = pair(Some(Bandwidth::from_bps(800_000)));
    impair(&mut fabric, link);
    fabric.run_until(Instant::from_millis(1050), &mut Nobody);
    fabric.mend_link(link, OWNER);
    fabric.run_until(fabric.now() + DELAY + Duration::from_millis(205), &mut Nobody);
    assert_eq!(received(&fabric), 10 + 20);
}

#[test]
fn who_shares_a_link_mends_its_own_faults_only() {
    let (mut fabric, link) = pair(None);
    fabric.break_link(link, &Direction::BOTH, Fault::Cut, "another");
    fabric.break_link(link, &Direction::BOTH, Fault::Cut, OWNER);
    fabric.mend_link(link, OWNER);
    fabric.run_until(Instant::from_secs(1), &mut Nobody);
    assert_eq!(received(&fabric), 0);
}

#[test]
fn a_cut_loses_what_is_on_the_way_though_it_is_mended_at_once() {
    let (mut fabric, link) = pair(None);
    impair(&mut fabric, link);
    fabric.run_until(Instant::from_millis(1050), &mut Nobody);
    fabric.break_link(link, &Direction::BOTH, Fault::Cut, OWNER);
    fabric.mend_link(link, OWNER);
    fabric.run_until(Instant::from_secs(60), &mut Nobody);
    let totals = fabric.totals();
    assert_eq!(received(&fabric), 10);
    assert_eq!(totals.sum.dropped[DropReason::LinkDown as usize], FRAMES - 10);
    assert!(totals.held);
    assert_eq!(fabric.frames_in_use(), 0);
}

/// Sends all its frames at zero, and counts what it gets.
#[derive(Debug, Default)]
struct Counter {
    unsent: u64,
    outbox: VecDeque<Frame>,
    ledger: Ledger,
}

impl Endpoint for Counter {
    fn receive(&mut self, frame: Frame, frames: &mut Frames, _: Instant) {
        self.ledger.received += 1;
        self.ledger.consumed += 1;
        frames.free(frame);
    }

    fn handle_timeout(&mut self, _: Instant, frames: &mut Frames) {
        for _ in 0..std::mem::take(&mut self.unsent) {
            self.outbox.extend(frames.allocate_from(&[0; BYTES]));
            self.ledger.originated += 1;
        }
    }

    fn poll_timeout(&self) -> Instant {
        if self.unsent > 0 { Instant::ZERO } else { Instant::NEVER }
    }

    fn poll_transmit(&mut self) -> Option<Frame> {
        let frame = self.outbox.pop_front()?;
        self.ledger.transmitted += 1;
        Some(frame)
    }

    fn ledger(&self) -> Ledger {
        Ledger { queued: self.outbox.len() as u64, ..self.ledger.clone() }
    }
}

fn pair(rate: Option<Bandwidth>) -> (VirtualTime<Counter>, LinkIndex) {
    let mut fabric = VirtualTime::new(1);
    let source = fabric.add_endpoint(Counter { unsent: FRAMES, ..Counter::default() });
    let sink = fabric.add_endpoint(Counter::default());
    let config = LinkConfig {
        name: "link".into(),
        rate,
        delay: DELAY,
        jitter: Duration::ZERO,
        loss_ppm: 0,
        shows_carrier: [true; 2],
        follows: Vec::new(),
    };
    let link = fabric.add_link(config, [(source, PortIndex(0)), (sink, PortIndex(0))]);
    (fabric, link)
}

fn impair(fabric: &mut VirtualTime<Counter>, link: LinkIndex) {
    let slow = Impairment { rate: Some(SLOW), ..Impairment::default() };
    fabric.break_link(link, &Direction::BOTH, Fault::Impair(slow), OWNER);
}

fn received(fabric: &VirtualTime<Counter>) -> u64 {
    fabric.ledger(NodeIndex(1)).received
}

struct Nobody;

impl Observer for Nobody {
    fn frame(&mut self, _: LinkIndex, _: Direction, _: &[u8], _: Instant) {}
}
