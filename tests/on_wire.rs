//! The same drill in virtual time and by the host's clock over veth pairs: the same flows are hit, in
//! the same order of causes, for as long; and TCP of the kernel goes on after a blackhole. How much it gets
//! through, beside its model, is `scripts/bench-veth model`'s to say.

#[path = "support/skip.rs"]
mod skip;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::{self, sleep};
use std::time::Duration;

use msee::sys::clock;
use serde_json::Value;

const DRILL: &str = "tests/on_wire/blackhole.yaml";
const TCP_DRILL: &str = "tests/on_wire/tcp-rtt10.yaml";
const PEER_DRILL: &str = "tests/on_wire/peer.yaml";
/// What else a slow or busy host may add to an outage; in virtual time nothing does.
const SLACK_MS: f64 = 60.0;
/// How often a busy host has another chance.
const ATTEMPTS: u32 = 3;
/// Between two looks at a drill that runs.
const LOOK: Duration = Duration::from_millis(20);
/// A lab with FRR is up in less, and a step of the drill is longer.
const BETWEEN_STOPS: Duration = Duration::from_secs(9);

#[test]
fn a_drill_says_the_same_on_real_frames() {
    says_the_same(1);
}

/// The primary MSEE with the gateways and VNets, the secondary, and the customer's side: links lead
/// from each to the others.
#[test]
fn a_drill_says_the_same_on_three_workers() {
    says_the_same(3);
}

fn says_the_same(workers: u32) {
    let Some(wire) = undisturbed(workers) else { return };
    let model = report(DRILL, &[]).expect("virtual time needs nothing");
    assert_eq!(wire["wire"], "veth");
    assert_eq!(wire["verdict"], "PASS with assumptions", "{:#}", wire["expectations"]);
    assert_eq!(wire["runs"][0]["conservation"]["held"], Value::Bool(true));
    for step in 0..3 {
        let steps = [&wire, &model].map(|report| &report["runs"][0]["steps"][step]);
        assert_eq!(hit(steps[0]), hit(steps[1]), "flows hit in step {step}");
        assert_eq!(causes(steps[0]), causes(steps[1]), "causes in step {step}");
    }
    let longest = |report: &Value| {
        let groups = report["runs"][0]["steps"][1]["groups"].as_array().unwrap();
        let longest = groups.iter().map(|group| group["outage_ms"]["max"].as_f64().unwrap());
        longest.fold(0.0, f64::max)
    };
    // Detection takes from two to three intervals of 300 ms, whatever the phase (L-12).
    for outage in [longest(&wire), longest(&model)] {
        assert!((540.0..=900.0 + SLACK_MS).contains(&outage), "{outage} ms");
    }
}

/// However busy the host is: every byte is checked where it arrives, and nothing is reset.
#[test]
fn tcp_of_linux_goes_on_after_a_blackhole() {
    let Some(wire) = report(TCP_DRILL, &["--wire", "veth"]) else { return };
    let run = &wire["runs"][0];
    assert_eq!(run["conservation"]["held"], Value::Bool(true));
    for step in 1..4 {
        for flow in run["steps"][step]["tcp"].as_array().unwrap() {
            assert_eq!(flow["resets"], 0, "{flow}");
            assert!(flow["goodput_bps"].as_f64().unwrap() > 0.0 || step == 2, "{flow}");
        }
    }
    for flow in run["steps"][2]["tcp"].as_array().unwrap() {
        assert!(flow["longest_stall_ms"].as_f64().unwrap() >= 900.0, "{flow}");
    }
}

/// For so long that BFD gives it up.
#[test]
fn a_peer_that_the_host_stops_makes_a_failure_invalid() {
    let Some(report) = with_stopped_bfdd(Duration::from_secs(2)) else { return };
    assert_eq!(report["expectations"][0]["held"], Value::Bool(false), "packets were lost");
}

/// For so long that BFD does not: one of the packets due in the first 200 ms is 300 ms late.
#[test]
fn a_peer_that_the_host_stops_for_less_than_bfd_bears_is_found() {
    with_stopped_bfdd(Duration::from_millis(500));
}

