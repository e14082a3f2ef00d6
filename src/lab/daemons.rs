//! The routers of a lab that are programs of somebody else's: started, watched and ended with it.
//! What is to be run is [`edge::run`](crate::lab::edge::run)'s to say; the namespaces with their
//! links are there before ([`wiring`](crate::lab::wiring)).

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use thiserror::Error;

use crate::config::lab::Lab;
use crate::lab::edge::run::{self, BindFrom, Launch, LaunchError, STOP_WITHIN};
use crate::lab::operator::{Console, Operator};
use crate::lab::programs::Programs;
use crate::lab::wiring::Namespaces;
use crate::sys::clock;
use crate::sys::namespace::MountNamespace;

/// The private directories of routers, in a sandbox.
const PRIVATE: &str = "/run/edges";
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
    console: run::Console,
    /// Its operator has them in hand as well.
    programs: Arc<Mutex<Programs>>,
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
            for router in &self.routers {
                all_ready &= router.programs().advance()?;
            }
            if all_ready || !idle() {
                return Ok(all_ready);
            }
        }
    }

    /// Those that have ended by themselves since this was last asked.
    pub fn take_ended(&mut self) -> Vec<DaemonError> {
        self.routers.iter().flat_map(|router| router.programs().take_ended()).collect()
    }

    /// Ends the daemons of each router in order, the last first, for good. Meanwhile `idle` is called
    /// again and again, so that what they say to their neighbours at the end is heard.
    pub fn end(self, idle: &mut dyn FnMut()) {
        self.routers.iter().for_each(|router| router.programs().stay_ended());
        while self.routers.iter().any(|router| router.programs().is_running()) {
            self.routers.iter().for_each(|router| router.programs().terminate_last());
            let by = clock::monotonic() + STOP_WITHIN;
            let last_runs = |router: &Router| router.programs().last_is_running();
            while clock::monotonic() < by && self.routers.iter().any(last_runs) {
                idle();
            }
            self.routers.iter().for_each(|router| router.programs().end_last());
        }
    }

    pub fn routers(&self) -> &[Router] {
        &self.routers
    }

    /// Somebody at the consoles of all of them.
    pub fn operator(&self) -> Operator {
        let consoles = self.routers.iter().map(|router| {
            let programs = Arc::clone(&router.programs);
            (router.name.clone(), Console::new(&router.console, programs))
        });
        Operator::new(consoles.collect())
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
        let (commands, home) = (launch.commands.clone(), (private, network, mounts));
        Ok(Self {
            name: name.to_owned(),
            version: version(launch).map_err(failed(name, "its version"))?,
            logs: logs.clone(),
            console: launch.console.clone(),
            programs: Arc::new(Mutex::new(Programs::new(name, commands, home, logs))),
        })
    }

    fn programs(&self) -> MutexGuard<'_, Programs> {
        self.programs.lock().expect("nobody panics who holds them")
    }
}

pub(super) fn failed(router: &str, step: &str) -> impl Fn(io::Error) -> DaemonError {
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
