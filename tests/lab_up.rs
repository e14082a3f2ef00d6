//! A lab on real frames with real programs in its hosts: what ping, traceroute and iperf3 see of it.

#[path = "support/lab.rs"]
mod lab;
#[path = "support/skip.rs"]
mod skip;

use std::process::Stdio;

use serde_json::Value;

use lab::{RunningLab, eventually};

/// Of the quick-start lab's circuit.
const CIRCUIT_BPS: f64 = 1e9;

#[test]
fn the_path_looks_from_its_hosts_as_azure_s_does() {
    let Some(lab) = RunningLab::up("", 1, &["ping", "traceroute"]) else { return };
    let ping = |arguments: &[&str]| {
        let output = lab.exec("dc1.erp", &[&["ping"], arguments].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let told = ping(&["-c", "10", "-i", "0.05", "10.1.0.4"]);
    assert!(told.contains(" 0% packet loss"), "{told}");
    // F-77: 1,400 bytes reach a VM, more do not, and are not cut into pieces.
    let told = ping(&["-c", "2", "-M", "do", "-s", "1372", "10.1.0.4"]);
    assert!(told.contains(" 0% packet loss"), "{told}");
    let told = ping(&["-c", "2", "-M", "do", "-s", "1472", "-W", "1", "10.1.0.4"]);
    assert!(told.contains(" 100% packet loss"), "{told}");
    // F-78: an MSEE answers, a gateway does not.
    let output = lab.exec("dc1.erp", &["traceroute", "-n", "-q", "1", "-w", "1", "10.1.0.4"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let hops: Vec<&str> =
        told.lines().skip(1).filter_map(|l| l.split_whitespace().nth(1)).collect();
    assert_eq!(hops.first(), Some(&"192.168.0.1"), "the site's edge\n{told}");
    assert!(matches!(hops.get(1), Some(&("172.16.0.2" | "172.16.0.6"))), "an MSEE\n{told}");
    assert_eq!(hops.get(2), Some(&"*"), "a gateway\n{told}");
    assert_eq!(hops.last(), Some(&"10.1.0.4"), "{told}");
}

#[test]
fn tcp_of_real_hosts_gets_the_circuit_and_no_more() {
    let Some(lab) = RunningLab::up("", 1, &["iperf3"]) else { return };
    let mut server = lab.msee(&["lab", "exec", "hub.app", "--", "iperf3", "-s"]);
    let mut server = server.stdout(Stdio::null()).spawn().unwrap();
    let report = eventually("iperf3 measures", || {
        let client = ["iperf3", "-c", "10.1.0.4", "-R", "-t", "3", "-O", "1", "--json"];
        let output = lab.exec("dc1.erp", &client);
        let report: Value = serde_json::from_slice(&output.stdout).ok()?;
        report["end"]["sum_received"]["bits_per_second"].as_f64().map(|bps| (bps, report))
    });
    server.kill().unwrap();
    server.wait().unwrap();
    let (bps, report) = report;
    // One connection is on one link. What a bucket holds at the beginning may come on top.
    assert!(bps <= CIRCUIT_BPS * 1.01, "{bps} bit/s");
    assert!(bps > CIRCUIT_BPS / 20.0, "{bps} bit/s: {:#}", report["end"]);
}