/// A drill in which nothing happens but that FRR's bfdd is stopped now and then, as by a host that has no
/// core for it: its report, which is of nobody's failure.
fn with_stopped_bfdd(stop: Duration) -> Option<Value> {
    if !Path::new("/usr/lib/frr/bfdd").exists() {
        skip::skipped("a stopped peer: no /usr/lib/frr/bfdd: sudo apt-get install frr");
        return None;
    }
    let report = stop_bfdd_in_drill(stop)?;
    assert_eq!(report["verdict"], "INVALID", "{report:#}");
    let run = &report["runs"][0];
    if !run["not_started"].is_null() {
        skip::skipped("a stopped peer: on a busy host the lab did not come up beside it");
        return None;
    }
    let host = &run["host"];
    assert!(host["late_peer"].as_str().unwrap().starts_with("ce1 (172.16.0."), "{host}");
    // A third of 300 ms × 3 (L-12).
    assert!(host["peer_gap_ms"].as_f64().unwrap() > 300.0, "{host}");
    Some(report)
}

fn stop_bfdd_in_drill(stop: Duration) -> Option<Value> {
    let mut drill = drill(PEER_DRILL, &["--wire", "veth"]);
    let child = drill.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let said = thread::spawn(move || child.wait_with_output().unwrap());
    let mut next = None;
    while !said.is_finished() {
        sleep(LOOK);
        let Some(bfdd) = descendant(pid, "bfdd") else { continue };
        let now = clock::monotonic();
        // The lab comes up before.
        if now >= *next.get_or_insert(now + BETWEEN_STOPS) {
            signal("STOP", bfdd);
            sleep(stop);
            signal("CONT", bfdd);
            next = None;
        }
    }
    read(&said.join().unwrap())
}

/// A process of that name below another; none while there is none.
fn descendant(of: u32, name: &str) -> Option<u32> {
    let threads = fs::read_dir(format!("/proc/{of}/task")).ok()?.flatten();
    let children = threads.flat_map(|thread| fs::read_to_string(thread.path().join("children")));
    let children = children.collect::<Vec<_>>().join(" ");
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find_map(|pid: u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        let is_it = comm.is_ok_and(|comm| comm.trim() == name);
        if is_it { Some(pid) } else { descendant(pid, name) }
    })
}

fn signal(name: &str, pid: u32) {
    // It may have ended.
    let _ = Command::new("kill").args(["-s", name, &pid.to_string()]).status();
}

/// A report of real frames that a busy host has not spoiled. One that it has says so.
fn undisturbed(workers: u32) -> Option<Value> {
    for _ in 0..ATTEMPTS {
        let workers = workers.to_string();
        let report = report(DRILL, &["--wire", "veth", "--workers", &workers])?;
        let host = &report["runs"][0]["host"];
        if host["disturbed"] == Value::Bool(false) {
            return Some(report);
        }
        assert_eq!(report["verdict"], "INVALID", "{host}");
    }
    skip::skipped("the drill on real frames: the host was too busy each time");
    None
}

/// Flows that lost anything in a step.
fn hit(step: &Value) -> Vec<String> {
    let flows = step["flows"].as_array().unwrap().iter();
    let hit = flows.filter(|flow| flow["sent"] != flow["received"]);
    hit.map(|flow| format!("{} {} {}", flow["name"], flow["flow"], flow["direction"])).collect()
}

/// The first of each kind of cause that a fault has, in order. The first packet on another path waits
/// for the groups alone: whether control has withdrawn the routes by then is chance.
fn causes(step: &Value) -> Vec<String> {
    let mut seen = Vec::new();
    for cause in step["causes"].as_array().unwrap() {
        let kind = cause["kind"].as_str().unwrap().to_owned();
        if kind != "first-packet" && !seen.contains(&kind) {
            seen.push(kind);
        }
    }
    seen
}

/// `report.json` of a drill; none where the host allows no sandbox.
fn report(file: &str, arguments: &[&str]) -> Option<Value> {
    read(&drill(file, arguments).output().unwrap())
}

fn drill(file: &str, arguments: &[&str]) -> Command {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let mut command = Command::new(env!("CARGO_BIN_EXE_msee"));
    command.arg("drill").arg(file).arg("--json").args(arguments);
    command
}

fn read(said: &Output) -> Option<Value> {
    let errors = String::from_utf8_lossy(&said.stderr);
    if errors.contains("user namespaces") {
        skip::skipped(&format!("the drill on real frames: {errors}"));
        return None;
    }
    let report = serde_json::from_slice(&said.stdout);
    Some(report.unwrap_or_else(|error| panic!("{error}: {errors}")))
}
