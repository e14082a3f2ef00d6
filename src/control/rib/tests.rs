//! A VRF's table between scripted neighbours and a forwarding side that checks the order.
//!
//! `fixtures/rib/<case>/NN-input.txt` are commands, one a line, and `NN-output.txt` what came out
//! after each; `UPDATE_FIXTURES=1` rewrites the outputs. The steps of a case share one table.

mod forwarding;
mod ordering;
mod random;
mod script;

use std::fs;
use std::path::{Path, PathBuf};

use script::Script;

#[test]
fn every_case_comes_out_as_written() {
    let mut cases: Vec<_> = files(Path::new("fixtures/rib"));
    cases.sort();
    assert!(!cases.is_empty());
    for case in cases {
        let mut inputs = files(&case);
        inputs.retain(|path| path.to_string_lossy().ends_with("-input.txt"));
        inputs.sort();
        let mut script = Script::default();
        for input in inputs {
            let found = script.run(&fs::read_to_string(&input).unwrap());
            let output = input.to_string_lossy().replace("-input.txt", "-output.txt");
            if std::env::var_os("UPDATE_FIXTURES").is_some() {
                fs::write(&output, &found).unwrap();
            }
            assert_eq!(found, fs::read_to_string(&output).unwrap(), "{output}");
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}
