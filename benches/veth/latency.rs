//! Added latency: one frame at a time from one end to the other, less what a bare veth pair takes.

use std::time::Duration;

use msee::sys::clock;
use msee::sys::packet::{Instruction, Interface, Receiver, Sender, Socket, TransmitPath};

use crate::network::{Dut, Network, Testpmd, pin, within};
use crate::router::Running;
use crate::{frames, median};

const FRAME: usize = 60;
const ROUNDS: usize = 5;
/// Frames a round.
const FRAMES: usize = 5_000;
/// After which a frame is lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// Accepts all (`BPF_RET | BPF_K`).
const ALL: Instruction = Instruction { code: 6, jump_true: 0, jump_false: 0, operand: 0x4_0000 };

/// Prints a table for each gap between frames: in the first no router sleeps, in the last those do
/// that may.
pub fn measure(network: &Network) {
    for (gap, what) in [
        (Duration::from_micros(8), "spinning"),
        (Duration::from_micros(100), "often enough that an adaptive loop spins"),
        (Duration::from_millis(1), "may sleep between"),
    ] {
        let duts: Vec<_> = network.duts().filter(|dut| *dut != Dut::KernelHtb).collect();
        let mut rows = vec![[const { Vec::new() }; 2]; duts.len()];
        for round in 1..=ROUNDS {
            eprintln!("latency, a frame each {gap:?}: round {round} of {ROUNDS}");
            for (dut, row) in duts.iter().zip(&mut rows) {
                let mut delays = once(*dut, gap);
                delays.sort_by(f64::total_cmp);
                let at = |share: f64| delays[(delays.len() as f64 * share) as usize];
                row[0].push(at(0.5));
                row[1].push(at(0.99));
            }
        }
        let figures: Vec<_> =
            rows.iter_mut().map(|row| row.each_mut().map(|values| median(values))).collect();
        let bare = figures[0][0];
        println!("\nOne frame of {FRAME} bytes each {gap:?} ({what}), µs: p50, p99; p50 added");
        for (dut, [p50, p99]) in duts.iter().zip(figures) {
            println!("{:40} {p50:7.2} {p99:7.2}  {:7.2}", dut.name(), p50 - bare);
        }
    }
}

/// Microseconds of each frame that arrived.
fn once(dut: Dut, gap: Duration) -> Vec<f64> {
    let frames = frames::of(dut, FRAME);
    let _ours = (dut == Dut::Msee).then(Running::start);
    let _testpmd = (dut == Dut::Testpmd).then(Testpmd::start);
    let out = within("gen", || {
        let interface = Interface::by_name(&dut.generator()).expect("the interface is there");
        Socket::transmitting(&interface, TransmitPath::Driver).expect("it may send")
    });
    let sink = within("sink", || {
        let interface = Interface::by_name(&dut.sink()).expect("the interface is there");
        Socket::receiving(&interface, &[ALL]).expect("it may receive")
    });
    // The caller goes on where it was.
    std::thread::scope(|scope| {
        let watch = || {
            pin(0);
            exchange(dut, [&out, &sink], &frames, gap)
        };
        scope.spawn(watch).join().expect("it does not panic")
    })
}

fn exchange(dut: Dut, [out, sink]: [&Socket; 2], frames: &[Vec<u8>], gap: Duration) -> Vec<f64> {
    let (mut sender, mut receiver) = (Sender::new(1), Receiver::new(8, 128, 2_048, 4_096));
    let mut delays = Vec::with_capacity(FRAMES);
    let mut next = clock::monotonic();
    for number in 0..FRAMES {
        while clock::monotonic() < next {
            std::hint::spin_loop();
        }
        while receiver.receive(sink, 8).is_ok_and(|count| count > 0) {}
        let begun = clock::monotonic();
        let bytes = &frames[number % frames.len()];
        let sent = sender.send(out, std::iter::once(&bytes[..]));
        assert_eq!(sent.expect("the wire takes one frame"), 1);
        loop {
            let arrived = receiver.receive(sink, 8).unwrap_or(0);
            let now = clock::monotonic();
            if arrived > 0 {
                delays.push(now.saturating_sub(begun).as_secs_f64() * 1e6);
                break;
            }
            if now.saturating_sub(begun) > PATIENCE {
                break;
            }
        }
        next = clock::monotonic() + gap;
    }
    let lost = FRAMES - delays.len();
    assert!(lost * 20 < FRAMES, "{}: {lost} of {FRAMES} did not arrive", dut.name());
    delays
}
