//! `msee run` on interfaces and UDP, in namespaces as containers have them: real FRR and BIRD, or
//! another `msee run`, at the other ends.

#[path = "support/isolated.rs"]
mod isolated;
#[path = "support/outside.rs"]
mod outside;
// What a relay saw is for other tests.
#[allow(dead_code)]
#[path = "support/relay.rs"]
mod relay;
#[path = "support/skip.rs"]
mod skip;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use msee::io::packet::Mode;
use msee::io::{Frame, Frames, Port};
use msee::wire::vlan;
use serde_json::Value;

use isolated::{isolated, run};
use outside::{frr, has, pair, prepare};
use relay::{Relay, Way, now, open};

const CLAB: &str = "fixtures/containerlab/lab.yaml";
const QUICKSTART: &str = "fixtures/labs/quickstart.yaml";
const NOBODY: u32 = 65534;
/// Between two looks at something that takes a moment, and after how many of them it is taken not
/// to happen.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 1200;

/// What `fixtures/containerlab/README.md` says of FRR, with the files its topology mounts.
#[test]
fn frr_in_another_container_comes_up_and_reaches_the_vnet() {
    isolated("frr_in_another_container_comes_up_and_reaches_the_vnet", || {
        if !has(&["/usr/lib/frr/bgpd", "/usr/bin/vtysh"], "sudo apt-get install frr") {
            return;
        }
        prepare(&["ce1", "app"]);
        pair("eth1", "ce1", "eth1");
        pair("eth2", "ce1", "eth2");
        pair("eth3", "app", "eth1");
        run("ip", "-n ce1 addr add 192.168.0.1/32 dev lo");
        run("ip", "-n app addr add 10.1.0.4/16 dev eth1");
        run("ip", "-n app route add default via 10.1.0.1");
        frr("ce1", Path::new("fixtures/containerlab/frr"));
        let msee = Msee::run(&[CLAB, "--port", "hub.app=eth3", "--health", "/run/health"]);
        msee.says("ams/primary:access is on interface eth1");
        msee.is_healthy();
        eventually("FRR reaches a VM", || ping("ce1", "-I 192.168.0.1 10.1.0.4"));
        let routes = said("ip", "-n ce1 route show 10.1.0.0/16");
        assert!(routes.contains("172.16.0.2") && routes.contains("172.16.0.6"), "{routes}");
        // Opened before, given up since.
        let status = fs::read_to_string(format!("/proc/{}/status", msee.child.id())).unwrap();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{set}: {status}");
        }
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
        // As labs are reached.
        let list = ask(&["lab", "list"]).unwrap();
        assert!(list.contains("clab"), "{list}");
        let sessions = ask(&["show", "clab", "bgp"]).unwrap();
        assert!(sessions.contains("172.16.0.1") && sessions.contains("172.16.0.5"), "{sessions}");
        let refused = ask(&["lab", "do", "bgp-shutdown", "--at", "ams/primary"]).unwrap_err();
        assert!(refused.contains("ce1 runs outside msee"), "{refused}");
        // Sessions end with a word, and nothing stays behind.
        let msee = msee.end();
        assert!(!Path::new("/run/health").exists());
        assert_eq!(fs::read_dir("/run/msee").unwrap().count(), 0);
        assert!(msee.contains("bgp-down"), "{msee}");
        // FRR forgets why as soon as BFD is down as well; its log does not.
        let log = || fs::read_to_string("/run/frr/bgpd.log").unwrap();
        let told = |words: &str| log().matches(words).count();
        let both =
            || told("(Cease/Administrative Shutdown)") + told("(Cease/Administratively Shutdown");
        eventually("FRR is told", || (both() >= 2).then_some(()));
    });
}

