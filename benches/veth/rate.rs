//! Packets a second: a generator that offers all it can, and what reaches the sink.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use msee::sys::clock;
use msee::sys::packet::{Interface, Sender, Socket, TransmitPath};

use crate::network::{Dut, Network, Testpmd, pin, within};
use crate::router::Running;
use crate::{frames, median};

const ROUNDS: usize = 5;
/// Not counted: caches, neighbours, the clock of the core.
const WARM_UP: Duration = Duration::from_millis(400);
const MEASURED: Duration = Duration::from_secs(2);
const BATCH: usize = 64;

/// Prints a table for each frame size.
pub fn measure(network: &Network) {
    for length in [60, 1_514] {
        let duts: Vec<_> = network.duts().collect();
        let mut rates = vec![Vec::new(); duts.len()];
        for round in 1..=ROUNDS {
            eprintln!("frames of {length} bytes: round {round} of {ROUNDS}");
            for (dut, rates) in duts.iter().zip(&mut rates) {
                rates.push(once(*dut, length));
            }
        }
        let medians: Vec<_> = rates.iter_mut().map(|rates| median(rates)).collect();
        let ours = duts.iter().zip(&medians).find(|(dut, _)| **dut == Dut::Msee);
        let ours = *ours.expect("ours is measured").1;
        println!(
            "\nFrames of {length} bytes and 4 of check sequence, Mpps: median, least, most of {ROUNDS}; ours / it"
        );
        for ((dut, rates), rate) in duts.iter().zip(&rates).zip(medians) {
            let (least, most) = (rates[0], rates[ROUNDS - 1]);
            let name = dut.name();
            println!("{name:40} {rate:6.3} {least:6.3} {most:6.3}  {:5.2}", ours / rate);
        }
        if !network.has_testpmd {
            println!(
                "DPDK testpmd is not installed (apt-get install dpdk-dev librte-net-af-packet23)"
            );
        }
    }
}

/// Millions of packets a second that reach the sink.
fn once(dut: Dut, length: usize) -> f64 {
    let frames = frames::of(dut, length);
    let _ours = (dut == Dut::Msee).then(Running::start);
    let _testpmd = (dut == Dut::Testpmd).then(Testpmd::start);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| within("gen", || generate(dut, &frames, &stop)));
        thread::sleep(WARM_UP);
        let (before, begun) = (received(dut), clock::monotonic());
        thread::sleep(MEASURED);
        let (after, ended) = (received(dut), clock::monotonic());
        stop.store(true, Ordering::Relaxed);
        (after - before) as f64 / ended.saturating_sub(begun).as_secs_f64() / 1e6
    })
}

fn generate(dut: Dut, frames: &[Vec<u8>], stop: &AtomicBool) {
    pin(0);
    let interface = Interface::by_name(&dut.generator()).expect("the interface is there");
    let socket = Socket::transmitting(&interface, TransmitPath::Driver).expect("it may send");
    let mut sender = Sender::new(BATCH);
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
        let batch = frames[at..at + BATCH].iter();
        // What a full queue does not take is offered again.
        let sent = sender.send(&socket, batch.map(Vec::as_slice));
        if sent.is_ok() {
            at = (at + BATCH) % frames.len();
        }
    }
}

/// Packets that the sink's interface has received.
fn received(dut: Dut) -> u64 {
    let text = within("sink", || fs::read_to_string("/proc/thread-self/net/dev"));
    let text = text.expect("every namespace has its table");
    let name = format!("{}:", dut.sink());
    let line = text.lines().find(|line| line.trim_start().starts_with(&name));
    let packets = line.and_then(|line| line.split_whitespace().nth(2));
    packets.and_then(|packets| packets.parse().ok()).expect("the interface has a row")
}
