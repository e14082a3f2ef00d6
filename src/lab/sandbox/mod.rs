//! The rootless home of a lab on real frames: its namespaces, its place among the labs that run,
//! and the ways into it from another terminal.
//!
//! Whatever ends a lab (its own end, a signal, `kill -9` of any of its processes), its processes,
//! namespaces, links and files go: the kernel ends the first three with the sandbox's init, and
//! whichever of init and the process outside is left removes the files.

mod registry;
mod visit;

use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;

use rustix::process::{WaitOptions, getpid, setsid, waitpid};
use thiserror::Error;

pub use registry::{Record, Registry, RegistryError, RunningLab};
pub use visit::{VisitError, control_processes, end, find, run};

use crate::lab::wiring::{self, Namespaces, Wiring};
use crate::sys::namespace::{Inside, Progress, Sandbox, SandboxError};
use crate::sys::process::{Signals, exit_code, fork, leave_terminal};

/// What a lab's process has around it. It is alone in its process and its namespaces until it
/// starts threads or processes.
#[derive(Debug)]
pub struct Home {
    /// The namespaces of the nodes; links are up, router-side ends in this process's own.
    pub namespaces: Namespaces,
    /// The folder of the user's running labs, for the lab's socket `NAME.sock`: its path is hidden
    /// by the sandbox's mounts, so it is reached by `/proc/self/fd/N/`.
    pub runtime: OwnedFd,
    inside: Inside,
    detach: bool,
}

impl Home {
    /// Whether the lab is to end before it was ready.
    pub fn is_asked_to_end(&self) -> bool {
        self.inside.is_asked_to_end()
    }

    /// To be called when the lab does what it is for. With `--detach` the command that started it
    /// returns, and nothing is printed from here on. What is returned gets SIGINT, SIGTERM or SIGHUP
    /// when the lab is to end.
    pub fn ready(self) -> io::Result<(Namespaces, OwnedFd, Signals)> {
        let signals = self.inside.ready(self.detach)?;
        Ok((self.namespaces, self.runtime, signals))
    }
}

#[derive(Debug, Error)]
pub enum UpError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("{0}{instead}", instead = instead(.0))]
    Sandbox(#[from] SandboxError),
    #[error("{0}")]
    System(#[from] io::Error),
    /// What a lab in the background said before it ended.
    #[error("{0}")]
    Background(String),
}

/// What a host that allows no sandbox can do.
const fn instead(error: &SandboxError) -> &'static str {
    match error {
        SandboxError::Denied(_) => "; drills in virtual time (`--wire virtual`) run without",
        _ => "",
    }
}

/// Builds a wiring in a sandbox of its own and runs `inside` there, whose result is the exit code or
/// the reason of the failure. Returns when the lab has ended, or, with `detach`, when it is ready.
pub fn up(
    name: &str,
    wiring: &Wiring,
    detach: bool,
    inside: impl FnOnce(Home) -> Result<u8, String>,
) -> Result<u8, UpError> {
    if !detach {
        return foreground(name, wiring, false, inside, || Ok(()));
    }
    in_background(|said| {
        let ready = move || {
            leave_terminal()?;
            (&said).write_all(&[0])
        };
        foreground(name, wiring, true, inside, ready)
    })
}

fn foreground(
    name: &str,
    wiring: &Wiring,
    detach: bool,
    inside: impl FnOnce(Home) -> Result<u8, String>,
    ready: impl FnOnce() -> io::Result<()>,
) -> Result<u8, UpError> {
    let registry = Registry::open()?;
    let entry = registry.reserve(name)?;
    let nodes = wiring.nodes.iter().map(|node| node.name.clone()).collect();
    let pid = getpid().as_raw_nonzero().get();
    let mut record = Record { name: name.to_owned(), pid, init: None, nodes };
    let outcome = (|| {
        entry.write(&record)?;
        let runtime = registry.folder().try_clone()?;
        let live = |within: Inside| live(wiring, within, runtime, detach, inside);
        let mut sandbox = Sandbox::start(live, || registry.remove(name))?;
        let mut progress = sandbox.wait()?;
        if progress == Progress::Ready {
            record.init = Some(sandbox.init().as_raw_nonzero().get());
            entry.write(&record)?;
            ready()?;
            progress = sandbox.wait()?;
        }
        match progress {
            Progress::Ended(code) => Ok(code),
            Progress::Ready => unreachable!("it is ready once"),
        }
    })();
    registry.remove(name);
    outcome
}

/// The lab's process.
fn live(
    wiring: &Wiring,
    within: Inside,
    runtime: OwnedFd,
    detach: bool,
    inside: impl FnOnce(Home) -> Result<u8, String>,
) -> u8 {
    let parent = within.parent();
    let outcome = match wiring::build(wiring) {
        Ok(namespaces) => inside(Home { namespaces, runtime, inside: within, detach }),
        Err(error) => Err(error.to_string()),
    };
    outcome.unwrap_or_else(|reason| parent.fail(&reason))
}

/// Runs `inside` in a session of its own, without a terminal to be ended by, and returns as soon
/// as it has written a zero byte or has ended.
fn in_background(inside: impl FnOnce(PipeWriter) -> Result<u8, UpError>) -> Result<u8, UpError> {
    let (mut said, saying) = io::pipe()?;
    let child = fork(|| {
        let outcome = saying.try_clone().map_err(UpError::from).and_then(|copy| {
            setsid().map_err(io::Error::from)?;
            inside(copy)
        });
        outcome.unwrap_or_else(|error| {
            // A parent that has gone needs no reason.
            let _ = (&saying).write_all(error.to_string().as_bytes());
            1
        })
    })?;
    drop(saying);
    let mut words = Vec::new();
    let mut part = [0; 1024];
    loop {
        let length = said.read(&mut part)?;
        words.extend(&part[..length]);
        if words.first() == Some(&0) {
            return Ok(0);
        }
        if length == 0 {
            break;
        }
    }
    let status = waitpid(Some(child), WaitOptions::empty()).map_err(io::Error::from)?;
    if words.is_empty() {
        return Ok(status.map_or(1, |(_, status)| exit_code(status)));
    }
    Err(UpError::Background(String::from_utf8_lossy(&words).into_owned()))
}
