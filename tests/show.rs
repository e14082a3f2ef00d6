//! A running lab is asked and acted on through the real program: `msee show`, `msee lab do`, and
//! clients of its socket that mean harm. Where no sandbox can be made, the tests say `SKIPPED` and why.

#[path = "support/skip.rs"]
mod skip;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use msee::sys::clock;
use serde_json::Value;

const LAB: &str = "fixtures/labs/quickstart.yaml";
const NAME: &str = "quickstart";
/// How long the host may take for what takes a second or two.
const PATIENCE: Duration = Duration::from_mins(1);

/// A lab in the foreground, in a runtime folder of its own; ended when this is dropped.
struct Lab {
    folder: PathBuf,
    process: Child,
}

impl Lab {
    /// None where this host makes no sandbox.
    fn up(test: &str) -> Option<Self> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.join(format!("show-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = |name| fs::File::create(folder.join(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_msee"));
        let command = command.args(["lab", "up", LAB]).env("XDG_RUNTIME_DIR", &folder);
        let command = command.stdin(Stdio::null()).stdout(file("out")).stderr(file("errors"));
        let process = command.spawn().unwrap();
        let mut lab = Self { folder, process };
        let begun = clock::monotonic();
        while !lab.said().contains("all sessions Established") {
            if lab.process.try_wait().unwrap().is_some() {
                let errors = fs::read_to_string(lab.folder.join("errors")).unwrap();
                assert!(errors.contains("--wire virtual"), "{errors}");
                skip::skipped(errors.trim());
                return None;
            }
            assert!(clock::monotonic() < begun + PATIENCE, "{}", lab.said());
            sleep(Duration::from_millis(20));
        }
        Some(lab)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.join("out")).unwrap()
    }

    fn run(&self, words: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msee"));
        let command = command.args(words.split(' ')).env("XDG_RUNTIME_DIR", &self.folder);
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn page(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.page(&format!("show --json {words}"))).unwrap()
    }

    /// What is said of a command that is refused.
    fn refused(&self, words: &str) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(2), "{words}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.folder.join(format!("msee/{NAME}.sock"))).unwrap()
    }

    /// The state of the session of the primary link, as the customer's router has it.
    fn primary(&self) -> String {
        let rows = self.json("bgp ce1");
        let mut rows = rows.as_array().unwrap().iter();
        let row = rows.find(|row| row["name"] == "ams/primary").unwrap();
        row["statePfxRcd"].as_str().unwrap().to_owned()
    }

    fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = clock::monotonic();
        while !holds() {
            assert!(
                clock::monotonic() < begun + PATIENCE,
                "{what} within {PATIENCE:?}\n{}",
                self.said()
            );
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            let _ = self.run(&format!("lab down {NAME}"));
            let _ = self.process.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Rows of a table for a person, the columns' names first, their cells with one blank between.
fn lines(page: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = page.lines().filter(|line| !line.starts_with('-'));
    lines.map(words).collect()
}

/// What [`lines`] are of a table that is read as data.
fn as_lines(rows: &Value) -> Vec<String> {
    let rows: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| row.as_object().unwrap()).collect();
    let heading = |key: &String| key[..1].to_uppercase() + &key[1..];
    let cell = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    let join = |cells: Vec<String>| {
        cells.into_iter().filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" ")
    };
    let head = join(rows[0].keys().map(heading).collect());
    let body = rows.iter().map(|row| join(row.values().map(cell).collect()));
    std::iter::once(head).chain(body).collect()
}

