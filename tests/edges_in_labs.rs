//! FRR and BIRD as a site's router in `msee lab up`, on real frames, as an ordinary user has them.
//!
//! Run by root, labs are run as the user 65534, who may do nothing. A test says `SKIPPED` and why
//! where FRR, BIRD or namespaces are missing.

#[path = "support/isolated.rs"]
mod isolated;
#[path = "support/skip.rs"]
mod skip;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use msee::config::drill::Directions;
use msee::config::lab::RouterKind;
use msee::config::{self, Place, Segment};
use msee::fabric::{Direction, Fault, LinkIndex, Observer};
use msee::lab::wiring::{self, Wiring};
use msee::lab::{Execution, Lab, Ports};
use msee::model::{Instant, LinkRole};

use isolated::{isolated, run};

const NOBODY: u32 = 65534;
/// Between two looks at something that takes a moment, and after how many of them it is taken not
/// to happen.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 1200;

#[test]
fn frr_is_a_customer_edge_on_an_untagged_port() {
    let Some(mut lab) = RunningLab::up("fixtures/labs/quickstart-frr.yaml", "") else { return };
    lab.says(&["ce1: FRR ", "logs in "]);
    lab.says(&["all sessions Established after"]);
    for (link, peer) in [("primary", "172.16.0.1"), ("secondary", "172.16.0.5")] {
        lab.says(&[&format!("ams/{link}: ce1 {peer} is Established, BFD Up, 1 prefixes")]);
    }
    lab.reaches("dc1.erp", "10.1.0.4");
    let summary = lab.exec("ce1", &["vtysh", "-c", "show bgp summary"]);
    assert!(summary.contains("172.16.0.2") && summary.contains("172.16.0.6"), "{summary}");
    let links = lab.exec("ce1", &["ip", "-br", "addr", "show", "eth1"]);
    assert!(links.contains("172.16.0.1/30"), "{links}");

    // What is run in a node takes signals.
    let signals = lab.exec("ce1", &["grep", "SigBlk", "/proc/self/status"]);
    assert!(signals.trim().ends_with("\t0000000000000000"), "{signals}");

    let shut = ["conf t", "router bgp 65010", "neighbor 172.16.0.2 shutdown"];
    lab.exec("ce1", &["vtysh", "-c", shut[0], "-c", shut[1], "-c", shut[2]]);
    lab.says(&["ams/primary: bgp-down", "received 6/2 Administrative Shutdown"]);
    lab.reaches("dc1.erp", "10.1.0.4");

    let logs = lab.user.0.join("state/msee/quickstart-frr/ce1");
    let said = lab.end();
    assert!(said.contains("ams/secondary: bgp-down"), "{said}");
    assert!(said.contains("received 6/3 Peer De-configured"), "{said}");
    let log = fs::read_to_string(logs.join("bgpd.log")).unwrap();
    assert!(log.contains("Terminating on signal"), "{log}");
}

#[test]
fn bird_is_a_customer_edge_on_a_tagged_port_with_both_families_and_md5() {
    let Some(mut lab) = RunningLab::up("fixtures/labs/quickstart-bird.yaml", "") else { return };
    lab.says(&["ce1: BIRD 2"]);
    lab.says(&["all sessions Established after"]);
    for peer in ["172.16.0.1", "172.16.0.5", "2001:db8:ffff::1", "2001:db8:ffff::5"] {
        lab.says(&[&format!("{peer} is Established, BFD Up, 1 prefixes")]);
    }
    lab.reaches("dc1.erp", "10.1.0.4");
    lab.reaches("dc1.erp6", "2001:db8:1::4");
    let protocols = lab.exec("ce1", &["birdc", "show", "protocols"]);
    assert_eq!(protocols.matches("Established").count(), 4, "{protocols}");
    // The tag is the lab's to put on.
    let link = lab.exec("ce1", &["ip", "-d", "link", "show", "eth1.100"]);
    assert!(link.contains("veth") && !link.contains("vlan"), "{link}");
    let said = lab.end();
    assert_eq!(said.matches("received 6/2 Administrative Shutdown").count(), 4, "{said}");
}

