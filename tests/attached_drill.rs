//! `msee drill --wire veth` with a router of the user's own: a real FRR in a namespace of its own, which
//! nobody but its own configuration tells anything, behind interfaces of the host.

#[path = "support/isolated.rs"]
mod isolated;
#[path = "support/outside.rs"]
mod outside;
#[path = "support/skip.rs"]
mod skip;

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use msee::io::packet::AttachedPort;
use msee::io::{Frames, Port};
use msee::model::Instant;
use msee::sys::clock;
use serde_json::Value;

use isolated::{isolated, run};
use outside::{frr, has, pair, prepare};

const CLAB: &str = "fixtures/containerlab/lab.yaml";
const QUICKSTART: &str = "fixtures/labs/quickstart.yaml";
const FRR: &[&str] = &["/usr/lib/frr/bgpd", "/usr/bin/vtysh"];
const INSTALL_FRR: &str = "sudo apt-get install frr";

/// Both uplinks and the network behind it, one of them in another namespace.
const ATTACH: &str = "attach: [ { port: eth1, as: { interface: eth1 } }, \
     { port: eth2, as: { netns: other, name: to-ce1 } }, \
     { network: erp, as: { interface: eth3 } } ]";
const TRAFFIC: &str = "
traffic:
  - { name: erp, kind: probe, from: dc1.erp, to: hub.app, directions: both, flows: 32, rate: 1000pps, size: 128 }
  - { name: crm, kind: probe, from: dc1.crm, to: hub.app, directions: both, flows: 4, rate: 100pps, size: 128 }
";
/// BFD takes from two to three intervals of 300 ms (L-12).
const DETECTED_MS: std::ops::RangeInclusive<f64> = 540.0..=960.0;
/// After that FRR changes its kernel's routes, which takes it as long as it takes.
const REROUTED_MS: std::ops::RangeInclusive<f64> = 540.0..=2000.0;
/// How long a busy host has another chance.
const PATIENCE: Duration = Duration::from_secs(45);

