//! Tests in namespaces of their own, which `unshare` makes without privileges.

use std::process::Command;

use crate::skip;

/// Set in the process that runs in its own namespaces.
const INSIDE: &str = "MSEE_TEST_NAMESPACES";
/// After which a test that hangs is ended, with all that it made.
const SECONDS_MAX: &str = "120";

/// Runs the test `name` again in its own user, network, mount and pid namespaces, and there `body`.
/// Where the host allows none, the test is skipped.
pub fn isolated(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let unshare = ["-Urnmp", "--fork", "--kill-child", "--mount-proc"];
    match Command::new("unshare").args(unshare).arg("true").output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            return skip::skipped(&format!("{name}: no namespaces: {}", why.trim()));
        }
        Err(error) => return skip::skipped(&format!("{name}: no `unshare`: {error}")),
    }
    let status = Command::new("timeout")
        .args(["-s", "KILL", SECONDS_MAX, "unshare"])
        .args(unshare)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name} failed in its namespaces");
}

/// Runs a command whose arguments have no spaces.
pub fn run(program: &str, arguments: &str) {
    let status = Command::new(program).args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "{program} {arguments}");
}