/// Four-octet AS numbers, a hold time of 10 s, both families; the MSEE says everything again when it is
/// asked to (RFC 2918), and a cleared session comes back.
#[test]
fn frr_negotiates_refreshes_and_clears_its_sessions() {
    let Some(lab) = RunningLab::up("fixtures/labs/dual-stack.yaml", &short_hold_time("frr")) else {
        return;
    };
    lab.says(&["all sessions Established after"]);
    for (peer, family) in [("172.16.0.2", "ipv4"), ("2001:db8:ffff::2", "ipv6")] {
        let neighbor = || {
            let show = format!("show bgp neighbors {peer} json");
            let said = lab.exec("ce1", &["vtysh", "-c", &show]);
            let said: serde_json::Value = serde_json::from_str(&said).unwrap();
            said[peer].clone()
        };
        let before = neighbor();
        assert_eq!(before["localAs"], 4_200_000_010_u32, "{before}");
        assert_eq!(before["bgpTimerHoldTimeMsecs"], 10_000, "{before}");
        assert_eq!(before["bgpTimerKeepAliveIntervalMsecs"], 3_000, "{before}");
        let count = |of: &serde_json::Value, what: &str| of["messageStats"][what].as_u64().unwrap();
        lab.exec("ce1", &["vtysh", "-c", &format!("clear bgp {family} unicast {peer} soft in")]);
        eventually(|| {
            let after = neighbor();
            count(&after, "routeRefreshSent") > count(&before, "routeRefreshSent")
                && count(&after, "updatesRecv") > count(&before, "updatesRecv")
        });
        let established = |of: &serde_json::Value| of["connectionsEstablished"].as_u64().unwrap();
        assert_eq!(established(&neighbor()), established(&before), "a refresh ends nothing");
        lab.exec("ce1", &["vtysh", "-c", &format!("clear bgp {family} {peer}")]);
        eventually(|| {
            let after = neighbor();
            established(&after) > established(&before) && after["bgpState"] == "Established"
        });
    }
    lab.reaches("dc1.erp", "10.1.0.4");
    lab.reaches("dc1.erp6", "2001:db8:1::4");
}

/// The same of BIRD.
#[test]
fn bird_negotiates_refreshes_and_clears_its_sessions() {
    let Some(lab) = RunningLab::up("fixtures/labs/dual-stack.yaml", &short_hold_time("bird"))
    else {
        return;
    };
    lab.says(&["all sessions Established after"]);
    let birdc = |words: &[&str]| lab.exec("ce1", &[&["birdc"], words].concat());
    let all = birdc(&["show", "protocols", "all"]);
    let mut name = "";
    let mut to_azure = Vec::new();
    for line in all.lines() {
        if !line.starts_with(' ') {
            name = line.split_whitespace().next().unwrap_or_default();
        }
        let peer = line.trim().strip_prefix("Neighbor address:").map(str::trim);
        if peer.is_some_and(|peer| ["172.16.0.2", "2001:db8:ffff::2"].contains(&peer)) {
            to_azure.push(name);
        }
    }
    assert_eq!(to_azure.len(), 2, "{all}");
    for name in to_azure {
        let shown = || birdc(&["show", "protocols", "all", name]);
        // How many it received from the MSEE, over all lives of the session.
        let updates = || -> u64 {
            let shown = shown();
            let line = shown.lines().find(|line| line.contains("Import updates:"));
            line.and_then(|line| line.split_whitespace().nth(2)?.parse().ok()).unwrap_or(0)
        };
        let before = shown();
        assert!(before.contains("4200000010"), "{before}");
        let hold = before.lines().find(|line| line.contains("Hold timer:"));
        assert!(hold.is_some_and(|line| line.trim().ends_with("/10")), "{before}");
        let received = updates();
        assert!(received > 0, "{before}");
        birdc(&["reload", "in", name]);
        eventually(|| updates() > received);
        assert!(shown().contains("Established"), "a refresh ends nothing");
        birdc(&["restart", name]);
        eventually(|| !shown().contains("Established"));
        eventually(|| shown().contains("Established"));
    }
    lab.reaches("dc1.erp", "10.1.0.4");
    lab.reaches("dc1.erp6", "2001:db8:1::4");
}

