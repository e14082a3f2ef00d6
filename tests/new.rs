//! `msee drill new`: what it writes is checked, runs, passes and can be extended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn msee(folder: &Path, arguments: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_msee"));
    Command::new(program).current_dir(folder).args(arguments).output().unwrap()
}

fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let output = msee(folder, arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "msee {arguments:?}\n{text}{errors}");
    text
}

fn empty_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn the_starter_is_checked_and_passes() {
    let folder = empty_folder("starter");
    let told = succeeds(&folder, &["drill", "new", "mine/edge"]);
    let next = told.lines().last().unwrap().strip_prefix("Next: msee ").unwrap();
    succeeds(&folder, &["check", "mine/edge/lab.yaml"]);
    succeeds(&folder, &["check", "mine/edge/drill.yaml"]);
    let next: Vec<_> = next.split(' ').chain(["--runs", "1"]).collect();
    let page = succeeds(&folder, &next);
    assert!(page.starts_with("PASS"), "{page}");
}

/// Lines that are only suggested are right as well.
#[test]
fn the_starter_is_right_with_every_line_it_suggests() {
    let folder = empty_folder("suggested");
    succeeds(&folder, &["drill", "new"]);
    let mut suggested = 0;
    for name in ["lab.yaml", "drill.yaml"] {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        let lines = text.lines().map(|line| {
            // A key or an entry at the start of a comment; prose has neither.
            let Some((indent, rest)) = line.split_once("# ") else { return line.to_owned() };
            let word = rest.split([' ', ':']).next().unwrap();
            let key = ["rateInMbps", "sharedKey", "policy", "runs"].contains(&word);
            if !indent.trim().is_empty() || !(key || rest.starts_with("- {")) {
                return line.to_owned();
            }
            suggested += 1;
            format!("{indent}{rest}")
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        fs::write(folder.join(name), text).unwrap();
    }
    assert_eq!(suggested, 3);
    let told = succeeds(&folder, &["check", "drill.yaml"]);
    assert!(told.contains("TCP connections"), "{told}");
}

#[test]
fn nothing_is_overwritten() {
    let folder = empty_folder("there");
    fs::write(folder.join("drill.yaml"), "mine").unwrap();
    let output = msee(&folder, &["drill", "new", "."]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("drill.yaml: is there already"), "{errors}");
    assert_eq!(fs::read_to_string(folder.join("drill.yaml")).unwrap(), "mine");
    assert!(!folder.join("lab.yaml").exists());
}

#[test]
fn a_variant_says_only_what_differs() {
    let folder = empty_folder("variant");
    succeeds(&folder, &["drill", "new"]);
    let lab = "extends: lab.yaml
circuits: [ { name: ams, serviceProviderProperties: { bandwidthInMbps: 200 } } ]
";
    let drill = "extends: ../drill.yaml
lab: smaller.yaml
name: only to Azure
expect: [ { that: outage, of: erp, direction: to-azure, during: silent-loss, max: 960ms } ]
";
    fs::create_dir(folder.join("variants")).unwrap();
    fs::write(folder.join("variants/smaller.yaml"), lab.replace("lab.yaml", "../lab.yaml"))
        .unwrap();
    fs::write(folder.join("variants/drill.yaml"), drill).unwrap();
    let page = succeeds(&folder, &["drill", "variants/drill.yaml", "--runs", "1"]);
    assert!(page.lines().next().unwrap().ends_with("2 of 2 held"), "{page}");
    let whole = succeeds(&folder, &["check", "variants/drill.yaml", "--expand"]);
    for line in ["lab: smaller.yaml\n", "  - step: silent-loss  # ../drill.yaml\n"] {
        assert!(whole.contains(line), "{whole}");
    }
    let whole = succeeds(&folder, &["check", "variants/smaller.yaml", "--expand"]);
    for line in ["bandwidthInMbps: 200\n", "vlanId: 100  # ../lab.yaml\n"] {
        assert!(whole.contains(line), "{whole}");
    }
}

/// `new` is a word after `drill`, and a file is still what it was.
#[test]
fn a_drill_still_takes_a_file_or_a_list() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(succeeds(folder, &["drill", "--list"]).contains("blackhole"));
    assert_eq!(msee(folder, &["drill"]).status.code(), Some(2));
    assert_eq!(msee(folder, &["drill", "no-such-file.yaml"]).status.code(), Some(2));
    assert_eq!(msee(folder, &["drill", "--json", "new"]).status.code(), Some(2));
}
