//! What labs need of the host.

use std::env;
use std::num::NonZero;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::cli::doctor::Check;
use crate::cli::doctor::port::{self, FULL_MTU};
use crate::sys::host;
use crate::sys::namespace::{Denied, Inside, NetworkNamespace, Progress, Sandbox, SandboxError};
use crate::sys::netlink::{Netlink, NetlinkError, VethEnd};

/// What a port's receive queue should hold, in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;
/// How long the clock is watched.
const WATCHED: Duration = Duration::from_millis(200);
/// Detection time of BFD at 300 ms × 3 (L-12). A stall of a third of it makes a run INVALID.
const DETECTION: Duration = Duration::from_millis(900);
/// What a busy host may add to an outage before its figures are worth less.
const SLACK: Duration = Duration::from_millis(60);
/// Where programs are that an ordinary user's PATH may not name.
const FURTHER_FOLDERS: &[&str] = &["/usr/sbin", "/sbin", "/usr/lib/frr", "/usr/libexec/frr"];

/// A program that labs use if it is there.
struct Tool {
    name: &'static str,
    /// Makes it tell its version; empty where it cannot.
    version: &'static [&'static str],
    package: &'static str,
    what_for: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool { name: "bgpd", version: &["--version"], package: "frr", what_for: "`kind: frr`" },
    Tool { name: "vtysh", version: &[], package: "frr", what_for: "`kind: frr`" },
    Tool { name: "bird", version: &["--version"], package: "bird2", what_for: "`kind: bird`" },
    Tool { name: "iperf3", version: &["--version"], package: "iperf3", what_for: "throughput" },
    Tool { name: "tshark", version: &["--version"], package: "tshark", what_for: "captures" },
];

/// Everything about the host, in a fixed order. This process has one thread when it is called.
pub(super) fn checks() -> Vec<Check> {
    let mut checks = sandbox();
    checks.push(receive_buffer());
    checks.push(cores());
    checks.push(clock());
    checks.push(stalls(host::longest_stall(WATCHED)));
    checks.push(raw_sockets());
    checks.extend(TOOLS.iter().map(tool));
    checks
}

/// Whether a sandbox comes up, and frames with two tags pass through it.
fn sandbox() -> Vec<Check> {
    let outcome = Sandbox::start(packets_inside, || {}).and_then(|mut sandbox| {
        loop {
            if let Progress::Ended(code) = sandbox.wait()? {
                return Ok(code);
            }
        }
    });
    let namespaces = Check::ok("user-namespaces", "labs run without root");
    match outcome {
        Ok(0) => {
            let carried = "veth pairs carry full packets behind two tags";
            vec![namespaces, Check::ok("packet-sockets", carried)]
        }
        Ok(code) => vec![namespaces, no_packets(&format!("the trial ended with code {code}"))],
        Err(SandboxError::Inside(why)) => vec![namespaces, no_packets(&why)],
        Err(SandboxError::Denied(denied)) => vec![refused(denied), untried()],
        Err(error) => {
            let remedy = "needs Linux 5.3 or later with user, mount, pid and network namespaces";
            vec![Check::failed("user-namespaces", error.to_string(), remedy), untried()]
        }
    }
}

/// The text of a refusal is the cause, a colon and the remedy.
fn refused(denied: Denied) -> Check {
    let text = denied.to_string();
    let (cause, remedy) = text.split_once(": ").unwrap_or((&text, "run it as root"));
    Check::failed("user-namespaces", cause, remedy)
}

fn no_packets(why: &str) -> Check {
    let remedy = "the kernel needs veth and AF_PACKET: `sudo modprobe -a veth af_packet`";
    Check::failed("packet-sockets", why, remedy)
}

fn untried() -> Check {
    Check::failed("packet-sockets", "not tried", "it takes namespaces")
}

/// Inside the sandbox: every kind of test frame crosses a veth pair.
fn packets_inside(inside: Inside) -> u8 {
    let outcome = pair().map_err(|error| error.to_string()).and_then(|()| {
        let trial = port::trial("near", Some(("far", None)))?;
        match trial.into_iter().flatten().find(|(_, fate)| !fate.arrived()) {
            Some((kind, fate)) => Err(format!("the {kind} test frame {fate}")),
            None => Ok(()),
        }
    });
    match outcome {
        Ok(()) => 0,
        Err(why) => inside.parent().fail(&why),
    }
}

fn pair() -> Result<(), NetlinkError> {
    let failed = |source| NetlinkError {
        operation: "open the namespace of".to_owned(),
        interface: "near–far".to_owned(),
        source,
    };
    let own = NetworkNamespace::current().map_err(failed)?;
    let mut netlink = Netlink::open().map_err(failed)?;
    let end = |name| VethEnd {
        name,
        namespace: own.as_fd(),
        index: None,
        mac: None,
        mtu: FULL_MTU as u16,
        arp: false,
    };
    netlink.make_veth([end("near"), end("far")])?;
    for name in ["near", "far"] {
        let interface = netlink.interface(name)?;
        netlink.set_up(&interface, true)?;
    }
    Ok(())
}