fn short_hold_time(kind: &str) -> String {
    format!(
        "sites: [ {{ name: dc1, routers: [ {{ name: ce1, kind: {kind}, holdTime: 10s }} ] }} ]\n"
    )
}

/// L-23. The lab goes on, so that whoever looks for the reason has a lab to look at.
#[test]
fn a_key_that_differs_is_found_and_the_lab_goes_on() {
    let upper = "
sites:
  - name: dc1
    routers:
      - name: ce1
        kind: frr
        uplinks: [ { circuit: ams, link: secondary, sharedKey: Another1 } ]
";
    let Some(lab) = RunningLab::up("fixtures/labs/quickstart-bird.yaml", upper) else { return };
    lab.says(&["ams/secondary: ", "the keys differ. Check sharedKey."]);
    lab.says(&["ams/primary: ce1 172.16.0.1 is Established"]);
    let summary = lab.exec("ce1", &["vtysh", "-c", "show bgp ipv4 summary"]);
    let line = |peer: &str| summary.lines().find(|line| line.starts_with(peer)).unwrap_or_default();
    assert!(line("172.16.0.6 ").contains("Connect") || line("172.16.0.6 ").contains("Active"));
    lab.reaches("dc1.erp", "10.1.0.4");

    lab.exec("ce1", &["sh", "-c", "kill -9 $(cat /run/frr/bgpd.pid)"]);
    lab.says(&["ce1: bgpd ended: signal: 9 (SIGKILL)", "ce1/bgpd.log:"]);
}

/// The router's own daemons see the carrier, do what their operator says, and stay unharmed.
#[test]
fn what_is_done_to_a_link_is_seen_by_frr_and_its_operator_is_obeyed() {
    let Some(lab) = RunningLab::up("fixtures/labs/quickstart-frr.yaml", "") else { return };
    let primary = || {
        let summary = lab.exec("ce1", &["vtysh", "-c", "show bgp ipv4 unicast summary json"]);
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        summary["peers"]["172.16.0.2"]["state"].as_str().unwrap().to_owned()
    };
    lab.act(&["cut", "--at", "ams/primary:access"]).unwrap();
    eventually(|| primary() != "Established");
    let link = lab.exec("ce1", &["ip", "-br", "link", "show", "eth1"]);
    assert!(link.contains("NO-CARRIER"), "{link}");
    lab.reaches("dc1.erp", "10.1.0.4");
    lab.act(&["restore"]).unwrap();
    eventually(|| primary() == "Established");
    let said = lab.act(&["control-kill", "--at", "ce1"]).unwrap_err();
    assert!(said.contains("msee lab exec ce1 -- "), "{said}");
    lab.act(&["bgp-reset", "--at", "ams/primary"]).unwrap();
    lab.act(&["bgp-shutdown", "--at", "ams/primary"]).unwrap();
    eventually(|| primary() == "Idle (Admin)");
    lab.reaches("dc1.erp", "10.1.0.4");
    lab.act(&["announce", "--at", "ce1", "--prefix", "192.168.8.0/24"]).unwrap();
    let announced = || lab.exec("ce1", &["vtysh", "-c", "show running-config"]);
    eventually(|| announced().contains("network 192.168.8.0/24"));
    lab.act(&["restore"]).unwrap();
    eventually(|| primary() == "Established" && !announced().contains("192.168.8.0/24"));
}

