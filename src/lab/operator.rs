//! The operator of routers that are programs of somebody else's: what a drill does in the customer's
//! name is said to them in their own words, at their own console.
//!
//! As with built-in routers there is a desired configuration, and what is said is the difference to
//! the last one. When the operator leaves, everything is as the lab's file has it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use crate::lab::edge::run::lines_between;
use crate::model::RouterConfig;
use crate::sys::process::{Process, Program};

/// Name of the log with what consoles answered, in the folder of a router's logs.
const LOG: &str = "operator.log";

/// Somebody at the consoles of a lab's outside routers.
#[derive(Debug, Default)]
pub struct Operator {
    consoles: BTreeMap<String, Console>,
}

/// The console of a router.
#[derive(Debug)]
pub struct Console {
    program: PathBuf,
    network: OwnedFd,
    mounts: OwnedFd,
    log: PathBuf,
    /// What the router is by the lab's file, and what it was last told to be.
    configured: Option<(RouterConfig, RouterConfig)>,
    /// What was said last and may still be listened to.
    speaking: Option<Process>,
}

impl Console {
    pub fn new(program: PathBuf, network: OwnedFd, mounts: OwnedFd, logs: PathBuf) -> Self {
        let log = logs.join(LOG);
        Self { program, network, mounts, log, configured: None, speaking: None }
    }

    /// Says what leads from the last configuration to this one. Returns before the router has done it.
    fn tell(&mut self, config: &RouterConfig) -> io::Result<()> {
        let Some((_, told)) = &mut self.configured else { return Ok(()) };
        let lines = lines_between(told, config);
        told.clone_from(config);
        if lines.is_empty() {
            return Ok(());
        }
        // One after the other.
        self.listen()?;
        let line = |line: &String| ["-c".into(), line.into()];
        let program = Program {
            program: &self.program,
            arguments: lines.iter().flat_map(line).collect(),
            network: Some(self.network.as_fd()),
            mounts: Some(self.mounts.as_fd()),
            log: Some(&self.log),
        };
        self.speaking = Some(program.spawn()?);
        Ok(())
    }

    /// Returns when the router has done what it was told.
    fn listen(&mut self) -> io::Result<()> {
        self.speaking.take().map_or(Ok(()), |mut console| console.wait().map(drop))
    }
}

impl Operator {
    pub fn new(consoles: BTreeMap<String, Console>) -> Self {
        Self { consoles }
    }

    /// What a router is by its file; nothing is said.
    pub fn begin(&mut self, config: &RouterConfig) {
        if let Some(console) = self.consoles.get_mut(&config.name) {
            console.configured = Some((config.clone(), config.clone()));
        }
    }

    pub fn has_console(&self, router: &str) -> bool {
        self.consoles.contains_key(router)
    }

    /// Makes a router what `config` says. Of a router without a console, nothing.
    ///
    /// # Errors
    /// The console could not be started.
    pub fn tell(&mut self, config: &RouterConfig) -> io::Result<()> {
        let console = self.consoles.get_mut(&config.name);
        console.map_or(Ok(()), |console| console.tell(config))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        for console in self.consoles.values_mut() {
            if let Some((read, _)) = console.configured.clone() {
                // A router that has ended is as its file says when it is started again.
                let _ = console.tell(&read).and_then(|()| console.listen());
            }
        }
    }
}
