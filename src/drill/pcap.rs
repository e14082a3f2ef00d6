//! A capture file of each run, for who wants to see the frames themselves.

use std::fmt::Display;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, openat};

use crate::drill::runs::Job;
use crate::lab::Lab;

/// Where the captures of a drill go, and what went wrong with them: a drill is not ended by that.
#[derive(Debug)]
pub struct Captures {
    path: PathBuf,
    folder: OwnedFd,
    failures: Mutex<Vec<String>>,
}

impl Captures {
    /// Opens the folder, and makes it if there is none.
    ///
    /// # Errors
    /// The folder cannot be made or opened; the text names it.
    pub fn create(path: &Path) -> Result<Self, String> {
        let folder = fs::create_dir_all(path).and_then(|()| File::open(path));
        let folder = folder.map_err(|error| format!("{}: {error}\n", path.display()))?;
        Ok(Self { path: path.to_owned(), folder: folder.into(), failures: Mutex::default() })
    }

    /// What went wrong so far.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn begin(&self, lab: &mut Lab, job: Job) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o666);
        match openat(&self.folder, name(job), flags, mode) {
            Ok(file) => lab.capture(file.into()),
            Err(error) => self.failed(job, &error),
        }
    }

    pub(super) fn end(&self, lab: &mut Lab, job: Job) {
        if let Some(Err(error)) = lab.end_capture() {
            self.failed(job, &error);
        }
    }

    fn failed(&self, job: Job, error: &dyn Display) {
        let text = format!("{}: {error}", self.path.join(name(job)).display());
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

fn name(job: Job) -> String {
    format!("run-{}-{}.pcapng", job.run, job.convergence.name())
}