/// Commands for what has some, another configuration for the rest; the file's is never touched.
#[test]
fn birds_operator_is_obeyed_and_a_restore_leaves_its_file_s_configuration() {
    let Some(lab) = RunningLab::up("fixtures/labs/quickstart-bird.yaml", "") else { return };
    lab.says(&["all sessions Established after"]);
    let birdc = |words: &[&str]| lab.exec("ce1", &[&["birdc"], words].concat());
    let state = |link: &str| {
        let name = format!("bgp_ams_{link}_ipv4");
        let shown = birdc(&["show", "protocols", &name]);
        let line =
            shown.lines().find(|line| line.starts_with(&name)).expect("it is shown").to_owned();
        line.split_whitespace().last().unwrap_or_default().to_owned()
    };
    let announced = || birdc(&["show", "route", "export", "bgp_ams_secondary_ipv4"]);
    let file = || lab.exec("ce1", &["cat", "/run/bird/bird.conf"]);
    let read = file();

    lab.act(&["bgp-shutdown", "--at", "ams/primary"]).unwrap();
    lab.says(&["ams/primary: bgp-down", "received 6/2 Administrative Shutdown"]);
    lab.reaches("dc1.erp", "10.1.0.4");
    lab.act(&["announce", "--at", "ce1", "--prefix", "192.168.8.0/24"]).unwrap();
    eventually(|| announced().contains("192.168.8.0/24"));
    lab.act(&["bfd-disable", "--at", "ams/secondary"]).unwrap();
    eventually(|| !birdc(&["show", "bfd", "sessions"]).contains("172.16.0.6"));
    assert_eq!(state("secondary"), "Established");
    assert_ne!(state("primary"), "Established", "another configuration does not open it");
    lab.act(&["withdraw", "--at", "ce1", "--prefix", "192.168.0.0/22"]).unwrap();
    eventually(|| !announced().contains("192.168.0.0/22"));
    assert_eq!(
        lab.said().matches("bgp-down").count(),
        2,
        "no session but those closed:\n{}",
        lab.said()
    );

    lab.act(&["restore"]).unwrap();
    eventually(|| state("primary") == "Established");
    let announced = announced();
    assert!(announced.contains("192.168.0.0/22"), "{announced}");
    assert!(!announced.contains("192.168.8.0/24"), "{announced}");
    eventually(|| birdc(&["show", "bfd", "sessions"]).contains("172.16.0.6"));
    assert_eq!(file(), read);
    lab.reaches("dc1.erp", "10.1.0.4");
}

/// Its links lose carrier, its programs are killed; it comes back as the lab's file and its operator have
/// it.
#[test]
fn frr_and_bird_are_crashed_and_started_again() {
    let of_frr = ["vtysh", "-c", "show bgp neighbors 172.16.0.6"];
    let of_bird = ["birdc", "show protocols bgp_ams_secondary_ipv4"];
    for (base, neighbor, shut) in [
        ("fixtures/labs/quickstart-frr.yaml", &of_frr[..], "Administratively shut down"),
        ("fixtures/labs/quickstart-bird.yaml", &of_bird[..], " down "),
    ] {
        let Some(lab) = RunningLab::up(base, "") else { return };
        lab.says(&["all sessions Established after"]);
        lab.act(&["router-crash", "--at", "ce1"]).unwrap();
        lab.says(&["ams/primary: bfd-down"]);
        assert!(!lab.try_exec("ce1", neighbor).status.success());
        let links = lab.exec("ce1", &["ip", "-br", "link"]);
        assert_eq!(links.lines().filter(|line| line.contains("NO-CARRIER")).count(), 2, "{links}");
        lab.act(&["restore"]).unwrap();
        lab.reaches("dc1.erp", "10.1.0.4");

        lab.act(&["bgp-shutdown", "--at", "ams/secondary"]).unwrap();
        lab.says(&["ams/secondary: bgp-down", "received 6/2 Administrative Shutdown"]);
        lab.act(&["router-restart", "--at", "ce1"]).unwrap();
        lab.reaches("dc1.erp", "10.1.0.4");
        eventually(|| lab.exec("ce1", neighbor).contains(shut));
        assert!(!lab.said().contains("SIGKILL"), "nobody died by itself:\n{}", lab.said());
    }
}