#[test]
fn every_table_is_of_what_the_lab_has() {
    let Some(lab) = Lab::up("tables") else { return };
    // Tables in which nothing changes while a lab is left alone.
    for table in ["circuits", "routes", "routes ams/primary", "bfd", "effective-routes hub.app"] {
        assert_eq!(
            lines(&lab.page(&format!("show {table}"))),
            as_lines(&lab.json(table)),
            "{table}"
        );
    }
    let columns = |table: &str, rows: &Value| {
        let first = rows[0].as_object().unwrap_or_else(|| panic!("{table} is empty"));
        first.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    for (table, expected) in [
        ("routes", "node vrf network nextHop locPrf weight path"),
        ("arp", "node age interface ipAddress macAddress"),
        ("bgp", "node vrf neighbor v as upDown statePfxRcd name"),
        ("effective-routes", "node source state addressPrefix nextHopType nextHopIp"),
    ] {
        let rows = lab.json(table);
        assert_eq!(columns(table, &rows), expected);
        assert_eq!(lines(&lab.page(&format!("show {table}"))).len(), as_lines(&rows).len());
    }
    let has = |table: &str, of: &[(&str, &str)]| {
        let rows = lab.json(table);
        let is = |row: &&Value| of.iter().all(|(key, value)| row[*key] == *value);
        let found = rows.as_array().unwrap().iter().any(|row| is(&row));
        assert!(found, "{table} has no {of:?}: {rows:#}");
    };
    has("routes ams/primary", &[("network", "192.168.0.0/22"), ("path", "65010")]);
    has("bgp ce1", &[("neighbor", "172.16.0.2"), ("statePfxRcd", "1")]);
    has("arp ams/primary", &[("ipAddress", "172.16.0.1"), ("interface", "On-Prem")]);
    has("arp ams/primary", &[("ipAddress", "172.16.0.2"), ("interface", "Microsoft")]);
    has("bfd ce1", &[("neighbor", "172.16.0.2"), ("state", "Up")]);
    has("circuits ams", &[("primary", "up"), ("secondaryBgp", "1 of 1")]);
    has("effective-routes", &[("addressPrefix", "192.168.0.0/22"), ("state", "Active")]);
    for link in ["primary", "secondary"] {
        has("limits", &[("circuit", "ams"), ("link", link), ("direction", "to-azure")]);
        has("limits", &[("circuit", "ams"), ("link", link), ("direction", "to-onprem")]);
    }
    let drops = lab.json("quickstart drops");
    let sum = &drops["conservation"][0];
    assert_eq!(sum["held"], true);
    let count = |key: &str| sum[key].as_u64().unwrap();
    assert_eq!(
        count("received") + count("originated"),
        count("transmitted") + count("consumed") + count("queued") + count("dropped")
    );
    let all: u64 =
        drops["drops"].as_array().unwrap().iter().filter_map(|d| d["packets"].as_u64()).sum();
    assert_eq!(all, count("dropped"), "{drops:#}");
    let ports: Vec<_> = drops["ports"].as_array().unwrap().iter().map(|p| &p["port"]).collect();
    assert_eq!(ports, ["dc1.erp", "hub.app"]);

    assert!(lab.refused("show quikstart bgp").contains("did you mean quickstart?"));
    assert!(lab.refused("show rotes").contains("did you mean routes?"));
    assert!(lab.refused("show arp ams/primry").contains("did you mean ams/primary?"));
    assert!(lab.refused("show effective-routes dc1.erp").contains("hub"));
}

/// Between the kernels of two hosts: one sees answers twice, and what was spoilt on the way never came.
#[test]
fn what_a_link_alters_is_counted() {
    let Some(lab) = Lab::up("alters") else { return };
    for link in ["primary", "secondary"] {
        lab.page(&format!("lab do impair --at ams/{link}:access --corrupt 5% --duplicate 50%"));
    }
    let ping = lab.run("lab exec dc1.erp -- ping -c 100 -i 0.01 -w 20 10.1.0.4");
    let said = String::from_utf8_lossy(&ping.stdout).into_owned();
    assert!(said.contains("(DUP!)"), "{said}");
    let drops = lab.json("drops");
    let altered = |of: &str| -> u64 {
        drops["altered"].as_array().unwrap().iter().filter_map(|row| row[of].as_u64()).sum()
    };
    assert!(altered("corrupted") > 0 && altered("duplicated") > 50, "{drops:#}");
    assert_eq!(altered("truncated") + altered("reordered"), 0, "{drops:#}");
    assert_eq!(drops["conservation"][0]["held"], true, "{drops:#}");
    lab.page("lab do restore");
}

#[test]
fn what_is_cut_is_down_and_comes_back_when_it_is_restored() {
    let Some(lab) = Lab::up("cut") else { return };
    let place = lab.refused("lab do cut --at ams/primry");
    assert!(place.contains("did you mean `ams/primary"), "{place}");
    assert_eq!(lab.primary(), "1", "nothing was done");

    let page = lab.page("lab do cut --at ams/primary:nni --watch=3");
    assert!(page.starts_with("cut ams/primary:nni\n"), "{page}");
    let of = |kind: &str| page.find(kind).unwrap_or_else(|| panic!("{kind} in\n{page}"));
    assert!(of("carrier-down") < of("bgp-down") && of("bgp-down") < of("routes-withdrawn"));
    lab.wait_until("the session is down", || lab.primary().parse::<u64>().is_err());
    assert_eq!(lab.json("circuits")[0]["primary"], "no carrier");
    assert_eq!(lab.json("circuits")[0]["secondary"], "up");

    lab.page("lab do restore");
    lab.wait_until("the session is back", || lab.primary() == "1");
    assert_eq!(lab.json("circuits")[0]["primary"], "up");
    assert!(lab.refused("lab do restore").contains("nothing to restore"));
    // Not on a terminal: a line for each change.
    lab.wait_until("the lab tells of it", || {
        let said = lab.said();
        said.contains("ams/primary no carrier 0 of 1") && said.ends_with("dropped\n")
    });
}

#[test]
fn clients_that_mean_harm_do_none() {
    let Some(lab) = Lab::up("harm") else { return };
    let ended = Arc::new(AtomicBool::new(false));
    // Sends without an end of line, again and again.
    let endless = {
        let (folder, ended) = (lab.folder.clone(), Arc::clone(&ended));
        thread::spawn(move || {
            let mut times = 0;
            while !ended.load(Ordering::Relaxed) {
                let mut client =
                    UnixStream::connect(folder.join(format!("msee/{NAME}.sock"))).unwrap();
                while !ended.load(Ordering::Relaxed) && client.write_all(&[b'x'; 4096]).is_ok() {}
                times += 1;
            }
            times
        })
    };
    // Asks without end and never reads.
    let deaf: Vec<_> = (0..4)
        .map(|_| {
            let mut client = lab.connect();
            client.set_nonblocking(true).unwrap();
            for _ in 0..1000 {
                let _ = client.write(b"{\"show\":{\"table\":\"routes\",\"node\":null}}\n");
            }
            client
        })
        .collect();
    let mut garbage = lab.connect();
    garbage.write_all(b"\xff\xfe{\"show\"\n[[[[\n{\"end\":{}}\n").unwrap();
    let mut answers = [0; 8];
    garbage.read_exact(&mut answers).unwrap();
    assert_eq!(&answers, b"{\"error\"");

    let ping = "lab exec dc1.erp -- ping -q -c 40 -i 0.05 -W 2 10.1.0.4";
    let pinged = thread::scope(|scope| {
        let pinged = scope.spawn(|| lab.run(ping));
        for _ in 0..20 {
            assert_eq!(lab.primary(), "1");
        }
        pinged.join().unwrap()
    });
    ended.store(true, Ordering::Relaxed);
    assert!(endless.join().unwrap() > 0);
    drop(deaf);
    let text = String::from_utf8_lossy(&pinged.stdout) + String::from_utf8_lossy(&pinged.stderr);
    if text.contains("No such file") {
        skip::skipped("show: ping is not installed");
    } else {
        assert!(text.contains(" 0% packet loss"), "{text}");
    }
    let rows = lab.json("bgp");
    let up = |row: &Value| row["statePfxRcd"].as_str().unwrap().parse::<u64>().is_ok();
    assert!(rows.as_array().unwrap().iter().all(up), "{rows:#}");
}
