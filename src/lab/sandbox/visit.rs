//! What other commands do with a lab that runs: name it, end it, run a program in one of its nodes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use thiserror::Error;

use crate::config::nearest;
use crate::lab::sandbox::{Registry, RunningLab};
use crate::router::Launcher;
use crate::sys::namespace::{JoinError, join};
use crate::sys::process::{run_in_foreground, wait_for_end};

/// How long a lab may take to end in order before it is ended at once.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum VisitError {
    #[error("no lab runs; `msee lab up FILE` starts one")]
    NothingRuns,
    #[error("no lab {name} runs{}; running: {}", meant(.nearest.as_ref()), .running.join(", "))]
    UnknownLab { name: String, nearest: Option<String>, running: Vec<String> },
    #[error("several labs run, so name one: {}", .running.join(", "))]
    Ambiguous { running: Vec<String> },
    #[error(
        "lab {lab} has no node {name} to run a program in{}; there are {}. Built-in routers are \
         inside msee, and what `msee run` has around it is outside",
        meant(.nearest.as_ref()), if .nodes.is_empty() { "none".to_owned() } else { .nodes.join(", ") }
    )]
    UnknownNode { lab: String, name: String, nearest: Option<String>, nodes: Vec<String> },
    #[error("lab {0} is not ready yet; try again")]
    Starting(String),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error("{program}: {source}")]
    Program { program: String, source: io::Error },
    #[error("lab {lab}, process {pid}: {source}")]
    Process { lab: String, pid: i32, source: io::Error },
}

fn meant(nearest: Option<&String>) -> String {
    nearest.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

/// The lab of that name; the only one that runs, if none is named.
pub fn find(registry: &Registry, name: Option<&str>) -> Result<RunningLab, VisitError> {
    choose(registry.labs(), name)
}

/// The control processes of a lab by their routers: those of its pid namespace that say so.
pub fn control_processes(lab: &RunningLab) -> BTreeMap<String, i32> {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(own) = lab.record.init.and_then(namespace) else { return BTreeMap::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let process = |pid: i32| Some((router_of(pid, &lab.record.name)?, pid));
    pids.filter(|&pid| namespace(pid).as_ref() == Some(&own)).filter_map(process).collect()
}

/// Whose control plane a process says it is.
fn router_of(pid: i32, lab: &str) -> Option<String> {
    let line = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("cmdline")).ok()?;
    let mut words = line.split('\0').skip_while(|word| *word != Launcher::VERB).skip(1);
    let router = words.next()?.strip_prefix(lab)?.strip_prefix('/')?;
    Some(router.to_owned())
}

fn choose(mut labs: Vec<RunningLab>, name: Option<&str>) -> Result<RunningLab, VisitError> {
    let running: Vec<_> = labs.iter().map(|lab| lab.record.name.clone()).collect();
    let at = match (name, running.as_slice()) {
        (_, []) => return Err(VisitError::NothingRuns),
        (None, [_]) => 0,
        (None, _) => return Err(VisitError::Ambiguous { running }),
        (Some(name), _) => {
            let at = running.iter().position(|other| other == name);
            at.ok_or_else(|| VisitError::UnknownLab {
                name: name.to_owned(),
                nearest: nearest(name, running.iter().map(String::as_str)).map(str::to_owned),
                running,
            })?
        }
    };
    Ok(labs.swap_remove(at))
}

/// Ends a lab and returns when it has gone: in order, or at once where that takes too long.
pub fn end(registry: &Registry, lab: &RunningLab) -> Result<(), VisitError> {
    let record = &lab.record;
    let failed = |source| VisitError::Process { lab: record.name.clone(), pid: record.pid, source };
    let pid = Pid::from_raw(record.pid)
        .ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidData)))?;
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    // The lab still holds its lock, so that the process is the lab's and not another of that number.
    if registry.lab(&record.name).is_none_or(|now| now.record.pid != record.pid) {
        return Ok(());
    }
    for signal in [Signal::TERM, Signal::KILL] {
        if pidfd_send_signal(&process, signal).is_err() {
            return Ok(());
        }
        if wait_for_end(&process, ENDS_WITHIN) {
            // Init follows its parent within moments; a file it could not remove is gone then.
            registry.lab(&record.name);
            return Ok(());
        }
    }
    Err(failed(io::ErrorKind::TimedOut.into()))
}

/// Runs a program in a node's namespaces, with this process's terminal, and returns its exit code.
/// This process is moved there itself and is good for nothing else after it.
pub fn run(registry: &Registry, place: &str, program: &[OsString]) -> Result<u8, VisitError> {
    let (init, node) = locate(registry.labs(), place)?;
    join(init, &node)?;
    let (program, arguments) = program.split_first().expect("clap asks for a program");
    run_in_foreground(program, arguments).map_err(|source| VisitError::Program {
        program: program.to_string_lossy().into_owned(),
        source,
    })
}

/// Init of the lab and the name of the node that `[LAB/]NODE` stands for.
fn locate(labs: Vec<RunningLab>, place: &str) -> Result<(Pid, String), VisitError> {
    let (lab, node) = match place.split_once('/') {
        Some((lab, node)) => (Some(lab), node),
        None => (None, place),
    };
    let record = choose(labs, lab)?.record;
    if !record.nodes.iter().any(|known| known == node) {
        let nearest = nearest(node, record.nodes.iter().map(String::as_str)).map(str::to_owned);
        let (lab, nodes) = (record.name, record.nodes);
        return Err(VisitError::UnknownNode { lab, name: node.to_owned(), nearest, nodes });
    }
    match record.init.and_then(Pid::from_raw) {
        Some(init) => Ok((init, node.to_owned())),
        None => Err(VisitError::Starting(record.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::sandbox::Record;

    fn lab(name: &str, init: Option<i32>) -> RunningLab {
        let nodes = vec!["dc1.erp".to_owned(), "hub.app".to_owned()];
        RunningLab { record: Record { name: name.to_owned(), pid: 10, init, nodes }, since: 0 }
    }

    #[test]
    fn a_node_is_found_by_its_name_and_by_its_labs_where_several_run() {
        let contoso = || lab("contoso", Some(11));
        let both = || vec![contoso(), lab("fabrikam", Some(21))];
        let found = |labs, place| {
            let (init, node) = locate(labs, place).unwrap();
            (init.as_raw_nonzero().get(), node)
        };
        assert_eq!(found(vec![contoso()], "hub.app"), (11, "hub.app".to_owned()));
        assert_eq!(found(both(), "fabrikam/hub.app"), (21, "hub.app".to_owned()));
        let told = |labs, place| locate(labs, place).unwrap_err().to_string();
        assert!(told(vec![], "hub.app").contains("msee lab up"));
        assert!(told(both(), "hub.app").contains("contoso, fabrikam"));
        assert!(told(both(), "fabrikan/hub.app").contains("did you mean fabrikam?"));
        assert!(told(vec![contoso()], "hub.ap").contains("did you mean hub.app?"));
        assert!(told(vec![contoso()], "ce1").contains("dc1.erp, hub.app"));
        assert!(told(vec![lab("contoso", None)], "hub.app").contains("not ready"));
    }
}