/// RFC 4724, which FRR helps with unless it is told not to. The way over the secondary is shut.
#[test]
fn frr_keeps_the_routes_of_an_msee_whose_process_starts_again_if_it_is_asked_to() {
    for (mode, keeps) in [("full", true), ("off", false)] {
        let upper = format!(
            "
circuits:
  - name: ams
    peerings: [ {{ peeringType: AzurePrivatePeering, gracefulRestart: {mode} }} ]
"
        );
        let Some(lab) = RunningLab::up("fixtures/labs/quickstart-frr.yaml", &upper) else { return };
        lab.says(&["all sessions Established after"]);
        let vtysh = |commands: &[&str]| {
            let words = commands.iter().flat_map(|command| ["-c", command]);
            lab.exec("ce1", &[&["vtysh"], &words.collect::<Vec<_>>()[..]].concat())
        };
        vtysh(&["conf t", "router bgp 65010", "neighbor 172.16.0.6 shutdown"]);
        lab.says(&["ams/secondary: bgp-down"]);
        lab.reaches("dc1.erp", "10.1.0.4");

        // 24 s, in which the process is away for 5.
        let ping = ["lab", "exec", "dc1.erp", "--", "ping", "-q", "-i", "0.02", "-c", "1200"];
        let ping = lab.user.msee(&[&ping[..], &["10.1.0.4"]].concat());
        let ping = { ping }.stdout(Stdio::piped()).spawn().unwrap();
        lab.act(&["control-kill", "--at", "ams/primary"]).unwrap();
        // The gateway hears of the new process, or its own keepalives are answered with a reset.
        if keeps {
            lab.says(&["hub/er#0: bgp-down", "its routes are kept for 120s"]);
        } else {
            sleep(Duration::from_secs(7));
            // FRR says something on the old connection.
            vtysh(&["clear bgp ipv4 unicast 172.16.0.2 soft in"]);
        }
        lab.says(&["ams/primary: bgp-up", "ce1 (172.16.0.1)"]);
        let said = text(&ping.wait_with_output().unwrap().stdout);
        assert_eq!(said.contains(" 0% packet loss"), keeps, "{mode}: {said}\n{}", lab.said());
        let neighbor = vtysh(&["show bgp neighbors 172.16.0.2"]);
        assert_eq!(neighbor.contains("Remote GR Mode: Restart"), keeps, "{neighbor}");
        let failed = lab.said().lines().any(|line| line.contains("ams/primary: bfd-down"));
        assert!(!failed, "{}", lab.said());
    }
}

/// The site's own link, and the hosts', are past the lab's routers.
#[test]
fn routers_of_one_site_are_frr_and_bird() {
    let upper = "
sites:
  - name: dc1
    routers: [ { name: ce1, kind: bird }, { name: core, kind: frr } ]
";
    let Some(lab) = RunningLab::up("fixtures/labs/dual-stack.yaml", upper) else { return };
    lab.says(&["all sessions Established after"]);
    lab.says(&["core: FRR "]);
    lab.reaches("dc1.erp", "10.1.0.4");
    lab.reaches("dc1.erp6", "2001:db8:1::4");
    let peers = lab.exec("core", &["vtysh", "-c", "show bgp summary"]);
    assert!(peers.contains("100.126.0.1") && peers.contains("fd6d:7365:6500::1"), "{peers}");
    let links = lab.exec("ce1", &["ip", "-br", "addr"]);
    assert!(links.contains("eth1.100@") && links.contains("to-core@"), "{links}");
    assert!(!links.contains("DOWN"), "{links}");
    let lan = lab.exec("core", &["ip", "-br", "addr"]);
    assert!(lan.contains("192.168.0.1 peer 192.168.0.10/32"), "{lan}");
    let gateway = lab.exec("dc1.erp", &["ip", "neigh"]);
    assert!(gateway.contains("192.168.0.1 dev eth0 lladdr 02:4d:80:01:00:00"), "{gateway}");
}

