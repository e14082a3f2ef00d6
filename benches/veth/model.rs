//! TCP of Linux in drills on veth pairs beside the model that stands for it in virtual time: goodput of a
//! flow through a policed circuit, and its longest stall across a blackhole.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{MSEE, median};

const DRILLS: [&str; 3] = ["tcp-rtt1", "tcp-rtt10", "tcp-rtt30"];
const RUNS: usize = 5;

/// Prints a row for each flow. A run that the host disturbed does not count.
pub fn compare() {
    println!("\nTCP: model, Linux (medians of {RUNS} runs), Linux / model");
    println!("{:12} {:^26}  {:^26}  {:^14}", "", "goodput, Mbps", "longest stall, ms", "RTT, ms");
    for drill in DRILLS {
        eprintln!("{drill}: {RUNS} runs of a quarter of a minute");
        let model = report(drill, &[]);
        let linux = report(drill, &["--wire", "veth", "--runs", &RUNS.to_string()]);
        let model = figures(&model["runs"][0]);
        let runs = linux["runs"].as_array().expect("a report has runs").iter();
        let sound = runs.filter(|run| run["host"]["disturbed"] == Value::Bool(false));
        let linux: Vec<_> = sound.map(figures).collect();
        if linux.is_empty() {
            println!("{drill}: the host disturbed every run");
            continue;
        }
        for (flow, (name, model)) in model.iter().enumerate() {
            let of = |figure: usize| {
                let mut values: Vec<_> = linux.iter().map(|run| run[flow].1[figure]).collect();
                median(&mut values)
            };
            let [goodput, stall, rtt] = [of(0), of(1), of(2)];
            println!(
                "{name:12} {:8.1} {goodput:8.1} {:8.3}  {:8.0} {stall:8.0} {:8.3}  {:6.2} {rtt:6.2}",
                model[0],
                goodput / model[0],
                model[1],
                stall / model[1],
                model[2],
            );
        }
    }
}

/// Of each flow: Mbps before the blackhole, milliseconds of the longest stall across it, round trip before
/// it in milliseconds.
fn figures(run: &Value) -> Vec<(String, [f64; 3])> {
    let flows =
        |step: usize| run["steps"][step]["tcp"].as_array().expect("the drill has TCP").iter();
    let number = |value: &Value| value.as_f64().expect("a flow that ran has figures");
    let figures = flows(1).zip(flows(2)).map(|(before, across)| {
        let name = before["name"].as_str().expect("a flow has a name").to_owned();
        let goodput = number(&before["goodput_bps"]) / 1e6;
        let rtt = number(&before["rtt_us"]["p50"]) / 1e3;
        (name, [goodput, number(&across["longest_stall_ms"]), rtt])
    });
    figures.collect()
}

fn report(drill: &str, arguments: &[&str]) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/on_wire");
    let file = folder.join(drill).with_extension("yaml");
    let mut msee = Command::new(MSEE);
    let output = msee.arg("drill").arg(file).arg("--json").args(arguments).output();
    let output = output.expect("msee was built with this");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{drill}: {output:?}"))
}
