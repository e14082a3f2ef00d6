//! A test's own network: namespaces, veth pairs and threads in them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::isolated;
pub use crate::isolated::run;

/// Runs `body` as the test `name` in namespaces with no frames but its own.
pub fn isolated(name: &str, body: impl FnOnce()) {
    isolated::isolated(name, || {
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        run("ip", "link set lo up");
        body();
    });
}

/// A veth pair in this namespace, both ends up.
pub fn veth(ends: [&str; 2], mtu: usize) {
    let [first, second] = ends;
    run("ip", &format!("link add name {first} mtu {mtu} type veth peer name {second} mtu {mtu}"));
    for end in ends {
        run("ip", &format!("link set {end} up"));
    }
}

/// A further network namespace, and a process that keeps it.
pub struct Namespace(Child);

impl Namespace {
    pub fn new() -> Self {
        let own = network_of("self");
        let mut keeper = Command::new("unshare");
        keeper.args(["-n", "sleep", "600"]).stdin(Stdio::null()).process_group(0);
        let keeper = keeper.spawn().unwrap();
        let pid = keeper.id().to_string();
        while network_of(&pid) == own {
            thread::sleep(Duration::from_millis(1));
        }
        Self(keeper)
    }

    /// Moves an interface here and gives it an address.
    pub fn take(&self, interface: &str, address: &str) {
        run("ip", &format!("link set {interface} netns {}", self.0.id()));
        self.run("sysctl", "-qw net.ipv6.conf.all.disable_ipv6=0");
        self.run("ip", &format!("addr add {address} dev {interface}"));
        self.run("ip", &format!("link set {interface} up"));
    }

    pub fn run(&self, program: &str, arguments: &str) {
        run("nsenter", &format!("-t {} -n {program} {arguments}", self.0.id()));
    }

    /// Runs `body` in a thread that lives here.
    pub fn spawn<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap();
        thread::spawn(move || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(rustix::fd::AsFd::as_fd(&network), kind).unwrap();
            body()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn network_of(process: &str) -> String {
    let link = fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
    link.to_string_lossy().into_owned()
}
