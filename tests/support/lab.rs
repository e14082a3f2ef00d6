//! The quick-start lab on real frames, running beside a test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::skip;

/// Between two looks at something that takes a moment, and how many there are.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS: u32 = 600;

/// A lab that runs, with a runtime folder of its own.
pub struct RunningLab {
    /// What the lab says is in its file `said`.
    pub folder: PathBuf,
    child: Child,
}

impl RunningLab {
    /// The quick-start lab with `upper` on top of it, on so many threads. None where the host has no `programs` or allows
    /// no sandbox.
    pub fn up(upper: &str, workers: u8, programs: &[&str]) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        for program in programs {
            if Command::new(program).arg("--version").output().is_err() {
                skip::skipped(&format!("labs on real frames: {program} is not installed"));
                return None;
            }
        }
        let own = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("msee-lab-{}-{}", own.0, own.1));
        fs::create_dir(&folder).unwrap();
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/labs/quickstart.yaml");
        let file = folder.join("lab.yaml");
        fs::write(&file, format!("extends: {}\n{upper}", base.display())).unwrap();
        let said = File::create(folder.join("said")).unwrap();
        let mut command = msee(&folder);
        command.args(["lab", "up", "--workers", &workers.to_string()]);
        command.arg(&file).stdout(said).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let mut lab = Self { folder, child };
        let is_up = eventually("the lab comes up", || {
            if lab.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            lab.exec("hub.app", &["true"]).status.success().then_some(true)
        });
        if is_up {
            return Some(lab);
        }
        let stderr = lab.child.stderr.take().expect("it was piped");
        let told = std::io::read_to_string(stderr).unwrap();
        assert!(told.contains("user namespaces"), "{told}");
        skip::skipped(&format!("labs on real frames: {told}"));
        None
    }

    /// The program, for this lab.
    pub fn msee(&self, arguments: &[&str]) -> Command {
        let mut command = msee(&self.folder);
        command.args(arguments);
        command
    }

    pub fn exec(&self, node: &str, program: &[&str]) -> Output {
        self.msee(&["lab", "exec", node, "--"]).args(program).output().unwrap()
    }
}

impl Drop for RunningLab {
    fn drop(&mut self) {
        // Whatever is left of the lab dies with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What `look` sees in the end; panics where it never sees anything.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(seen) = look() {
            return seen;
        }
        sleep(LOOK);
    }
    panic!("{what}: never");
}

fn msee(runtime: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_msee"));
    command.env("XDG_RUNTIME_DIR", runtime);
    command
}
