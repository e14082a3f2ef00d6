//! The shape of `src`: who may use whom, what stays pure, and where `unsafe` may be written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Each module and the modules it may use. Nothing uses what is below it.
const MAY_USE: &[(&str, &str)] = &[
    ("wire", ""),
    ("model", "wire"),
    ("sys", ""),
    ("telemetry", "model"),
    ("fib", "wire model"),
    ("shaper", "model"),
    ("bfd", "wire model"),
    ("io", "wire model sys telemetry"),
    ("config", "model"),
    ("dataplane", "wire model telemetry fib shaper bfd io"),
    ("punt", "wire model telemetry io"),
    ("control", "wire model sys telemetry punt"),
    ("router", "wire model telemetry fib shaper bfd io config dataplane punt control"),
    ("azure", "model config"),
    ("fabric", "wire model sys telemetry io router"),
    ("traffic", "wire model telemetry io"),
    ("lab", "wire model sys telemetry io config azure router fabric traffic"),
    ("drill", "model telemetry config azure router fabric traffic lab"),
    ("cli", "model sys telemetry io config control azure router fabric traffic lab drill"),
];

/// Code that is handed its input and its time, and returns what should happen.
const PURE: &[&str] = &[
    "src/wire/",
    "src/model/",
    "src/fib/",
    "src/shaper/",
    "src/bfd/",
    "src/azure/",
    "src/dataplane/stage/",
    "src/control/bgp/",
    "src/control/domain.rs",
    "src/control/message.rs",
    "src/control/neighbor/",
    "src/control/plane.rs",
    "src/control/policy/",
    "src/control/rib/",
    "src/control/route.rs",
    "src/control/state.rs",
];

/// What pure code does not name outside its tests.
const OUTSIDE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::fs",
    "std::thread",
    "crate::sys",
    "mio::",
];

const MAY_BE_UNSAFE: &[&str] = &["src/sys/", "src/fib/"];

#[test]
fn modules_use_only_what_they_may() {
    for (module, allowed) in MAY_USE {
        each_file(&Path::new("src").join(module), &mut |path, code| {
            for used in modules_used(code) {
                let fine = used == *module || allowed.split(' ').any(|name| name == used);
                assert!(fine, "{path} uses {used}");
            }
        });
    }
}

#[test]
fn the_table_is_in_layer_order_and_complete() {
    for (row, (module, allowed)) in MAY_USE.iter().enumerate() {
        for used in allowed.split_whitespace() {
            let above = MAY_USE[..row].iter().any(|(name, _)| *name == used);
            assert!(above, "{module} uses {used}, which is not above it");
        }
    }
    let folders = fs::read_dir("src").unwrap().map(|entry| entry.unwrap().path());
    let on_disk: BTreeSet<_> = folders
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let in_table = MAY_USE.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(on_disk, in_table);
}

#[test]
fn pure_code_reads_no_clock_and_opens_no_socket() {
    each_file(Path::new("src"), &mut |path, code| {
        if PURE.iter().any(|place| path.starts_with(place)) {
            for thing in OUTSIDE {
                assert!(!code.contains(thing), "{path} names {thing}");
            }
        }
    });
}

#[test]
fn unsafe_stays_in_its_place() {
    each_file(Path::new("src"), &mut |path, code| {
        let permitted = MAY_BE_UNSAFE.iter().any(|place| path.starts_with(place));
        assert!(
            permitted || !code.contains("allow(unsafe_code)"),
            "{path} lifts the ban on unsafe"
        );
    });
}

/// Calls `check` with the path and the code, without comments and unit tests, of each file.
fn each_file(dir: &Path, check: &mut dyn FnMut(&str, &str)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_file(&path, check);
        } else if path.extension().is_some_and(|ext| ext == "rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            let code: Vec<_> = text.lines().filter(|line| !line.trim().starts_with("//")).collect();
            check(&path.to_string_lossy(), &code.join("\n"));
        }
    }
}

/// The name after each `crate::`, and each outermost name in `crate::{..}`.
fn modules_used(code: &str) -> BTreeSet<String> {
    let is_name = |c: &char| c.is_alphanumeric() || *c == '_';
    let mut used = BTreeSet::new();
    for (at, prefix) in code.match_indices("crate::") {
        let rest = &code[at + prefix.len()..];
        let mut depth = 0;
        let mut start = true;
        for (at, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => start |= depth == 1,
                c if start && depth <= 1 && is_name(&c) => {
                    used.insert(rest[at..].chars().take_while(is_name).collect());
                    start = false;
                }
                _ => {}
            }
            if depth == 0 && !start {
                break;
            }
        }
    }
    used
}