#[test]
fn a_configuration_that_frr_refuses_is_shown_with_what_it_says() {
    let upper = "
sites:
  - name: dc1
    routers: [ { name: ce1, config: ce1.conf } ]
";
    let Some(user) = User::new("fixtures/labs/quickstart-frr.yaml") else { return };
    fs::write(user.0.join("ce1.conf"), "router bgp 65010\n neighbour 172.16.0.2\n").unwrap();
    let file = user.write("fixtures/labs/quickstart-frr.yaml", upper);
    let output = user.msee(&["lab", "up", file.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("ce1: vtysh ended: exit status: ") && said.contains("check.log"),
        "{said}"
    );
    assert!(said.contains("line 2: % Unknown command"), "{said}");
}

/// As at a router whose provider's equipment is unplugged.
#[test]
fn a_cut_takes_the_carrier_from_the_customers_interface_and_mending_gives_it_back() {
    isolated(
        "a_cut_takes_the_carrier_from_the_customers_interface_and_mending_gives_it_back",
        || {
            // Room for the names of further namespaces.
            run("mount", "-t tmpfs tmpfs /run");
            fs::create_dir("/run/netns").unwrap();
            let path = Path::new("fixtures/labs/quickstart.yaml");
            let text = fs::read_to_string(path).unwrap();
            let mut file = config::load_lab(path, &text).unwrap();
            file.sites[0].routers[0].kind = RouterKind::Frr;
            let wiring = Wiring::of(&file).unwrap();
            let _namespaces = wiring::build(&wiring).unwrap();
            let mut lab =
                Lab::on_wire(&file, 1, wiring.ports().unwrap(), Ports::new(), Execution::default());
            let place = Place {
                circuit: "ams".to_owned(),
                link: LinkRole::Primary,
                segment: Segment::Access,
            };
            assert_eq!(carriers(), [true, true]);
            lab.break_at(&place, Directions::Both, Fault::Cut);
            assert_eq!(carriers(), [false, true]);
            lab.mend_at(&place);
            assert_eq!(carriers(), [true, true]);
            // The ports go on: the MSEE asks for its neighbour, who answers by its tag.
            let begun = lab.now();
            let mut answers =
                Answers { link: lab.access("ams", LinkRole::Primary).unwrap(), seen: 0 };
            lab.watch(answers.link);
            run("ip", "-n ce1 addr add 172.16.0.1/30 dev eth1.100");
            while answers.seen == 0 && lab.now().since(begun) < Duration::from_secs(10) {
                lab.run_until(lab.now() + LOOK, &mut answers);
            }
            assert!(answers.seen > 0);
            // The next run of a drill begins with links that are whole.
            lab.break_at(&place, Directions::Both, Fault::Cut);
            assert_eq!(carriers(), [false, true]);
            drop(lab);
            assert_eq!(carriers(), [true, true]);
        },
    );
}

/// ARP replies to Azure with the tag 100.
struct Answers {
    link: LinkIndex,
    seen: u32,
}

impl Observer for Answers {
    fn frame(&mut self, link: LinkIndex, direction: Direction, bytes: &[u8], _: Instant) {
        let is_reply = bytes[12..18] == [0x81, 0x00, 0, 100, 0x08, 0x06] && bytes[25] == 2;
        if link == self.link && direction == Direction::Forward && is_reply {
            self.seen += 1;
        }
    }
}

/// Of the customer's two uplinks.
fn carriers() -> [bool; 2] {
    ["eth1.100", "eth2.100"].map(|name| {
        let shown = Command::new("ip").args(["-n", "ce1", "-br", "link", "show", name]).output();
        let shown = text(&shown.unwrap().stdout);
        assert!(shown.starts_with(name), "{shown}");
        shown.contains("LOWER_UP")
    })
}

/// A user with directories of their own.
struct User(PathBuf);

impl User {
    /// None where the host lacks what the lab needs; then it is said.
    fn new(lab: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        for daemon in ["/usr/lib/frr/bgpd", "/usr/sbin/bird"] {
            if !Path::new(daemon).exists() {
                skip::skipped(&format!("{lab}: no {daemon}: sudo apt-get install frr bird2"));
                return None;
            }
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("msee-edges-{}-{number}", std::process::id());
        let user = Self(std::env::temp_dir().join(name));
        for folder in [&user.0, &user.0.join("runtime"), &user.0.join("state")] {
            fs::create_dir(folder).unwrap();
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
            if is_root() {
                chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        // Where it was built may be closed to others.
        fs::copy(env!("CARGO_BIN_EXE_msee"), user.0.join("msee")).unwrap();
        fs::create_dir(user.0.join("labs")).unwrap();
        for file in fs::read_dir("fixtures/labs").unwrap().map(Result::unwrap) {
            fs::copy(file.path(), user.0.join("labs").join(file.file_name())).unwrap();
        }
        let tried = user.command("unshare").args(["-Urnm", "true"]).output().unwrap();
        if !tried.status.success() {
            skip::skipped(&format!("{lab}: no namespaces: {}", text(&tried.stderr).trim()));
            return None;
        }
        Some(user)
    }

    /// A lab file on top of another.
    fn write(&self, base: &str, upper: &str) -> PathBuf {
        let base = self.0.join("labs").join(Path::new(base).file_name().unwrap());
        let path = self.0.join("lab.yaml");
        fs::write(&path, format!("extends: {}\n{upper}", base.display())).unwrap();
        path
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("XDG_RUNTIME_DIR", self.0.join("runtime"))
            .env("XDG_STATE_HOME", self.0.join("state"))
            .current_dir("/");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn msee(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(self.0.join("msee"));
        command.args(arguments);
        command
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A lab in the foreground, ready.
struct RunningLab {
    user: User,
    child: Child,
}

impl RunningLab {
    /// The lab of a file with `upper` on top of it; none where the host lacks what it needs.
    fn up(base: &str, upper: &str) -> Option<Self> {
        let user = User::new(base)?;
        let file = user.write(base, upper);
        let said = fs::File::create(user.0.join("said")).unwrap();
        let mut command = user.msee(&["lab", "up", file.to_str().unwrap()]);
        command.stdin(Stdio::null()).stderr(said.try_clone().unwrap()).stdout(said);
        let child = command.spawn().unwrap();
        let mut lab = Self { user, child };
        for _ in 0..LOOKS {
            assert_eq!(lab.child.try_wait().unwrap(), None, "{}", lab.said());
            if lab.try_exec("ce1", &["true"]).status.success() {
                return Some(lab);
            }
            sleep(LOOK);
        }
        panic!("the lab is not ready: {}", lab.said());
    }

    fn said(&self) -> String {
        fs::read_to_string(self.user.0.join("said")).unwrap()
    }

    /// Waits until it has said a line with all of `words`.
    fn says(&self, words: &[&str]) {
        for _ in 0..LOOKS {
            if self.said().lines().any(|line| words.iter().all(|word| line.contains(word))) {
                return;
            }
            sleep(LOOK);
        }
        panic!("no line with {words:?}:\n{}", self.said());
    }

    fn try_exec(&self, node: &str, program: &[&str]) -> Output {
        self.user.msee(&[&["lab", "exec", node, "--"], program].concat()).output().unwrap()
    }

    fn exec(&self, node: &str, program: &[&str]) -> String {
        let output = self.try_exec(node, program);
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{program:?}: {said}{complained}\n{}", self.said());
        said
    }

    /// Does something to the lab, or says why not.
    fn act(&self, words: &[&str]) -> Result<(), String> {
        let output = self.user.msee(&[&["lab", "do"], words].concat()).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
    }

    /// Waits until the host reaches the address, and then loses nothing to it.
    fn reaches(&self, host: &str, address: &str) {
        let once = ["ping", "-c", "1", "-W", "1", address];
        let mut looks = 0..LOOKS;
        while looks.next().is_some() && !self.try_exec(host, &once).status.success() {
            sleep(LOOK);
        }
        let said = self.exec(host, &["ping", "-c", "5", "-i", "0.2", address]);
        assert!(said.contains(" 0% packet loss"), "{said}");
    }

    /// Ends it in order; all that it said.
    fn end(&mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "{}", self.said());
        self.said()
    }
}

impl Drop for RunningLab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn eventually(mut is_so: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if is_so() {
            return;
        }
        sleep(LOOK);
    }
    panic!("it does not happen");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
