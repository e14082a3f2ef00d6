//! The routers of a lab that are programs of somebody else's: started, watched and ended with it.
//! What is to be run is [`edge::run`](crate::lab::edge::run)'s to say; the namespaces with their
//! links are there before ([`wiring`](crate::lab::wiring)).

use std::collections::{BTreeMap, VecDeque};
use std::env;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::config::lab::Lab;
use crate::lab::edge::run::{
    self, BindFrom, Command, Launch, LaunchError, READY_WITHIN, Ready, STOP_WITHIN,
};
use crate::lab::operator::{Console, Operator};
use crate::lab::wiring::Namespaces;
use crate::sys::clock;
use crate::sys::namespace::MountNamespace;
use crate::sys::process::{Process, Program};

/// The private directories of routers, in a sandbox.
const PRIVATE: &str = "/run/edges";
/// Last lines of a log that are shown.
const LINES_SHOWN: usize = 10;

/// The routers of a lab that are run, in the order of their names.
#[derive(Debug)]
pub struct Daemons {
    routers: Vec<Router>,
}

/// A router that is run.
#[derive(Debug)]
pub struct Router {
    pub name: String,
    /// `FRR 8.4.4`.
    pub version: String,
    /// The folder of its logs.
    pub logs: PathBuf,
    private: PathBuf,
    network: OwnedFd,
    mounts: MountNamespace,
    /// What is to be started yet, in order.
    commands: VecDeque<Command>,
    /// What was started and is not ready, and when it has to be.
    starting: Option<(Command, Process, Duration)>,
    /// In the order in which they were started, each with the name of its log.
    running: Vec<(String, Process)>,
    console: Option<PathBuf>,
}

#[derive(Debug, Error)]
pub enum DaemonError {
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(
        "logs of routers go to $XDG_STATE_HOME/msee, or ~/.local/state/msee, and neither \
         XDG_STATE_HOME nor HOME is set"
    )]
    NoLogs,
    #[error("{}: {source}; set XDG_STATE_HOME to a folder that you may write to", path.display())]
    Logs { path: PathBuf, source: io::Error },
    #[error("{router}: {}: {source}", path.display())]
    File { router: String, path: PathBuf, source: io::Error },
    #[error("{router}: {step}: {source}")]
    System { router: String, step: String, source: io::Error },
    #[error("{router}: {program} {how}; the end of {}:\n{end}", log.display())]
    Failed { router: String, program: String, how: String, log: PathBuf, end: String },
}

/// What each router of a lab that is run needs.
pub type Launches = BTreeMap<String, Launch>;

/// How the routers of a lab that are programs of somebody else's are run.
pub fn launches(lab: &Lab) -> Result<Launches, LaunchError> {
    let routers = lab.sites.iter().flat_map(|site| &site.routers);
    let run = routers.filter(|router| run::is_run(lab, &router.name));
    run.map(|router| Ok((router.name.clone(), run::launch(lab, &router.name)?))).collect()
}

impl Daemons {
    /// Makes what the routers find: their files and mounts. Nothing runs yet. Logs of an earlier
    /// run of the lab are gone after it.
    pub fn prepare(
        lab: &str,
        launches: &Launches,
        namespaces: &Namespaces,
    ) -> Result<Self, DaemonError> {
        let routers = launches.iter().map(|(name, launch)| {
            let network = namespaces[name.as_str()].as_fd().try_clone_to_owned();
            let network = network.map_err(failed(name, "its network namespace"))?;
            Router::prepare(name, launch, network, log_folder(lab, name)?)
        });
        Ok(Self { routers: routers.collect::<Result<_, _>>()? })
    }

    /// Starts all routers side by side, and returns when they are ready. Meanwhile `idle` is called
    /// again and again; false from it gives up.
    pub fn start(&mut self, idle: &mut dyn FnMut() -> bool) -> Result<bool, DaemonError> {
        loop {
            let mut all_ready = true;
            for router in &mut self.routers {
                all_ready &= router.advance()?;
            }
            if all_ready || !idle() {
                return Ok(all_ready);
            }
        }
    }

    /// Those that have ended by themselves since this was last asked.
    pub fn take_ended(&mut self) -> Vec<DaemonError> {
        self.routers.iter_mut().flat_map(Router::take_ended).collect()
    }