fn receive_buffer() -> Check {
    let name = "receive-buffer";
    let remedy = format!("`sudo sysctl -w net.core.rmem_max={RECEIVE_BUFFER}`");
    match host::receive_buffer(RECEIVE_BUFFER) {
        Ok(bytes) if bytes >= RECEIVE_BUFFER => Check::ok(name, "a port's queue holds 4 MiB"),
        Ok(bytes) => {
            let kib = bytes >> 10;
            let cost = "a fast TCP flow loses a fifth of its throughput";
            Check::limited(name, format!("a port's queue holds {kib} KiB: {cost}"), remedy)
        }
        Err(error) => Check::limited(name, error.to_string(), remedy),
    }
}

fn cores() -> Check {
    match thread::available_parallelism().map_or(1, NonZero::get) {
        1 => {
            let found = "1: a lab's routers and its programs take turns";
            Check::limited("cores", found, "give this machine, or container, a second one")
        }
        cores => Check::ok("cores", cores.to_string()),
    }
}

fn clock() -> Check {
    let (resolution, over) = (host::clock_resolution(), host::sleep_overshoot());
    let found = format!("steps of {resolution:?}; a sleep of 1 ms ends {over:.0?} late");
    if resolution > Duration::from_micros(1) {
        let remedy = "a kernel with high-resolution timers (CONFIG_HIGH_RES_TIMERS)";
        return Check::limited("clock", found, remedy);
    }
    Check::ok("clock", found)
}

fn stalls(longest: Duration) -> Check {
    let found = format!("the longest in {WATCHED:?} was {longest:.1?}");
    let remedy = "end what else runs on this machine, or give it cores of its own";
    if longest > DETECTION / 3 {
        let found = format!("{found}: with a detection time of {DETECTION:?} drills are INVALID");
        Check::limited("stalls", found, remedy)
    } else if longest > SLACK {
        let found = format!("{found}: outages are measured as longer by as much");
        Check::limited("stalls", found, remedy)
    } else {
        let found = format!("{found}; fit for a detection time of {DETECTION:?}");
        Check::ok("stalls", found)
    }
}

fn raw_sockets() -> Check {
    if host::has_net_raw().unwrap_or(false) {
        return Check::ok("cap-net-raw", "interfaces of this host can be ports");
    }
    let found = "interfaces of this host cannot be ports; labs do not need it";
    let remedy = "`sudo setcap cap_net_raw+ep \"$(command -v msee)\"`";
    Check::limited("cap-net-raw", found, remedy)
}

fn tool(tool: &Tool) -> Check {
    let Some(path) = find(tool.name) else {
        let found = format!("not found; {} needs it", tool.what_for);
        let remedy = format!("`sudo apt-get install {}`", tool.package);
        return Check::limited(tool.name, found, remedy);
    };
    let place = path.display().to_string();
    match version(&path, tool.version) {
        Some(version) => Check::ok(tool.name, format!("{version} ({place})")),
        None => Check::ok(tool.name, place),
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let further = FURTHER_FOLDERS.iter().map(PathBuf::from);
    let mut folders = env::split_paths(&path).chain(further);
    folders.find_map(|folder| Some(folder.join(program)).filter(|path| path.is_file()))
}

/// The first line that a program says when it is asked.
fn version(program: &Path, arguments: &[&str]) -> Option<String> {
    if arguments.is_empty() {
        return None;
    }
    let output = Command::new(program).args(arguments).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&said).lines().next()?.trim().to_owned();
    Some(line).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::State;

    #[test]
    fn a_stall_is_judged_by_the_detection_time() {
        let state = |millis| stalls(Duration::from_millis(millis)).state;
        assert_eq!(state(1), State::Ok);
        assert_eq!(state(61), State::Limited);
        assert!(stalls(Duration::from_millis(301)).found.contains("INVALID"));
        assert!(!stalls(Duration::from_millis(300)).found.contains("INVALID"));
    }

    #[test]
    fn every_refusal_has_a_cause_and_a_command() {
        for denied in [Denied::AppArmor, Denied::SwitchedOff, Denied::TooMany, Denied::Filtered] {
            let Check { state, found, remedy, .. } = refused(denied);
            assert_eq!(state, State::Failed);
            assert!(!found.contains('`'), "{found}");
            assert!(remedy.unwrap().contains('`'));
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_installs_it() {
        let missing =
            Tool { name: "msee-none", version: &[], package: "some-package", what_for: "this" };
        let check = tool(&missing);
        assert_eq!(check.state, State::Limited);
        assert_eq!(check.remedy.unwrap(), "`sudo apt-get install some-package`");
    }
}