#[test]
fn an_interface_that_goes_and_comes_again_is_the_same_port() {
    isolated("an_interface_that_goes_and_comes_again_is_the_same_port", || {
        if !has(&["/usr/sbin/bird"], "sudo apt-get install bird2") {
            return;
        }
        prepare(&["ce1"]);
        // The one capability it takes, as a container or a unit gives it.
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-all,+net_raw", "--inh-caps", "-all"]);
        command.args([env!("CARGO_BIN_EXE_msee"), "run", CLAB, "--await-ports", "60"]);
        command.args(["--health", "/run/health"]).env("XDG_RUNTIME_DIR", "/run");
        let msee = Msee::start(command, "/run/said".into(), "/run/health".into());
        msee.says("waiting for interface eth1");
        assert!(!Path::new("/run/health").exists());
        pair("eth2", "ce1", "eth2");
        pair("eth1", "ce1", "eth1");
        addressed("eth1", "172.16.0.1/30");
        addressed("eth2", "172.16.0.5/30");
        bird("ce1");
        msee.is_healthy();
        // Without BFD only the hold timer would tell the MSEE.
        msee.says("ams/primary: bfd-up");
        run("ip", "link delete eth1");
        msee.says("Equinix Amsterdam: carrier-down uni:ams/primary");
        eventually("it says what is missing", || {
            let health = msee.health()?;
            let missing = health["sessions"]["missing"].as_array()?;
            (health["healthy"] == false && missing.len() == 1).then_some(())
        });
        // Another one of that name, and with another index.
        pair("other", "ce1", "other");
        pair("eth1", "ce1", "eth1");
        addressed("eth1", "172.16.0.1/30");
        msee.says("Equinix Amsterdam: carrier-up uni:ams/primary");
        msee.is_healthy();
        msee.says_times("ams/primary: bfd-up", 2);
        run("ip", "link set eth1 down");
        eventually("it is down", || (msee.health()?["healthy"] == false).then_some(()));
        run("ip", "link set eth1 up");
        msee.is_healthy();
        ask(&["lab", "down", "clab"]).unwrap();
        assert!(!Path::new("/run/health").exists());
    });
}

#[test]
fn the_unit_is_one_that_systemd_takes_and_calls_confined() {
    let version = said("systemd-analyze", "--version");
    let version: u32 = version.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    // The first that judges a unit that is not loaded.
    if version < 250 {
        return skip::skipped("msee@.service: no systemd-analyze of systemd 250 or later");
    }
    let folder = Folder::new();
    let unit = fs::read_to_string("fixtures/systemd/msee@.service").unwrap();
    let path = folder.0.join("msee@lab.service");
    fs::write(&path, unit.replace("/usr/local/bin/msee", env!("CARGO_BIN_EXE_msee"))).unwrap();
    for judged in [&["verify"][..], &["security", "--offline=yes", "--threshold=20"]] {
        let output = Command::new("systemd-analyze").args(judged).arg(&path).output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
    }
}

/// Its hosts are in the lab's own namespaces, and its customer's router is on interfaces of the host,
/// one of them in another namespace.
#[test]
fn a_lab_has_a_router_behind_interfaces_of_the_host() {
    isolated("a_lab_has_a_router_behind_interfaces_of_the_host", || {
        if !has(&["/usr/sbin/bird"], "sudo apt-get install bird2") {
            return;
        }
        prepare(&["ce1", "other"]);
        let attach = "attach: [ { port: eth1, as: { interface: eth1 } }, \
                      { port: eth2, as: { netns: other, name: to-ce1 } } ]";
        let upper = format!(
            "sites: [ {{ name: dc1, routers: [ {{ name: ce1, {attach} }} ] }} ]\n\
                             virtualNetworks: [ {{ name: hub, convergence: ideal }} ]"
        );
        let base = fs::canonicalize(CLAB).unwrap();
        let text = format!("extends: {}\nname: on-host\n{upper}\n", base.display());
        fs::write("/run/lab.yaml", text).unwrap();
        let output = msee(&["lab", "up", "/run/lab.yaml"]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("ams/primary:access: there is no interface eth1"), "{told}");
        pair("eth1", "ce1", "eth1");
        pair("far", "ce1", "eth2");
        run("ip", "link set far netns other name to-ce1 up");
        addressed("eth1", "172.16.0.1/30");
        addressed("eth2", "172.16.0.5/30");
        addressed("lo", "192.168.0.1/32");
        bird("ce1");
        let lab =
            Msee::start(msee(&["lab", "up", "/run/lab.yaml"]), "/run/said".into(), PathBuf::new());
        lab.says("all sessions Established after");
        lab.says("ams/secondary: ce1 172.16.0.5 is Established");
        let pinged = ["lab", "exec", "hub.app", "--", "ping", "-c", "1", "-W", "1", "192.168.0.1"];
        eventually("a VM reaches the router", || ask(&pinged).ok());
        run("ip", "link delete eth1");
        lab.says("Equinix Amsterdam: carrier-down uni:ams/primary");
        eventually("by the other link", || ask(&pinged).ok());
        lab.end();
    });
}

