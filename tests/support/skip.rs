//! Tests that a host may not be able to run.

use std::fs::OpenOptions;
use std::io::Write;

/// Says that a test did not do its work, and why: to whoever reads its output, and in the file that
/// `scripts/test` counts.
pub fn skipped(why: &str) {
    println!("SKIPPED: {why}");
    if let Some(path) = std::env::var_os("MSEE_SKIPPED") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        writeln!(file.unwrap(), "{}", why.lines().collect::<Vec<_>>().join(" ")).unwrap();
    }
}
