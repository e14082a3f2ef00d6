//! Labs on real frames as an ordinary user has them: what is in their namespaces, and that nothing
//! is left of them however they end.
//!
//! Run by root, everything here is run as the user 65534, who may do nothing. Where the host denies
//! user namespaces the tests say so and skip.

#[path = "support/skip.rs"]
mod skip;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

const NOBODY: u32 = 65534;
/// Between two looks at something that takes a moment.
const LOOK: Duration = Duration::from_millis(20);
/// After which what has not happened is taken not to happen.
const LOOKS: u32 = 1500;

/// A user with a runtime directory and a lab file of their own.
struct User {
    folder: PathBuf,
    /// Whether the host lets them have namespaces.
    may: bool,
}

impl User {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("msee-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        // Where it was built may be closed to others.
        fs::copy(env!("CARGO_BIN_EXE_msee"), folder.join("msee")).unwrap();
        let runtime = folder.join("runtime");
        fs::create_dir(&runtime).unwrap();
        if is_root() {
            chown(&runtime, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut user = Self { folder, may: true };
        user.write_lab("quickstart");
        user.may = user.may_have_namespaces();
        user
    }

    /// The quick-start lab under another name.
    fn write_lab(&self, name: &str) -> PathBuf {
        let text = fs::read_to_string("fixtures/labs/quickstart.yaml").unwrap();
        let path = self.folder.join(format!("{name}.yaml"));
        fs::write(&path, text.replace("name: quickstart", &format!("name: {name}"))).unwrap();
        path
    }

    fn file(&self) -> PathBuf {
        self.folder.join("quickstart.yaml")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("XDG_RUNTIME_DIR", self.folder.join("runtime")).current_dir("/");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn msee(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(self.folder.join("msee").to_str().unwrap());
        command.args(arguments);
        command
    }

    fn may_have_namespaces(&self) -> bool {
        let try_out = self.command("unshare").args(["-Urnm", "true"]).output().unwrap();
        let uid = if is_root() { NOBODY } else { fs::metadata("/proc/self").unwrap().uid() };
        eprintln!("as uid {uid}, user namespaces: {}", try_out.status);
        let may = try_out.status.success();
        if !may {
            skip::skipped(&format!("a lab of an ordinary user: {}", error_text(&try_out)));
        }
        may
    }

    /// Starts the quick-start lab and waits until it is ready.
    fn up(&self) -> RunningLab<'_> {
        let child = self
            .msee(&["lab", "up", self.file().to_str().unwrap()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lab = RunningLab { user: self, child, init: 0, namespaces: BTreeSet::new() };
        eventually("the lab is ready", || {
            assert_eq!(lab.child.try_wait().unwrap(), None, "the lab ended");
            self.msee(&["lab", "exec", "hub.app", "--", "true"]).output().unwrap().status.success()
        });
        lab.init = child_of(lab.child.id()).expect("a lab has an init");
        lab.namespaces = ["net", "mnt", "pid", "user", "uts"]
            .iter()
            .filter_map(|kind| fs::read_link(format!("/proc/{}/ns/{kind}", lab.init)).ok())
            .map(|link| link.to_string_lossy().into_owned())
            .collect();
        for host in ["dc1.erp", "hub.app"] {
            let namespace = self.exec(host, &["readlink", "/proc/self/ns/net"]);
            lab.namespaces.insert(text(&namespace).trim().to_owned());
        }
        lab.namespaces.retain(|namespace| !own_namespaces().contains(namespace));
        lab
    }

    fn exec(&self, place: &str, program: &[&str]) -> Output {
        self.msee(&[&["lab", "exec", place, "--"], program].concat()).output().unwrap()
    }

    fn list(&self) -> serde_json::Value {
        let output = self.msee(&["lab", "list", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).expect("list prints JSON")
    }

    /// Processes that were started with something of this user's folder on their command line.
    fn processes(&self) -> Vec<String> {
        let folder = self.folder.to_string_lossy().into_owned();
        let named = |pid: &u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains(&folder).then(|| format!("{pid} {}", line.replace('\0', " ")))
        };
        pids().iter().filter_map(named).collect()
    }

    /// What is in the folder of running labs.
    fn registered(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder.join("runtime/msee"));
        files.map(|files| files.map(|file| file.unwrap().path()).collect()).unwrap_or_default()
    }
}

/// A failed test leaves no lab running.
impl Drop for User {
    fn drop(&mut self) {
        for lab in ["quickstart", "other", "edges"] {
            let _ = self.msee(&["lab", "down", lab]).output();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A lab in the foreground, and what it has made.
struct RunningLab<'u> {
    user: &'u User,
    child: Child,
    init: u32,
    /// As /proc/PID/ns names them; only those that are not the test's own.
    namespaces: BTreeSet<String>,
}

impl RunningLab<'_> {
    /// Asserts that every trace of it goes. A namespace, and so its links, is there as long as a
    /// process is in it, or one of its mounts, which are in a namespace as well.
    fn leaves_nothing(mut self, how: &str) {
        assert!(self.namespaces.len() >= 6, "{:?}", self.namespaces);
        eventually(&format!("{how}: the command returns"), || {
            self.child.try_wait().unwrap().is_some()
        });
        eventually(&format!("{how}: no process, no namespace, no file is left"), || {
            self.user.processes().is_empty()
                && self.namespaces.is_disjoint(&namespaces_in_use())
                && self.user.registered().is_empty()
        });
        assert_eq!(self.user.list(), serde_json::json!([]), "{how}");
    }
}

impl Drop for RunningLab<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_host_has_its_addresses_and_is_reached_from_any_terminal() {
    let user = User::new();
    if !user.may {
        return;
    }
    let _lab = user.up();
    let addresses = text(&user.exec("dc1.erp", &["ip", "addr"]));
    assert!(addresses.contains("inet 192.168.0.10/22"), "{addresses}");
    assert!(addresses.contains("02:4d:7f:ff:00:00"), "{addresses}");
    assert!(addresses.contains("mtu 1500") && !addresses.contains("NO-CARRIER"), "{addresses}");
    let routes = text(&user.exec("quickstart/hub.app", &["ip", "route"]));
    assert_eq!(routes.trim(), "default via 10.1.0.1 dev eth0 proto static onlink");
    // Its own address answers, the names of `ip netns` are there, and /sys is the node's.
    let own = "exec 3<>/dev/udp/10.1.0.4/9 && echo there >&3 && echo sent";
    assert_eq!(text(&user.exec("hub.app", &["bash", "-c", own])), "sent\n");
    let other = ["ip", "netns", "exec", "hub.app", "ip", "-br", "addr", "show", "eth0"];
    assert!(text(&user.exec("dc1.erp", &other)).contains("10.1.0.4/16"));
    assert_eq!(text(&user.exec("hub.app", &["ls", "/sys/class/net"])), "eth0\nlo\n");
    assert_eq!(text(&user.exec("hub.app", &["hostname"])), "hub.app\n");
    // Init, the lab, the control planes of its seven routers and this shell.
    let processes = text(&user.exec("hub.app", &["sh", "-c", "echo /proc/[0-9]*"]));
    assert_eq!(processes.split_whitespace().count(), 10, "{processes}");
}

#[test]
fn the_routers_side_is_silent() {
    let user = User::new();
    if !user.may {
        return;
    }
    let lab = user.up();
    // As the lab's own processes see it.
    let mut inside = user.command("nsenter");
    let target = lab.init.to_string();
    inside.args(["-t", &target, "-U", "-n", "--preserve-credentials"]);
    let output = inside.args(["ip", "-d", "addr"]).output().unwrap();
    let links = text(&output);
    for host in ["dc1.erp@", "hub.app@"] {
        let line = links.lines().find(|line| line.contains(host)).expect("named after the host");
        assert!(line.contains("NOARP") && line.contains("mtu 1508"), "{line}");
        assert!(line.contains("LOWER_UP"), "{line}");
    }
    let (_, beside_loopback) = links.split_once("dc1.erp@").unwrap();
    assert!(!beside_loopback.contains("inet"), "{links}");
}

#[test]
fn nothing_is_left_however_a_lab_ends() {
    let user = User::new();
    if !user.may {
        return;
    }
    let host_before = host_state();
    for (how, what, whom) in [
        ("Ctrl-C", signal::INT, Whom::Outer),
        ("SIGTERM", signal::TERM, Whom::Outer),
        ("kill -9 of the command", signal::KILL, Whom::Outer),
        ("kill -9 of init", signal::KILL, Whom::Init),
        ("kill -9 of the lab", signal::KILL, Whom::Lab),
    ] {
        let lab = user.up();
        assert_eq!(host_state(), host_before, "{how}: the host's own network is not touched");
        let (mut visitor, mut orphan) = busy_host(&user);
        let outer = lab.child.id();
        let victim = match whom {
            Whom::Outer => outer,
            Whom::Init => lab.init,
            Whom::Lab => child_of(lab.init).expect("init has a child"),
        };
        send(what, victim);
        eventually(&format!("{how}: programs in a host end"), || {
            visitor.try_wait().unwrap().is_some() && orphan.try_wait().unwrap().is_some()
        });
        lab.leaves_nothing(how);
    }
    assert_eq!(host_state(), host_before);
}

#[derive(Clone, Copy)]
enum Whom {
    Outer,
    Init,
    Lab,
}

/// A program in a host that waits, and one that another left behind in the background.
fn busy_host(user: &User) -> (Child, Child) {
    let tag = user.folder.to_string_lossy().into_owned();
    let wait = ["lab", "exec", "dc1.erp", "--", "sh", "-c", "sleep 1000; true", &tag];
    let visitor = user.msee(&wait).spawn().unwrap();
    let leave = "setsid sh -c 'sleep 1000; true' $0 > /dev/null 2>&1 & true";
    let orphan = user.msee(&["lab", "exec", "hub.app", "--", "sh", "-c", leave, &tag]).spawn();
    let left_behind =
        |line: &String| line.contains("sleep 1000") && !line.contains("exec") && !line.is_empty();
    eventually("two programs run in the hosts", || {
        user.processes().iter().filter(|line| left_behind(line)).count() == 2
    });
    (visitor, orphan.unwrap())
}

#[test]
fn a_detached_lab_goes_on_until_it_is_taken_down() {
    let user = User::new();
    if !user.may {
        return;
    }
    let file = user.file();
    let up = ["lab", "up", "--detach", file.to_str().unwrap()];
    let output = user.msee(&up).output().unwrap();
    assert!(output.status.success(), "{}", error_text(&output));
    let list = user.list();
    assert_eq!(list[0]["name"], "quickstart");
    assert_eq!(list[0]["nodes"], serde_json::json!(["dc1.erp", "hub.app"]));
    assert!(list[0]["since"].as_str().unwrap().ends_with('Z'));
    let keys: Vec<_> = list[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["name", "pid", "nodes", "since", "control"]);
    assert_eq!(list[0]["control"].as_object().unwrap().len(), 7, "one a router");

    let again = user.msee(&up).output().unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(error_text(&again).contains("lab quickstart runs already"), "{}", error_text(&again));

    let other = user.write_lab("other");
    let beside = user.msee(&["lab", "up", "--detach", other.to_str().unwrap()]).output().unwrap();
    assert!(beside.status.success(), "{}", error_text(&beside));
    let ambiguous = user.exec("dc1.erp", &["true"]);
    assert!(error_text(&ambiguous).contains("other, quickstart"), "{}", error_text(&ambiguous));
    assert!(user.exec("other/dc1.erp", &["true"]).status.success());

    for lab in ["quickstart", "other"] {
        let down = user.msee(&["lab", "down", lab]).output().unwrap();
        assert!(down.status.success(), "{}", error_text(&down));
        assert!(user.processes().iter().all(|line| !line.contains(&format!("{lab}.yaml"))));
    }
    assert_eq!(user.registered(), [] as [PathBuf; 0]);
    let nothing = user.msee(&["lab", "down"]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
    assert!(error_text(&nothing).contains("no lab runs"));
}

#[test]
fn a_program_in_a_node_is_as_if_it_were_run_here() {
    let user = User::new();
    if !user.may {
        return;
    }
    let _lab = user.up();
    assert_eq!(user.exec("dc1.erp", &["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(user.exec("dc1.erp", &["sh", "-c", "kill -9 $$"]).status.code(), Some(128 + 9));
    let missing = user.exec("dc1.erp", &["/no/such/program"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(error_text(&missing).contains("/no/such/program"));
    let unknown = user.exec("dc1.erq", &["true"]);
    assert!(error_text(&unknown).contains("did you mean dc1.erp?"), "{}", error_text(&unknown));

    // What ends the command ends the program.
    for what in [signal::TERM, signal::KILL] {
        let tag = user.folder.join(what).to_string_lossy().into_owned();
        let wait = ["lab", "exec", "dc1.erp", "--", "sh", "-c", "sleep 1000; true", &tag];
        let mut command = user.msee(&wait).spawn().unwrap();
        let running = || {
            let ours = |line: &&String| line.contains(&tag) && !line.contains("exec");
            user.processes().iter().filter(ours).count()
        };
        eventually("the program runs", || running() == 1);
        send(what, command.id());
        command.wait().unwrap();
        eventually("the program is gone", || running() == 0);
    }
}

#[test]
fn a_file_without_a_lab_is_removed() {
    let user = User::new();
    let folder = user.folder.join("runtime/msee");
    // The first look makes the folder.
    assert_eq!(user.list(), serde_json::json!([]));
    let stale = folder.join("gone.json");
    fs::write(&stale, r#"{"name":"gone","pid":1,"init":1,"nodes":[]}"#).unwrap();
    if is_root() {
        chown(&stale, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    assert_eq!(user.list(), serde_json::json!([]));
    assert_eq!(user.registered(), [] as [PathBuf; 0]);
}

#[test]
fn a_host_that_denies_namespaces_is_told_with_the_remedy() {
    let user = User::new();
    if !user.may {
        return;
    }
    // Root of a namespace that allows no further one, and without the right to do without.
    let deny = "echo 0 > /proc/sys/user/max_user_namespaces; \
                exec setpriv --bounding-set=-sys_admin \"$0\" lab up \"$1\"";
    let file = user.file();
    let output = user
        .command("unshare")
        .args([
            "-Ur",
            "sh",
            "-c",
            deny,
            user.folder.join("msee").to_str().unwrap(),
            file.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    let told = error_text(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("sudo sysctl -w user.max_user_namespaces="), "{told}");
    assert!(told.contains("--wire virtual"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert_eq!(user.registered(), [] as [PathBuf; 0]);
}

/// Signals by the names that `kill` takes.
mod signal {
    pub const INT: &str = "INT";
    pub const TERM: &str = "TERM";
    pub const KILL: &str = "KILL";
}

fn send(signal: &str, pid: u32) {
    let kill = Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap();
    assert!(kill.success());
}

/// Interfaces and mounts of the test's own namespaces, and whether they forward.
fn host_state() -> (BTreeSet<String>, String, String) {
    let interfaces = fs::read_dir("/sys/class/net").unwrap();
    let names = interfaces.map(|found| found.unwrap().file_name().to_string_lossy().into_owned());
    let forwards = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    (names.collect(), fs::read_to_string("/proc/self/mountinfo").unwrap(), forwards)
}

fn own_namespaces() -> BTreeSet<String> {
    namespaces_of("self").into_iter().collect()
}

/// Namespaces of every process that can be looked at.
fn namespaces_in_use() -> BTreeSet<String> {
    pids().iter().flat_map(|pid| namespaces_of(&pid.to_string())).collect()
}

fn namespaces_of(process: &str) -> Vec<String> {
    let Ok(links) = fs::read_dir(Path::new("/proc").join(process).join("ns")) else {
        return Vec::new();
    };
    let target = |link: std::io::Result<fs::DirEntry>| fs::read_link(link.ok()?.path()).ok();
    links.filter_map(target).map(|target| target.to_string_lossy().into_owned()).collect()
}

/// A child of a process, the first that is found.
fn child_of(parent: u32) -> Option<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which is in brackets: the state and the parent.
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start().to_owned());
        rest.is_some_and(|rest| rest.split(' ').nth(1) == Some(&parent.to_string()))
    };
    pids().into_iter().find(is_child)
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if is_so() {
            return;
        }
        sleep(LOOK);
    }
    panic!("{what}: not after {:?}", LOOK * LOOKS);
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", error_text(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn error_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
