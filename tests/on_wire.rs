//! The same drill in virtual time and by the host's clock over veth pairs: the same flows are hit, in
//! the same order of causes, for as long; and TCP of the kernel goes on after a blackhole. How much it gets
//! through, beside its model, is `scripts/bench-veth model`'s to say.

#[path = "support/skip.rs"]
mod skip;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const DRILL: &str = "tests/on_wire/blackhole.yaml";
const TCP_DRILL: &str = "tests/on_wire/tcp-rtt10.yaml";
/// What else a slow or busy host may add to an outage; in virtual time nothing does.
const SLACK_MS: f64 = 60.0;
/// How often a busy host has another chance.
const ATTEMPTS: u32 = 3;

#[test]
fn a_drill_says_the_same_on_real_frames() {
    let Some(wire) = undisturbed() else { return };
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

/// A report of real frames that a busy host has not spoiled. One that it has says so.
fn undisturbed() -> Option<Value> {
    for _ in 0..ATTEMPTS {
        let report = report(DRILL, &["--wire", "veth"])?;
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
fn report(drill: &str, arguments: &[&str]) -> Option<Value> {
    let drill = Path::new(env!("CARGO_MANIFEST_DIR")).join(drill);
    let mut command = Command::new(env!("CARGO_BIN_EXE_msee"));
    let Output { stdout, stderr, .. } =
        command.arg("drill").arg(drill).arg("--json").args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&stderr);
    if errors.contains("user namespaces") {
        skip::skipped(&format!("the drill on real frames: {errors}"));
        return None;
    }
    Some(serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {errors}")))
}
