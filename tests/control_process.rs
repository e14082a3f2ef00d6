//! The control processes of a lab on real frames: one can be killed, and nobody but its neighbours'
//! BGP notices.

#[path = "support/lab.rs"]
mod lab;
#[path = "support/skip.rs"]
mod skip;

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use lab::{RunningLab, eventually};

const SHORT_HOLD_TIME: &str = "
name: control
sites: [ { name: dc1, routers: [ { name: ce1, holdTime: 10s } ] } ]
";
/// In which half a message would be read, if it were.
const MOMENT: Duration = Duration::from_millis(100);
/// Of the flow, 10 ms apart: less than a dead control process stays away.
const PINGS: &str = "300";

#[test]
fn forwarding_and_bfd_outlive_a_control_process() {
    outlived("primary", "secondary", ["172.16.0.1", "172.16.0.2"], 1);
}

/// The router's worker is a thread that ends with each run, and what it starts does not end with it.
#[test]
fn the_same_of_a_router_that_is_not_the_first_worker_s() {
    outlived("secondary", "primary", ["172.16.0.5", "172.16.0.6"], 2);
}

/// Kills the control process of an MSEE, alone in the path, whose session with the site has these
/// addresses.
fn outlived(link: &str, other: &str, addresses: [&str; 2], workers: u8) {
    let Some(lab) = Lab::up(workers) else { return };
    let (msee, other) = (&*format!("ams/{link}"), format!("ams/{other}:nni"));
    // All packets through the one router.
    lab.act("cut", &other);
    eventually("the site is left to the one", || {
        let told = lab.ping("1");
        told.contains(" 0% packet loss").then_some(())
    });
    let before = lab.control();
    let victim = before[msee].as_i64().expect("it has a control process");
    kill(victim);
    eventually("its death is seen", || lab.control()[msee].is_null().then_some(()));
    let told = lab.ping(PINGS);
    assert!(told.contains(" 0% packet loss"), "{told}");
    assert!(lab.control()[msee].is_null(), "the flow ended before control was back");
    lab.act("restore", &other);

    let successor = eventually("control is back by itself", || lab.control()[msee].as_i64());
    assert_ne!(successor, victim);
    for (router, pid) in before.as_object().unwrap() {
        assert!(router == msee || lab.control()[router] == *pid, "{router} was left alone");
    }
    let rows = || lab.show("bgp");
    eventually("the session with the site is Established again", || {
        let rows = rows();
        let ends = rows.as_array().unwrap().iter().filter(|row| {
            let end = [&row["node"], &row["name"]].map(|name| name.as_str().unwrap_or_default());
            end == [msee, "ce1"] || end == ["ce1", msee]
        });
        let up: Vec<_> = ends.map(|row| is_number(&row["statePfxRcd"])).collect();
        (up == [true, true]).then_some(())
    });
    assert_eq!(lab.control()[msee].as_i64(), Some(successor), "it stays");
    let said = fs::read_to_string(lab.0.folder.join("said")).unwrap();
    let told: Vec<_> = said.lines().filter(|line| line.contains("bfd-down")).collect();
    let of_it = told.iter().filter(|line| addresses.iter().any(|address| line.contains(address)));
    assert_eq!(of_it.count(), 0, "BFD outlives control:\n{said}");
    assert!(said.contains("is gone"), "its death is told:\n{said}");

    let mut pids: Vec<_> = [before, lab.control()].iter().flat_map(pids).collect();
    pids.push(victim);
    drop(lab);
    eventually("nothing of them is left", || {
        let left = pids.iter().any(|pid| is_control_process(*pid));
        (!left).then_some(())
    });
}

#[test]
fn a_control_process_ends_with_its_socket() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_msee"))
        .args(["control-process", "lab/ce1"])
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .unwrap();
    // Half a message.
    ours.write_all(&[100, 0, 0, 0, 1]).unwrap();
    sleep(MOMENT);
    assert_eq!(child.try_wait().unwrap(), None);
    drop(ours);
    let status = eventually("it ends", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

/// Not a state: as Azure has it, an Established session shows its number of prefixes.
fn is_number(cell: &Value) -> bool {
    cell.as_str().is_some_and(|cell| cell.parse::<u64>().is_ok())
}

fn pids(control: &Value) -> Vec<i64> {
    control.as_object().unwrap().values().filter_map(Value::as_i64).collect()
}

/// A pid may have become another process's.
fn is_control_process(pid: i64) -> bool {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.contains("control-process")
}

fn kill(pid: i64) {
    let status = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// The lab, of an operator.
struct Lab(RunningLab);

impl Lab {
    /// None where the host allows no sandbox, or has no ping.
    fn up(workers: u8) -> Option<Self> {
        RunningLab::up(SHORT_HOLD_TIME, workers, &["ping"]).map(Self)
    }

    fn act(&self, event: &str, place: &str) {
        let output = self.0.msee(&["lab", "do", event, "--at", place]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn ping(&self, count: &str) -> String {
        let ping = ["ping", "-i", "0.01", "-W", "1", "-c", count, "10.1.0.4"];
        String::from_utf8_lossy(&self.0.exec("dc1.erp", &ping).stdout).into_owned()
    }

    fn show(&self, table: &str) -> Value {
        let output = self.0.msee(&["show", table, "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).expect("show prints JSON")
    }

    /// Control processes by their routers.
    fn control(&self) -> Value {
        let output = self.0.msee(&["lab", "list", "--json"]).output().unwrap();
        let list: Value = serde_json::from_slice(&output.stdout).expect("list prints JSON");
        list[0]["control"].clone()
    }
}