    /// Ends the daemons of each router in order, the last first. Meanwhile `idle` is called again and
    /// again, so that what they say to their neighbours at the end is heard.
    pub fn end(mut self, idle: &mut dyn FnMut()) {
        while self.routers.iter().any(|router| !router.running.is_empty()) {
            for router in &self.routers {
                if let Some((_, last)) = router.running.last() {
                    // It may have ended by itself.
                    let _ = last.terminate();
                }
            }
            let by = clock::monotonic() + STOP_WITHIN;
            while clock::monotonic() < by && self.routers.iter_mut().any(Router::last_is_running) {
                idle();
            }
            // Whoever has not ended by then is ended as it is dropped.
            self.routers.iter_mut().for_each(|router| drop(router.running.pop()));
        }
    }

    pub fn routers(&self) -> &[Router] {
        &self.routers
    }

    /// Somebody at the consoles of those that have one.
    pub fn operator(&self) -> io::Result<Operator> {
        let routers = self.routers.iter();
        let with_console = routers.filter_map(|router| Some((router, router.console.clone()?)));
        let consoles = with_console.map(|(router, program)| {
            let network = router.network.try_clone()?;
            let mounts = router.mounts.as_fd().try_clone_to_owned()?;
            let console = Console::new(program, network, mounts, router.logs.clone());
            Ok((router.name.clone(), console))
        });
        consoles.collect::<io::Result<_>>().map(Operator::new)
    }
}

impl Router {
    fn prepare(
        name: &str,
        launch: &Launch,
        network: OwnedFd,
        logs: PathBuf,
    ) -> Result<Self, DaemonError> {
        let private = Path::new(PRIVATE).join(name);
        let at = |path: &Path| {
            let (router, path) = (name.to_owned(), path.to_owned());
            move |source| DaemonError::File { router, path, source }
        };
        for directory in &launch.directories {
            let path = private.join(directory);
            fs::create_dir_all(&path).map_err(at(&path))?;
        }
        for (path, text) in &launch.files {
            let path = private.join(path);
            fs::write(&path, text).map_err(at(&path))?;
        }
        let binds: Vec<_> = launch
            .binds
            .iter()
            .map(|bind| {
                let from = match bind.from {
                    BindFrom::Private(path) => private.join(path),
                    BindFrom::Mounted(path) => PathBuf::from(path),
                };
                (from, PathBuf::from(bind.over))
            })
            .collect();
        let mounts = MountNamespace::create(name, &binds).map_err(failed(name, "its mounts"))?;
        Ok(Self {
            name: name.to_owned(),
            version: version(launch).map_err(failed(name, "its version"))?,
            logs,
            private,
            network,
            mounts,
            commands: launch.commands.iter().cloned().collect(),
            starting: None,
            running: Vec::new(),
            console: launch.console.clone(),
        })
    }

    /// Goes on with starting; true when everything is ready.
    fn advance(&mut self) -> Result<bool, DaemonError> {
        let Some((command, mut process, by)) = self.starting.take() else {
            let Some(command) = self.commands.pop_front() else { return Ok(true) };
            let process = self.spawn(&command)?;
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

    fn spawn(&self, command: &Command) -> Result<Process, DaemonError> {
        let program = Program {
            program: &command.program,
            arguments: command.arguments.iter().map(Into::into).collect(),
            network: Some(self.network.as_fd()),
            mounts: Some(self.mounts.as_fd()),
            log: Some(&self.logs.join(&command.log)),
        };
        let step = command.program.display().to_string();
        program.spawn().map_err(failed(&self.name, &step))
    }

    fn take_ended(&mut self) -> Vec<DaemonError> {
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

    fn last_is_running(&mut self) -> bool {
        let last = self.running.last_mut();
        last.is_some_and(|(_, process)| matches!(process.try_wait(), Ok(None)))
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

fn failed(router: &str, step: &str) -> impl Fn(io::Error) -> DaemonError {
    let (router, step) = (router.to_owned(), step.to_owned());
    move |source| DaemonError::System { router: router.clone(), step: step.clone(), source }
}

/// An empty folder for a router's logs, of the user who runs the lab.
fn log_folder(lab: &str, router: &str) -> Result<PathBuf, DaemonError> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").map(|home| home.join(".local/state"));
    let state = set("XDG_STATE_HOME").or_else(home).ok_or(DaemonError::NoLogs)?;
    let folder = state.join("msee").join(lab).join(router);
    let failed = |source| DaemonError::Logs { path: folder.clone(), source };
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => fs::create_dir_all(&folder).map_err(failed)?,
    }
    Ok(folder)
}

/// `FRR 8.4.4`, of a program that says `bgpd version 8.4.4`.
fn version(launch: &Launch) -> io::Result<String> {
    let said = std::process::Command::new(&launch.versioned).arg("--version").output()?;
    let text = [said.stdout, said.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let number = text.split_whitespace().skip_while(|word| *word != "version").nth(1);
    Ok([launch.name, number.unwrap_or("of an unknown version")].join(" "))
}
