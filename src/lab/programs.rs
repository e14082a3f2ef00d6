//! The programs of one router that is somebody else's: started one after another, watched, killed and
//! started again.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lab::daemons::{DaemonError, failed};
use crate::lab::edge::run::{Command, READY_WITHIN, Ready};
use crate::sys::clock;
use crate::sys::namespace::MountNamespace;
use crate::sys::process::{Process, Program};

/// Last lines of a log that are shown.
const LINES_SHOWN: usize = 10;

/// What a router's programs are, and how far they are.
#[derive(Debug)]
pub struct Programs {
    name: String,
    commands: Vec<Command>,
    private: PathBuf,
    network: OwnedFd,
    mounts: MountNamespace,
    logs: PathBuf,
    /// What is to be started yet, in order.
    queue: VecDeque<Command>,
    /// What was started and is not ready, and when it has to be.
    starting: Option<(Command, Process, Duration)>,
    /// In the order in which they were started, each with the name of its log.
    running: Vec<(String, Process)>,
    /// The lab ends.
    ended: bool,
}

impl Programs {
    /// To be started with [`Programs::advance`]. `home` is the router's private directory, which its
    /// mounts show in the places of others, and its namespaces.
    pub fn new(
        name: &str,
        commands: Vec<Command>,
        (private, network, mounts): (PathBuf, OwnedFd, MountNamespace),
        logs: PathBuf,
    ) -> Self {
        Self {
            name: name.to_owned(),
            queue: commands.iter().cloned().collect(),
            commands,
            private,
            network,
            mounts,
            logs,
            starting: None,
            running: Vec::new(),
            ended: false,
        }
    }

    /// Goes on with starting; true when everything is ready.
    pub fn advance(&mut self) -> Result<bool, DaemonError> {
        let Some((command, mut process, by)) = self.starting.take() else {
            let Some(command) = self.queue.pop_front() else { return Ok(true) };
            let process = self.start(&command)?;
            self.starting = Some((command, process, clock::monotonic() + READY_WITHIN));
            return Ok(false);
        };
        let ended = process.try_wait().map_err(failed(&self.name, "wait"))?;
        match (&command.ready, ended) {
            (Ready::Ended, Some(status)) if status.success() => {}
            (_, Some(status)) => {
                return Err(self.failure(
                    &command.program,
                    &command.log,
                    &format!("ended: {status}"),
                ));
            }
            (Ready::Exists(path), None) if self.private.join(path).exists() => {
                self.running.push((command.log, process));
            }
            (_, None) if clock::monotonic() < by => self.starting = Some((command, process, by)),
            (_, None) => {
                let how = format!("is not ready after {} s", READY_WITHIN.as_secs());
                return Err(self.failure(&command.program, &command.log, &how));
            }
        }
        Ok(false)
    }

    /// Kills them all.
    pub fn crash(&mut self) {
        self.queue.clear();
        self.starting = None;
        self.running.clear();
    }

    /// Kills what runs; everything is to be started again, unless the lab ends.
    pub fn begin_again(&mut self) {
        self.crash();
        if self.ended {
            return;
        }
        for command in &self.commands {
            if let Ready::Exists(path) = &command.ready {
                // Left by one that was killed, it would tell of another that it is ready.
                let _ = fs::remove_file(self.private.join(path));
            }
        }
        self.queue = self.commands.iter().cloned().collect();
    }

    /// What ends stays ended: the lab ends.
    pub fn stay_ended(&mut self) {
        self.queue.clear();
        self.starting = None;
        self.ended = true;
    }

    pub fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    pub fn last_is_running(&mut self) -> bool {
        let last = self.running.last_mut();
        last.is_some_and(|(_, process)| matches!(process.try_wait(), Ok(None)))
    }

    /// Asks the last that was started to end.
    pub fn terminate_last(&self) {
        if let Some((_, last)) = self.running.last() {
            // It may have ended by itself.
            let _ = last.terminate();
        }
    }

    /// Ends the last that was started, if it runs still.
    pub fn end_last(&mut self) {
        drop(self.running.pop());
    }

    /// Those that have ended by themselves since this was last asked.
    pub fn take_ended(&mut self) -> Vec<DaemonError> {
        let mut told = Vec::new();
        for (log, mut process) in std::mem::take(&mut self.running) {
            match process.try_wait() {
                Ok(Some(status)) => {
                    let program = log.trim_end_matches(".log");
                    told.push(self.failure(Path::new(program), &log, &format!("ended: {status}")));
                }
                _ => self.running.push((log, process)),
            }
        }
        told
    }

    /// Starts a program beside them, in their namespaces.
    pub fn spawn(
        &self,
        program: &Path,
        arguments: Vec<OsString>,
        log: &str,
    ) -> io::Result<Process> {
        let program = Program {
            program,
            arguments,
            network: Some(self.network.as_fd()),
            mounts: Some(self.mounts.as_fd()),
            log: Some(&self.logs.join(log)),
        };
        program.spawn()
    }

    /// The folder that only this router has.
    pub fn private(&self) -> &Path {
        &self.private
    }

    pub fn logs(&self) -> &Path {
        &self.logs
    }

    fn start(&self, command: &Command) -> Result<Process, DaemonError> {
        let arguments = command.arguments.iter().map(Into::into).collect();
        let step = command.program.display().to_string();
        let process = self.spawn(&command.program, arguments, &command.log);
        process.map_err(failed(&self.name, &step))
    }

    fn failure(&self, program: &Path, log: &str, how: &str) -> DaemonError {
        let log = self.logs.join(log);
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().map(|line| format!("  {line}")).collect();
        DaemonError::Failed {
            router: self.name.clone(),
            program: program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            how: how.to_owned(),
            log,
            end: lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n"),
        }
    }
}
