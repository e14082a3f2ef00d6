//! What is at the other ends of a lab's ports, in the namespaces of [`isolated`](crate::isolated).

use std::fs;
use std::path::Path;

use crate::isolated::run;
use crate::skip;

/// Room for the files of a test and for network namespaces, each with its loopback up.
pub fn prepare(namespaces: &[&str]) {
    run("mount", "-t tmpfs none /run");
    fs::create_dir("/run/netns").unwrap();
    run("ip", "link set lo up");
    for name in namespaces {
        run("ip", &format!("netns add {name}"));
        run("ip", &format!("-n {name} link set lo up"));
    }
}

/// A pair of interfaces, the second in a namespace, both up.
pub fn pair(near: &str, namespace: &str, far: &str) {
    run("ip", &format!("link add {near} mtu 1508 type veth peer name {far} netns {namespace}"));
    run("ip", &format!("-n {namespace} link set {far} mtu 1500 up"));
    run("ip", &format!("link set {near} up"));
}

/// FRR as its container starts it, with a folder of configuration.
pub fn frr(namespace: &str, configuration: &Path) {
    fs::create_dir("/run/frr").unwrap();
    fs::write("/run/group", "root:x:0:root\nfrrvty:x:0:root\n").unwrap();
    run("mount", "--bind /run/group /etc/group");
    run("mount", &format!("--bind {} /etc/frr", configuration.display()));
    run("mount", "-t tmpfs none /var/tmp");
    for daemon in ["zebra", "staticd", "bfdd", "bgpd"] {
        let bfdctl = if daemon == "bfdd" { "--bfdctl /run/frr/bfdd.sock" } else { "" };
        run(
            "ip",
            &format!(
                "netns exec {namespace} /usr/lib/frr/{daemon} -d -u root -g root -P 0 -f /dev/null \
                 --vty_socket /run/frr -z /run/frr/zserv.api -i /run/frr/{daemon}.pid \
                 --log file:/run/frr/{daemon}.log {bfdctl}"
            ),
        );
    }
    run("ip", &format!("netns exec {namespace} vtysh -b"));
}

/// Whether programs are there; without one the test is skipped.
pub fn has(programs: &[&str], remedy: &str) -> bool {
    let missing = programs.iter().find(|program| !Path::new(program).exists());
    if let Some(program) = missing {
        skip::skipped(&format!("no {program}: {remedy}"));
    }
    missing.is_none()
}
