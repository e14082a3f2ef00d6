//! A lab on real frames with real programs in its hosts: what ping, traceroute and iperf3 see of it.

#[path = "support/skip.rs"]
mod skip;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

const LAB: &str = "fixtures/labs/quickstart.yaml";
/// Of the quick-start lab's circuit.
const CIRCUIT_BPS: f64 = 1e9;
/// Between two looks at something that takes a moment, and how many there are.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS: u32 = 300;

#[test]
fn the_path_looks_from_its_hosts_as_azure_s_does() {
    let Some(lab) = Lab::up(&["ping", "traceroute"]) else { return };
    let ping = |arguments: &[&str]| {
        let output = lab.exec("dc1.erp", "ping", arguments);
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
    let output = lab.exec("dc1.erp", "traceroute", &["-n", "-q", "1", "-w", "1", "10.1.0.4"]);
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
    let Some(lab) = Lab::up(&["iperf3"]) else { return };
    let mut server = lab.command("hub.app", "iperf3", &["-s"]);
    let mut server = server.stdout(Stdio::null()).spawn().unwrap();
    let report = eventually("iperf3 measures", || {
        let arguments = ["-c", "10.1.0.4", "-R", "-t", "3", "-O", "1", "--json"];
        let output = lab.exec("dc1.erp", "iperf3", &arguments);
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

/// A lab that runs, with a runtime folder of its own.
struct Lab {
    folder: PathBuf,
    child: Child,
}

impl Lab {
    /// None where the host has no `programs` or allows no sandbox.
    fn up(programs: &[&str]) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        for program in programs {
            if Command::new(program).arg("--version").output().is_err() {
                skip::skipped(&format!("labs on real frames: {program} is not installed"));
                return None;
            }
        }
        let own = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("msee-lab-up-{}-{}", own.0, own.1));
        fs::create_dir(&folder).unwrap();
        let child = msee(&folder).args(["lab", "up", LAB]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lab = Self { folder, child };
        let is_up = eventually("the lab comes up", || {
            if lab.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            lab.exec("hub.app", "true", &[]).status.success().then_some(true)
        });
        if is_up {
            return Some(lab);
        }
        let stderr = lab.child.stderr.take().expect("it was piped");
        let told = std::io::read_to_string(stderr).unwrap();
        assert!(told.contains("user namespaces"), "{told}");
        skip::skipped(&format!("labs on real frames: {told}"));
        None
    }

    fn command(&self, node: &str, program: &str, arguments: &[&str]) -> Command {
        let mut command = msee(&self.folder);
        command.args(["lab", "exec", node, "--", program]).args(arguments);
        command
    }

    fn exec(&self, node: &str, program: &str, arguments: &[&str]) -> Output {
        self.command(node, program, arguments).output().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Whatever is left of the lab dies with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn msee(runtime: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_msee"));
    command.env("XDG_RUNTIME_DIR", runtime);
    command
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(seen) = look() {
            return seen;
        }
        sleep(LOOK);
    }
    panic!("{what}: never");
}