/// On a trunk with both tags, as a port of the MSEE itself is.
#[test]
fn the_pair_alone_has_both_tags_on_its_ports() {
    isolated("the_pair_alone_has_both_tags_on_its_ports", || {
        prepare(&["other"]);
        pair("eth1", "other", "eth1");
        pair("eth2", "other", "eth2");
        let ports = ["--port", "ams/primary=eth1", "--port", "ams/secondary=eth2"];
        let pair = ["--node", "ams/primary", "--node", "ams/secondary", "--node", "hub"];
        let mut arguments = [&[QUICKSTART, "--health", "/run/health"], &pair[..], &ports].concat();
        let msee = Msee::run(&arguments);
        msee.says("ams/primary:nni is on interface eth1");
        let rest = ["--node", "dc1", "--node", "Equinix Amsterdam", "--name", "rest"];
        arguments = [&[QUICKSTART], &rest[..], &ports].concat();
        let other = Msee::run_in("other", &arguments);
        msee.is_healthy();
        has_both_tags("eth1", 2101, 100);
        let act = |at| ask(&["lab", "do", "--lab", "quickstart", "cut", "--at", at]);
        let refused = act("ams/primary:access").unwrap_err();
        assert!(refused.contains("no part of what this msee runs"), "{refused}");
        act("ams/primary:nni").unwrap();
        eventually("it is cut", || (msee.health()?["healthy"] == false).then_some(()));
        let refused = ask(&["lab", "exec", "quickstart/hub.app", "--", "true"]).unwrap_err();
        assert!(refused.contains("there are none"), "{refused}");
        other.end();
        msee.end();
    });
}

#[test]
fn frr_is_on_a_trunk_with_both_tags() {
    on_a_trunk("frr_is_on_a_trunk_with_both_tags", "/usr/lib/frr/bgpd", || {
        frr("ce1", Path::new("fixtures/containerlab/frr"));
    });
}

#[test]
fn bird_is_on_a_trunk_with_both_tags() {
    on_a_trunk("bird_is_on_a_trunk_with_both_tags", "/usr/sbin/bird", || {
        addressed("eth1", "172.16.0.1/30");
        addressed("eth2", "172.16.0.5/30");
        bird("ce1");
    });
}

/// The MSEEs alone, and a customer's router whose sub-interfaces have both tags. A relay puts them on and
/// takes them off, for hosts whose kernel has no VLAN devices.
fn on_a_trunk(test: &str, program: &str, start: impl FnOnce()) {
    isolated(test, || {
        if !has(&[program], "sudo apt-get install frr bird2") {
            return;
        }
        prepare(&["ce1", "app"]);
        let relays = ["1", "2"].map(|number| {
            let [untagged, tagged] = ["sub", "trunk"].map(|end| format!("{end}{number}"));
            pair(&untagged, "ce1", &format!("eth{number}"));
            let peer = format!("type veth peer name eth{number} mtu 1508");
            run("ip", &format!("link add {tagged} mtu 1508 {peer}"));
            run("ip", &format!("link set {tagged} up"));
            run("ip", &format!("link set eth{number} up"));
            let tags = [Way::Push(100), Way::Push(2101)];
            Relay::start([&untagged, &tagged], Mode::Attached, &tags, &[Way::Pop, Way::Pop])
        });
        pair("eth3", "app", "eth1");
        run("ip", "-n ce1 addr add 192.168.0.1/32 dev lo");
        run("ip", "-n app addr add 10.1.0.4/16 dev eth1");
        run("ip", "-n app route add default via 10.1.0.1");
        start();
        let nodes = ["--node", "ams/primary", "--node", "ams/secondary", "--node", "hub"];
        let links = ["--port", "ams/primary=eth1", "--port", "ams/secondary=eth2"];
        let rest = ["--port", "hub.app=eth3", "--health", "/run/health"];
        let msee = Msee::run(&[&[CLAB], &nodes[..], &links, &rest].concat());
        msee.says("ams/primary:nni is on interface eth1");
        msee.is_healthy();
        has_both_tags("eth1", 2101, 100);
        // All that a VM takes, in one packet (L-26).
        let whole = "-I 192.168.0.1 -M do -s 1372 10.1.0.4";
        eventually("the router reaches a VM", || ping("ce1", whole));
        let routes = said("ip", "-n ce1 route show 10.1.0.0/16");
        assert!(routes.contains("172.16.0.2") || routes.contains("172.16.0.6"), "{routes}");
        msee.end();
        for relay in relays {
            relay.stop();
        }
    });
}