#[test]
fn a_router_of_ones_own_is_drilled_unchanged() {
    isolated("a_router_of_ones_own_is_drilled_unchanged", || {
        if !has(FRR, INSTALL_FRR) {
            return;
        }
        vendor_router();
        // Gone with the namespaces, however the test ends.
        run("mount", "-t tmpfs none /mnt");
        let folder = Folder::inside(Path::new("/mnt"));
        let drill = write(
            &folder,
            ATTACH,
            "runs: 2
steps:
  - { step: baseline, for: 1s }
  - { step: loss, do: blackhole, at: ams/primary, direction: both, for: 3s }
  - { step: failback, do: restore, until: { stable: 2s }, within: 20s }
expect:
  - { that: path, of: erp, during: loss, through: ams/secondary }
  - { that: lost, of: erp, during: failback, max: 0 }
  - { that: back-to-baseline, during: failback, within: 20s, compare: [routes, paths, sessions] }
",
        );
        let Some(report) = undisturbed(|| folder.command(&["drill", &drill])) else { return };
        assert_eq!(report["wire"], "veth");
        assert_eq!(report["verdict"], "PASS with assumptions", "{:#}", report["expectations"]);
        assert_eq!(report["edges"][0]["kind"], "attach");
        let runs = report["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 2, "the second has the ports of the first");
        for run in runs {
            assert_eq!(run["conservation"]["held"], Value::Bool(true));
            for group in run["steps"][1]["groups"].as_array().unwrap() {
                let longest = group["outage_ms"]["max"].as_f64().unwrap();
                let window =
                    if group["direction"] == "to-azure" { REROUTED_MS } else { DETECTED_MS };
                assert!(group["name"] != "erp" || window.contains(&longest), "{group:#}");
            }
            // Both hosts of the network are on the router's one port.
            for flow in run["steps"][0]["flows"].as_array().unwrap() {
                assert_eq!(flow["sent"], flow["received"], "{flow}");
            }
        }
    });
}

/// Another msee in the place of the vendor's router, and UDP in that of wires: no privilege but user
/// namespaces. The built-in core behind the router is this msee's.
#[test]
fn a_router_on_udp_has_a_built_in_core_behind_it() {
    let folder = Folder::new();
    let free = [(); 6].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let at = free.each_ref().map(|socket| socket.local_addr().unwrap());
    drop(free);
    let udp = |i: usize| format!("udp: {{ listen: \"{}\", peer: \"{}\" }}", at[i], at[i + 1]);
    let base = fs::canonicalize(QUICKSTART).unwrap();
    let lab = |kind: &str| {
        format!(
            "extends: {}
name: on-udp
sites:
  - name: dc1
    routers:
      - {{ name: ce1, gatewayOf: [], {kind} }}
      - {{ name: core, gatewayOf: [erp], ibgp: [ce1] }}
virtualNetworks: [ {{ name: hub, convergence: ideal }} ]
",
            base.display()
        )
    };
    let attach = format!(
        "kind: attach, attach: [ {{ port: eth1, as: {{ {} }} }}, {{ port: eth2, as: {{ {} }} }}, \
         {{ router: core, as: {{ {} }} }} ]",
        udp(0),
        udp(2),
        udp(4)
    );
    folder.write("lab.yaml", &lab(&attach));
    let vendor = folder.write("vendor.yaml", &lab("kind: built-in"));
    let drill = folder.write(
        "drill.yaml",
        "lab: lab.yaml
traffic:
  - { name: erp, kind: probe, from: dc1.erp, to: hub.app, directions: both, flows: 16, rate: 400pps, size: 128 }
steps:
  - { step: baseline, for: 1s }
  - { step: down, do: maintenance, category: BgpDisconnect, at: ams/primary, until: { session: ams/primary, state: down }, within: 10s }
  - { step: failback, do: restore, until: { session: ams/primary, state: up }, within: 1m }
expect:
  - { that: lost, of: erp, during: always, max: 0 }
",
    );
    let port = |link: &str, i: usize| format!("{link}=udp:{},{}", at[i + 1], at[i]);
    let ports =
        [port("ams/primary:access", 0), port("ams/secondary:access", 2), port("ce1–core", 4)];
    let mut command = folder.command(&["run", &vendor, "--name", "vendor", "--node", "ce1"]);
    command.args(ports.iter().flat_map(|port| ["--port", port]));
    let _vendor = Vendor(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    let Some(report) = undisturbed(|| folder.command(&["drill", &drill])) else { return };
    assert_eq!(report["verdict"], "PASS with assumptions", "{:#}", report["expectations"]);
    assert_eq!(report["runs"][0]["conservation"]["held"], Value::Bool(true));
    for step in report["runs"][0]["steps"].as_array().unwrap() {
        assert_eq!(step["finished"], Value::Bool(true), "{}", step["step"]);
    }
}

/// Each run's time begins at 0.
#[test]
fn a_port_sees_its_interface_go_however_late_the_last_run_was() {
    isolated("a_port_sees_its_interface_go_however_late_the_last_run_was", || {
        prepare(&["ce1"]);
        pair("eth1", "ce1", "eth1");
        let mut port = AttachedPort::open("eth1").unwrap();
        let (mut frames, mut arrived) = (Frames::new(), Vec::new());
        port.receive(64, &mut arrived, &mut frames, Instant::ZERO + Duration::from_mins(1));
        run("ip", "link delete eth1");
        port.receive(64, &mut arrived, &mut frames, Instant::ZERO);
        assert!(!port.has_carrier());
    });
}

#[test]
fn what_cannot_be_done_to_it_is_refused_before_the_first_run() {
    let folder = Folder::new();
    let lab = fs::canonicalize("fixtures/config/attached.yaml").unwrap();
    let drill = |steps: &str| {
        let text = format!("lab: {}\nsteps:\n  - {{ step: one, for: 1s }}\n{steps}", lab.display());
        folder.write("drill.yaml", &text)
    };
    let refused = |file: &str, rest: &[&str]| {
        let output = folder.command(&[&["drill", file], rest].concat()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        told
    };
    let file = drill("");
    let told = refused(&file, &[]);
    assert!(told.contains("ce1 is `kind: attach`") && told.contains("--wire veth"), "{told}");
    let told = refused(&file, &["--wire", "veth"]);
    assert!(told.contains("ams/primary:access: there is no interface msee-1"), "{told}");
    let acts = [
        "do: bgp-shutdown, at: ams/primary",
        "do: bfd-disable, at: ams/primary",
        "do: announce, at: ce1, prefix: 192.168.9.0/24",
        "do: router-crash, at: ce1",
        "do: replace-device, at: ce1, mac: new, gratuitousArp: true",
    ];
    for act in acts {
        let told =
            refused(&drill(&format!("  - {{ step: two, for: 1s, {act} }}\n")), &["--wire", "veth"]);
        let place = "drill.yaml:4:31: steps[1].do: ce1 is a router of your own";
        assert!(told.contains(place), "{act}: {told}");
        assert!(told.contains("allowed: what is done around it: cut, blackhole"), "{told}");
    }
    for act in ["do: bgp-reset, at: ams/primary", "do: router-crash, at: ams/primary"] {
        let told =
            refused(&drill(&format!("  - {{ step: two, for: 1s, {act} }}\n")), &["--wire", "veth"]);
        assert!(told.contains("there is no interface msee-1"), "{act}: {told}");
    }
}

/// FRR as a customer runs it, with two hosts' worth of LAN on its third interface.
fn vendor_router() {
    prepare(&["ce1", "other"]);
    pair("eth1", "ce1", "eth1");
    pair("far", "ce1", "eth2");
    run("ip", "link set far netns other name to-ce1 up");
    pair("eth3", "ce1", "eth3");
    run("ip", "-n ce1 addr add 192.168.0.254/22 dev eth3");
    // Flows of a pair of hosts take both links.
    run("ip", "netns exec ce1 sysctl -qw net.ipv4.fib_multipath_hash_policy=1");
    frr("ce1", Path::new("fixtures/containerlab/frr"));
}

/// A drill of the lab of FRR's containers whose router is attached so.
fn write(folder: &Folder, attach: &str, rest: &str) -> String {
    let base = fs::canonicalize(CLAB).unwrap();
    let hosts =
        "hosts: [ { name: erp, address: 192.168.0.10 }, { name: crm, address: 192.168.0.11 } ]";
    let lab = format!(
        "extends: {}
name: attached
sites:
  - name: dc1
    networks: [ {{ name: erp, gateway: 192.168.0.254, {hosts} }} ]
    routers: [ {{ name: ce1, {attach} }} ]
virtualNetworks: [ {{ name: hub, convergence: ideal }} ]
",
        base.display()
    );
    folder.write("lab.yaml", &lab);
    folder.write("drill.yaml", &format!("lab: lab.yaml\n{TRAFFIC}{rest}"))
}

/// A folder of a test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self::inside(&std::env::temp_dir())
    }

    fn inside(folder: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("msee-attached-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msee"));
        command.args(arguments).env("XDG_RUNTIME_DIR", &self.0);
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The process in the vendor's place, which ends with the test.
struct Vendor(Child);

impl Drop for Vendor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A report of real frames that a busy host has not spoiled. One that it has says so.
fn undisturbed(drill: impl Fn() -> Command) -> Option<Value> {
    let end = clock::monotonic() + PATIENCE;
    while clock::monotonic() < end {
        let mut command = drill();
        let output = command.args(["--wire", "veth", "--json"]).output();
        let Output { stdout, stderr, .. } = output.unwrap();
        let errors = String::from_utf8_lossy(&stderr);
        if errors.contains("user namespaces") {
            skip::skipped(&format!("a drill with a router of one's own: {errors}"));
            return None;
        }
        let report: Value =
            serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
        let disturbed = |run: &Value| run["host"]["disturbed"] == Value::Bool(true);
        if !report["runs"].as_array().unwrap().iter().any(disturbed) {
            return Some(report);
        }
        assert_eq!(report["verdict"], "INVALID", "{report:#}");
    }
    skip::skipped("a drill with a router of one's own: the host was too busy each time");
    None
}
