//! `msee doctor` on veth pairs of its own: what it says of ports that are fit and of those that are not.

#[path = "support/skip.rs"]
mod skip;

use std::process::{Command, Output};

use serde_json::Value;

/// Every check of the host, in the order of the output.
const HOST: &[&str] = &[
    "user-namespaces",
    "packet-sockets",
    "receive-buffer",
    "cores",
    "clock",
    "stalls",
    "cap-net-raw",
    "bgpd",
    "vtysh",
    "bird",
    "iperf3",
    "tshark",
];
const PORT: &[&str] = &[
    "port",
    "port-mtu",
    "port-carrier",
    "port-offloads",
    "untagged",
    "tagged",
    "double-tagged",
    "1508-byte",
];
/// Beside those, with a peer.
const BACK: &[&str] = &["untagged-in", "tagged-in", "double-tagged-in", "1508-byte-in"];
const SHORT: &[&str] = &["untagged", "tagged", "double-tagged"];

/// What a run of it says.
struct Said {
    code: i32,
    findings: Value,
}

impl Said {
    fn check(&self, name: &str) -> &Value {
        let checks = self.findings["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {checks:#?}"))
    }

    fn state(&self, name: &str) -> &str {
        self.check(name)["state"].as_str().unwrap()
    }

    fn text(&self, name: &str, key: &str) -> &str {
        self.check(name)[key].as_str().unwrap()
    }

    fn names(&self) -> Vec<&str> {
        let checks = self.findings["checks"].as_array().unwrap();
        checks.iter().map(|check| check["name"].as_str().unwrap()).collect()
    }
}

/// Runs a script, then the doctor, in namespaces of their own; none where the host has none.
fn doctor(script: &str, arguments: &str) -> Option<Said> {
    let binary = env!("CARGO_BIN_EXE_msee");
    let script =
        format!("set -e; mount -t tmpfs none /run; {script} exec {binary} doctor {arguments}");
    let unshare = ["-Urnmp", "--fork", "--kill-child", "--mount-proc"];
    if !Command::new("unshare").args(unshare).arg("true").output().is_ok_and(|o| o.status.success())
    {
        skip::skipped("the doctor on veth pairs: no user namespaces");
        return None;
    }
    let mut command = Command::new("unshare");
    let Output { status, stdout, stderr } =
        command.args(unshare).args(["sh", "-c", &script]).output().unwrap();
    let errors = String::from_utf8_lossy(&stderr);
    let findings = serde_json::from_slice(&stdout).unwrap_or_else(|error| {
        panic!("{error}: {errors}{}", String::from_utf8_lossy(&stdout));
    });
    Some(Said { code: status.code().unwrap(), findings })
}

fn pair(near: usize, far: usize) -> String {
    format!(
        "ip link add near mtu {near} type veth peer name far mtu {far}; \
         ip link set near up; ip link set far up;"
    )
}

#[test]
fn its_json_has_every_check_in_its_place_and_a_remedy_for_what_is_not_well() {
    let Some(said) = doctor("", "--json") else { return };
    assert_eq!(said.names(), HOST);
    let mut failed = false;
    for check in said.findings["checks"].as_array().unwrap() {
        let keys: Vec<_> = check.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["name", "state", "found", "remedy"]);
        match check["state"].as_str().unwrap() {
            "ok" => assert!(check["remedy"].is_null(), "{check}"),
            "limited" => assert!(check["remedy"].is_string(), "{check}"),
            "failed" => {
                failed = true;
                assert!(check["remedy"].is_string(), "{check}");
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(said.findings["fit"], Value::Bool(!failed));
    assert_eq!(said.code, i32::from(failed));
    assert!(!failed, "labs run where namespaces can be made: {:#}", said.findings);
}

#[test]
fn a_port_that_is_fit_carries_every_test_frame() {
    let Some(said) = doctor(&pair(1508, 1508), "--json --port near --peer far") else { return };
    assert_eq!(said.names(), [HOST, PORT, BACK].concat());
    for name in [PORT, BACK].concat() {
        assert_eq!(said.state(name), "ok", "{}", said.check(name));
    }
    for name in PORT.iter().skip(4).chain(BACK) {
        assert_eq!(said.text(name, "found"), "arrives");
    }
    assert_eq!(said.code, 0);
}

#[test]
fn a_peer_may_be_in_another_namespace_and_may_be_left_out() {
    let script = pair(1508, 1508)
        + "ip netns add ce1; ip link set far netns ce1; ip -n ce1 link set far up;";
    let arguments = "--json --port near --peer far --peer-netns ce1";
    let Some(said) = doctor(&script, arguments) else { return };
    assert_eq!(said.text("1508-byte", "found"), "arrives");
    assert_eq!(said.text("1508-byte-in", "found"), "arrives");
    let Some(said) = doctor(&script, "--json --port near") else { return };
    assert_eq!(said.names(), [HOST, PORT].concat());
    assert!(said.text("1508-byte", "found").starts_with("is sent;"));
    let Some(said) = doctor(&pair(1508, 1508), arguments) else { return };
    assert_eq!(said.state("port-frames"), "failed");
    assert!(said.text("port-frames", "found").starts_with("network namespace ce1: "));
}

#[test]
fn an_mtu_of_1500_is_told_from_one_of_1508_at_either_end() {
    let arguments = "--json --port near --peer far";
    let Some(said) = doctor(&pair(1500, 1500), arguments) else { return };
    assert_eq!(said.state("port-mtu"), "failed");
    assert_eq!(said.text("port-mtu", "remedy"), "`sudo ip link set near mtu 1508`");
    assert_eq!(said.text("1508-byte", "found"), "is not taken by the interface");
    assert_eq!(said.code, 1);
    let Some(far) = doctor(&pair(1508, 1500), arguments) else { return };
    assert_eq!(far.state("port-mtu"), "ok");
    assert_eq!(far.state("1508-byte"), "failed");
    assert!(far.text("1508-byte", "remedy").contains("the other end"));
    assert_eq!(far.text("1508-byte-in", "found"), "is not taken by far");
    assert!(far.text("1508-byte-in", "remedy").starts_with("`sudo ip link set far up mtu 1508`"));
    assert_eq!(far.code, 1);
    for (said, name) in
        [said, far].iter().flat_map(|said| SHORT.iter().map(move |name| (said, name)))
    {
        assert_eq!(said.text(name, "found"), "arrives", "{name}");
    }
}

#[test]
fn what_is_down_or_not_there_is_said_with_what_to_do() {
    let down = pair(1508, 1508) + "ip link set far down;";
    let Some(said) = doctor(&down, "--json --port near") else { return };
    assert_eq!(said.text("port-carrier", "found"), "nothing at the other end");
    let down = pair(1508, 1508) + "ip link set near down;";
    let Some(said) = doctor(&down, "--json --port near --peer far") else { return };
    assert_eq!(said.text("port-carrier", "remedy"), "`sudo ip link set near up`");
    assert_eq!(said.state("untagged"), "failed");
    let Some(said) = doctor("", "--json --port eth77") else { return };
    assert_eq!(said.names().last(), Some(&"port"));
    assert!(said.text("port", "found").contains("eth77"));
    assert_eq!(said.code, 1);
}