/// No privilege, any system.
#[test]
fn a_site_and_azure_are_two_processes_joined_by_udp() {
    let folder = Folder::new();
    let free = [(); 4].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let [a, b, c, d] = free.each_ref().map(|socket| socket.local_addr().unwrap());
    drop(free);
    let health = folder.0.join("health");
    let ports = |ends: [(&str, &std::net::SocketAddr, &std::net::SocketAddr); 2]| {
        ends.map(|(link, listen, peer)| format!("{link}=udp:{listen},{peer}"))
    };
    let azure = ports([("ams/primary", &a, &b), ("ams/secondary", &c, &d)]);
    let site = ports([("ams/primary:access", &b, &a), ("ams/secondary:access", &d, &c)]);
    let run = |nodes: &[&str], ports: &[String; 2], name: &str, rest: &[&str]| {
        let ports = ports.iter().flat_map(|port| ["--port", port]);
        let arguments: Vec<_> = [QUICKSTART, "--name", name]
            .into_iter()
            .chain(ports)
            .chain(nodes.iter().copied())
            .chain(rest.iter().copied())
            .collect();
        Msee::start(folder.command(&arguments), folder.0.join(name), health.clone())
    };
    let health_at = ["--health", health.to_str().unwrap()];
    let site = run(&["--node", "dc1"], &site, "site", &[]);
    let azure = run(&["--node", "ams", "--node", "hub"], &azure, "azure", &health_at);
    azure.is_healthy();
    site.says("ce1: bgp-up main ams/secondary");
    site.end();
    azure.end();
}

#[test]
fn what_is_wrong_is_told_with_the_remedy() {
    let folder = Folder::new();
    // Where it was built may be closed to others.
    let copy = |file: &str| {
        let copy = folder.0.join(Path::new(file).file_name().unwrap());
        fs::copy(file, &copy).unwrap();
        copy.to_str().unwrap().to_owned()
    };
    let program = copy(env!("CARGO_BIN_EXE_msee"));
    let files =
        [QUICKSTART, CLAB, "fixtures/labs/quickstart-frr.yaml", "fixtures/config/attach.yaml"];
    let files = files.map(copy);
    let [quickstart, clab, with_frr, attached] = files.each_ref().map(String::as_str);
    let wrong = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("run").args(arguments).env("XDG_RUNTIME_DIR", &folder.0).current_dir("/");
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        told
    };
    let told = wrong(&[quickstart, "--port", "ams/primry=eth1"]);
    assert!(told.contains("quickstart.yaml: no link `ams/primry`"), "{told}");
    let told = wrong(&[clab, "--port", "ams/primry=eth1"]);
    assert!(told.contains("did you mean ams/primary?"), "{told}");
    let told = wrong(&[quickstart, "--node", "hubb"]);
    assert!(told.contains("no `hubb` (did you mean hub?)"), "{told}");
    let told = wrong(&[clab, "--node", "ce1"]);
    assert!(told.contains("`kind: attach`") && told.contains("--port"), "{told}");
    let told = wrong(&[with_frr]);
    assert!(told.contains("ce1 is `kind: frr`"), "{told}");
    assert!(told.contains("--port ams/primary=INTERFACE"), "{told}");
    let told = wrong(&[quickstart, "--port", "hub.app=eth3", "--port", "hub.app=eth4"]);
    assert!(told.contains("hub.app is given two ports"), "{told}");
    let both = ["--port", "ams/primary=eth1", "--port", "ams/secondary=eth1"];
    let told = wrong(&[&[quickstart], &both[..]].concat());
    assert!(told.contains("are both on interface eth1; give each its own"), "{told}");
    let told = wrong(&[attached]);
    assert!(told.contains("attach.yaml:22:11: sites[0].routers[0].attach: port wan2"), "{told}");
    let told = wrong(&[quickstart, "--port", "hub.app=lo"]);
    assert!(told.contains("hub.app: ") && told.contains("cap_net_raw"), "{told}");
    let told = wrong(&[quickstart, "--port", "hub.app=udp:192.0.2.1:1,127.0.0.1:2"]);
    assert!(told.contains("choose an address of this host"), "{told}");
}

#[test]
fn an_interface_that_does_not_come_is_named() {
    isolated("an_interface_that_does_not_come_is_named", || {
        prepare(&[]);
        for await_ports in ["0", "1"] {
            let arguments = ["run", CLAB, "--await-ports", await_ports];
            let output = msee(&arguments).output().unwrap();
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{told}");
            let named = "ams/primary:access: there is no interface eth1; ";
            assert!(told.contains(named) && told.contains("--await-ports"), "{told}");
        }
    });
}

// The other ends.

fn addressed(interface: &str, address: &str) {
    run("ip", &format!("-n ce1 addr add {address} dev {interface}"));
}

