//! What runs on real frames, beside the kernel and DPDK, in one run: `scripts/bench-veth`. One router
//! between two veth pairs (`rate`, `latency`), whole labs (`tcp`, `udp`), and Linux's TCP in drills beside
//! its model (`model`). And forwarding on two threads,
//! with ports in memory (`workers`). `cargo bench --bench veth -- rate` for one part.
//!
//! ```text
//! namespace `gen`   g ══ d  router under test  e ══ s   namespace `sink`
//! core 0: sends                core 1                   counts what its interface received
//! ```
//!
//! The receiving half of a veth hop runs on the core of the sender, so the kernel's own forwarding has
//! one core and every other router two. All start from the same frames; ours takes two tags off and
//! looks up one of 4,000 routes besides.

mod circuits;
mod frames;
mod latency;
mod model;
mod network;
mod rate;
mod router;
mod workers;

use std::process::Command;

use network::Network;

const MSEE: &str = env!("CARGO_BIN_EXE_msee");
/// Set in the process that runs in its own namespaces.
const INSIDE: &str = "MSEE_BENCH_NAMESPACES";

fn main() {
    if std::env::var_os(INSIDE).is_none() {
        let status = Command::new("unshare")
            .args(["-Urnmp", "--fork", "--kill-child", "--mount-proc"])
            .arg(std::env::current_exe().expect("this program has a path"))
            .args(std::env::args().skip(1))
            .env(INSIDE, "1")
            .status();
        let status = status.expect("`unshare` (util-linux) is installed");
        std::process::exit(status.code().unwrap_or(1));
    }
    let network = Network::new();
    let asked = |part: &str| std::env::args().skip(1).all(|word| word == "--bench" || word == part);
    if asked("rate") {
        rate::measure(&network);
    }
    if asked("latency") {
        latency::measure(&network);
    }
    if asked("tcp") {
        circuits::tcp();
    }
    if asked("udp") {
        circuits::udp();
    }
    if asked("model") {
        model::compare();
    }
    if asked("workers") {
        workers::measure();
    }
}

/// The middle one.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
