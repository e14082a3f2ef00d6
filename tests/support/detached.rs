//! The quick-start lab on real frames, in the background.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::skip;

/// A lab that runs in the background, in a runtime folder of its own; ended when this is dropped.
pub struct DetachedLab {
    pub folder: PathBuf,
}

impl DetachedLab {
    /// With so many threads that forward. None where this host makes no sandbox. `name` is no other
    /// lab's of this file.
    pub fn up(name: &str, workers: u8) -> Option<Self> {
        let own = format!("detached-{name}-{}", std::process::id());
        let lab = Self { folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join(own) };
        fs::create_dir_all(&lab.folder).unwrap();
        let workers = workers.to_string();
        let up = ["lab", "up", "fixtures/labs/quickstart.yaml", "--detach", "--workers", &workers];
        let output = lab.run(&up);
        if output.status.success() {
            return Some(lab);
        }
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(errors.contains("--wire virtual"), "{errors}");
        skip::skipped(errors.trim());
        None
    }

    /// The program, for this lab.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msee"));
        command.args(words).env("XDG_RUNTIME_DIR", &self.folder).stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }
}

impl Drop for DetachedLab {
    fn drop(&mut self) {
        let _ = self.run(&["lab", "down"]);
        let _ = fs::remove_dir_all(&self.folder);
    }
}