/// Frames arrive at the interface with these tags.
fn has_both_tags(interface: &str, outer: u16, inner: u16) {
    let mut port = open(interface, Mode::Attached);
    let (mut frames, mut arrived) = (Frames::new(), Vec::new());
    eventually("frames with both tags", || {
        port.receive(64, &mut arrived, &mut frames, now());
        let both = |frame: &Frame| {
            let tags = vlan::Tags::parse(frames.bytes(frame)).unwrap();
            (tags.outer, tags.inner) == (Some(outer), Some(inner))
        };
        arrived.iter().any(both).then_some(())
    });
}

/// BIRD as a customer's edge of the two links.
fn bird(namespace: &str) {
    let configuration = "
        router id 192.0.2.1;
        protocol device {}
        protocol direct { ipv4; interface \"lo\"; }
        protocol kernel { ipv4 { export all; }; }
        protocol bfd { interface \"eth*\" { interval 300 ms; multiplier 3; }; }
        template bgp azure {
          local as 65010; bfd on; connect delay time 1; error wait time 1, 2;
          ipv4 { import all; export where source = RTS_DEVICE; };
        }
        protocol bgp ams1 from azure { neighbor 172.16.0.2 as 12076; }
        protocol bgp ams2 from azure { neighbor 172.16.0.6 as 12076; }
    ";
    fs::write("/run/bird.conf", configuration).unwrap();
    let files = "-c /run/bird.conf -s /run/bird.ctl -P /run/bird.pid";
    run("ip", &format!("netns exec {namespace} bird {files}"));
}

fn ping(namespace: &str, arguments: &str) -> Option<()> {
    let arguments = format!("netns exec {namespace} ping -c 1 -W 1 {arguments}");
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    output.status.success().then_some(())
}

/// What a command whose arguments have no spaces prints; nothing where it is not installed.
fn said(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output();
    output.map_or_else(|_| String::new(), |said| String::from_utf8_lossy(&said.stdout).into_owned())
}

// The program.

/// A folder that is gone with the test, open to everybody.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("msee-run-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msee"));
        command.arg("run").args(arguments).env("XDG_RUNTIME_DIR", &self.0);
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn msee(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_msee"));
    command.args(arguments).env("XDG_RUNTIME_DIR", "/run");
    command
}

/// Another command of the program, to what runs.
fn ask(arguments: &[&str]) -> Result<String, String> {
    let output = msee(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// `msee run`, and what it says.
struct Msee {
    child: Child,
    said: PathBuf,
    health: PathBuf,
}

impl Msee {
    fn run(arguments: &[&str]) -> Self {
        let command = msee(&[&["run"], arguments].concat());
        Self::start(command, "/run/said".into(), "/run/health".into())
    }

    fn run_in(namespace: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_msee"), "run"]);
        command.args(arguments).env("XDG_RUNTIME_DIR", "/run");
        Self::start(command, format!("/run/said-in-{namespace}").into(), "/run/health".into())
    }

    fn start(mut command: Command, said: PathBuf, health: PathBuf) -> Self {
        let out = fs::File::create(&said).unwrap();
        command.stdin(Stdio::null()).stderr(out.try_clone().unwrap()).stdout(out);
        Self { child: command.spawn().unwrap(), said, health }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    fn says(&self, words: &str) {
        self.says_times(words, 1);
    }

    fn says_times(&self, words: &str, times: usize) {
        let look = || (self.said().matches(words).count() >= times).then_some(());
        look_on(look).unwrap_or_else(|| panic!("{words}: never in\n{}", self.said()));
    }

    /// What its file says; none while there is none.
    fn health(&self) -> Option<Value> {
        let text = fs::read_to_string(&self.health).ok()?;
        Some(serde_json::from_str(&text).expect("the file is there whole"))
    }

    fn is_healthy(&self) {
        let look = || (self.health()?["healthy"] == true).then_some(());
        look_on(look)
            .unwrap_or_else(|| panic!("not healthy: {:?}\n{}", self.health(), self.said()));
    }

    /// Ends it in order, and returns all that it said.
    fn end(mut self) -> String {
        run("kill", &self.child.id().to_string());
        let ended = look_on(|| self.child.try_wait().unwrap());
        let said = self.said();
        assert_eq!(ended.and_then(|status| status.code()), Some(0), "{said}");
        said
    }
}

impl Drop for Msee {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn look_on<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..LOOKS {
        if let Some(seen) = look() {
            return Some(seen);
        }
        sleep(LOOK);
    }
    None
}

fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    look_on(look).unwrap_or_else(|| panic!("{what}: never"))
}
