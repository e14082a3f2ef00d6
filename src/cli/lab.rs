//! `msee lab up|list|down|exec`: labs on real frames, and what runs in them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::live::{LOOK, Live, Nobody, say, tell_events};
use crate::cli::service::Service;
use crate::cli::{COULD_NOT_RUN, Workers, act, edge, files, print};
use crate::config::lab as file;
use crate::lab::daemons::{self, Daemons, Launches};
use crate::lab::diagnosis::diagnose;
use crate::lab::edge::run::find_configurations;
use crate::lab::sandbox::{self, Home, Registry, RunningLab};
use crate::lab::watch::Watch;
use crate::lab::wiring::Wiring;
use crate::lab::{self, Execution, Ports, attach, neighbor_base};
use crate::model::Instant;
use crate::router::SessionRow;
use crate::telemetry::{Event, EventKind};

/// How long sessions may take to come up.
const PATIENCE: Duration = Duration::from_mins(1);
/// The same where a router is outside. The lab goes on without the sessions: whoever configures the
/// router looks into it.
const PATIENCE_OUTSIDE: Duration = Duration::from_secs(20);
/// After which nothing more is expected of routers outside that have announced something.
const QUIET: Duration = Duration::from_millis(500);
/// The same of one that has announced nothing: on a busy host its first update follows the session by
/// more than a second.
const QUIET_IN_SILENCE: Duration = Duration::from_secs(3);
/// For what routers outside said as they ended to arrive.
const LAST_WORDS: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  msee lab up fixtures/labs/quickstart.yaml           run the lab until Ctrl-C
  msee lab up my.yaml --detach                        return when it is ready
  msee lab list                                       what runs
  msee lab exec dc1.erp -- ip addr                    a program in a host, from any terminal
  msee lab exec quickstart/dc1.erp -- bash            the same where several labs run
  msee lab exec ce1 -- vtysh -c 'show bgp summary'    an edge of kind frr; birdc for bird
  msee lab down quickstart                            end it

A lab is this user's alone, needs no root, and leaves nothing behind.";

/// Run a lab on real frames: real programs in its hosts, without root.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Lab {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Up(Up),
    List(List),
    Down(Down),
    Exec(Exec),
    Do(act::Act),
    Config(edge::EdgeConfig),
}

/// Start a lab and keep it until Ctrl-C.
#[derive(Args, Debug)]
struct Up {
    /// The lab file.
    file: PathBuf,
    /// Return when the lab is ready, and leave it running.
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    workers: Workers,
}

/// The labs that run.
#[derive(Args, Debug)]
struct List {
    /// As an array of name, pid, nodes, since and control: the pids of the routers' control processes.
    #[arg(long)]
    json: bool,
}

/// End a lab.
#[derive(Args, Debug)]
struct Down {
    /// Its name; may be left out where one lab runs.
    lab: Option<String>,
}

/// Run a program in a node of a lab, and return its exit code.
#[derive(Args, Debug)]
struct Exec {
    /// A host (dc1.erp, hub.app) or an external edge (ce1).
    #[arg(value_name = "[LAB/]NODE")]
    place: String,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    program: Vec<OsString>,
}

impl Lab {
    pub fn run(&self) -> ExitCode {
        let outcome = match &self.verb {
            Verb::Up(up) => up.run(),
            Verb::List(list) => list.run(),
            Verb::Down(down) => down.run(),
            Verb::Exec(exec) => exec.run(),
            Verb::Do(act) => act.run(),
            Verb::Config(config) => return config.run(),
        };
        outcome.unwrap_or_else(|error| {
            eprint!("{error}");
            ExitCode::from(COULD_NOT_RUN)
        })
    }
}

impl Up {
    fn run(&self) -> Result<ExitCode, String> {
        let mut lab = files::open(&self.file)?.lab().map_err(files::render)?;
        find_configurations(&mut lab, &self.file);
        let launches = daemons::launches(&lab).map_err(told)?;
        let wiring = Wiring::of(&lab).map_err(told)?;
        // Those of the host, which the sandbox does not see.
        let attached = attach::ports(&lab).map_err(told)?;
        let execution = self.workers.execution();
        let inside = |home: Home| live(&lab, execution, &wiring, &launches, attached, home);
        let code = sandbox::up(&lab.name, &wiring, self.detach, inside).map_err(told)?;
        Ok(ExitCode::from(code))
    }
}

/// The lab's process: everything comes up, and goes on until a signal.
fn live(
    file: &file::Lab,
    execution: Execution<'_>,
    wiring: &Wiring,
    launches: &Launches,
    attached: Ports,
    home: Home,
) -> Result<u8, String> {
    let mut ports = wiring.ports().map_err(|error| error.to_string())?;
    ports.extend(attached);
    let mut lab = lab::Lab::on_wire(file, file.seed, ports, Ports::new(), execution);
    let mut service = Service::open(&home.runtime, &file.name)?;
    let mut watch = Watch::new(&mut lab);
    let mut daemons = Daemons::prepare(&file.name, launches, &home.namespaces)
        .map_err(|error| error.to_string())?;
    let begun = lab.now();
    let mut idle = || {
        lab.run_until(lab.now() + LOOK, &mut watch);
        !home.is_asked_to_end()
    };
    if !daemons.start(&mut idle).map_err(|error| error.to_string())? {
        return Ok(0);
    }
    lab.set_operator(daemons.operator());
    for router in daemons.routers() {
        let logs = router.logs.display();
        say(format_args!("{}: {}, logs in {logs}\n", router.name, router.version));
    }
    let patience = if lab.has_external() { PATIENCE_OUTSIDE } else { PATIENCE };
    let ready = lab.now();
    while !is_up(&lab) && lab.now().since(ready) < patience {
        lab.run_until(lab.now() + LOOK, &mut watch);
        service.serve(&mut lab);
        if home.is_asked_to_end() {
            daemons.end(&mut || lab.run_until(lab.now() + LOOK, &mut Nobody));
            return Ok(0);
        }
    }
    let observed = watch.finish(&mut lab);
    if lab.sessions_missing().is_empty() {
        let up = |event: &&Event| event.kind == EventKind::BgpUp;
        let last = lab.events().iter().rev().find(up).map_or(begun, |event| event.at);
        let took = last.since(begun).as_secs_f64();
        say(format_args!("lab {}: all sessions Established after {took:.2} s\n", file.name));
    } else {
        let why = diagnose(&lab, &observed).join("\n");
        let why = format!("not up after {} s:\n{why}", patience.as_secs());
        if !lab.has_external() {
            return Err(why);
        }
        say(format_args!("lab {}: {why}\n", file.name));
    }
    say(format_args!("{}", sessions_outside(&lab)));
    let (_namespaces, _runtime, signals) = home.ready().map_err(|error| error.to_string())?;
    let mut shown = Live::start(&file.name);
    let mut told = lab.events_recorded();
    while signals.next().is_none() {
        lab.run_until(lab.now() + LOOK, &mut Nobody);
        service.serve(&mut lab);
        shown.tick(&lab);
        if !shown.is_terminal() {
            tell_events(&lab, &mut told);
        }
        for ended in daemons.take_ended() {
            say(format_args!("{ended}\n"));
        }
    }
    daemons.end(&mut || lab.run_until(lab.now() + LOOK, &mut Nobody));
    lab.run_until(lab.now() + LAST_WORDS, &mut Nobody);
    tell_events(&lab, &mut told);
    Ok(0)
}

/// Every session is up; with a router outside, what follows from that has happened as well.
fn is_up(lab: &lab::Lab) -> bool {
    let is_silent = |(_, row): (&str, SessionRow)| {
        lab.is_external(neighbor_base(&row.neighbor)) && row.prefixes_received == 0
    };
    let is_quiet = || {
        let last = lab.events().last().map_or(Instant::ZERO, |event| event.at);
        let quiet = lab.now().since(last);
        quiet >= QUIET_IN_SILENCE || quiet >= QUIET && !lab.sessions().any(is_silent)
    };
    lab.is_converged() && (!lab.has_external() || is_quiet())
}

/// A line for each session with a router outside, as the other end sees it.
fn sessions_outside(lab: &lab::Lab) -> String {
    let mut text = String::new();
    for snapshot in lab.router_names().filter_map(|name| lab.snapshot(name)) {
        for row in snapshot.vrfs.iter().flat_map(|vrf| &vrf.sessions) {
            if lab.is_external(neighbor_base(&row.neighbor)) {
                let bfd = snapshot.bfd.iter().find(|bfd| bfd.peer == row.peer);
                let bfd = bfd.map_or("none", |bfd| bfd.state.as_str());
                let _ = writeln!(
                    text,
                    "{}: {} {} is {}, BFD {bfd}, {} prefixes",
                    snapshot.name, row.neighbor, row.peer, row.state, row.prefixes_received
                );
            }
        }
    }
    text
}

impl List {
    fn run(&self) -> Result<ExitCode, String> {
        let labs = open_registry()?.labs();
        Ok(print(&if self.json { json(&labs) } else { table(&labs) }))
    }
}

/// A row of `msee lab list --json`.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    pid: i32,
    nodes: &'a [String],
    since: String,
    control: BTreeMap<String, i32>,
}

fn json(labs: &[RunningLab]) -> String {
    let row = |lab: &'_ RunningLab| {
        serde_json::to_value(Row {
            name: &lab.record.name,
            pid: lab.record.pid,
            nodes: &lab.record.nodes,
            since: utc(lab.since),
            control: sandbox::control_processes(lab),
        })
    };
    let rows: Result<Vec<_>, _> = labs.iter().map(row).collect();
    format!("{:#}\n", serde_json::Value::from(rows.expect("a row is plain data")))
}

fn table(labs: &[RunningLab]) -> String {
    if labs.is_empty() {
        return "no lab runs\n".to_owned();
    }
    let width = labs.iter().map(|lab| lab.record.name.len()).chain([4]).max().unwrap_or(4);
    let mut text = format!("{:<width$}  {:>7}  {:<20}  NODES\n", "NAME", "PID", "SINCE");
    for lab in labs {
        let (record, since) = (&lab.record, utc(lab.since));
        let nodes = record.nodes.join(" ");
        let _ = writeln!(text, "{:<width$}  {:>7}  {since:<20}  {nodes}", record.name, record.pid);
    }
    text
}

/// A time since 1970 as RFC 3339 has it. The date is the civil one of the proleptic Gregorian
/// calendar, counted in eras of 400 years that begin in March.
fn utc(seconds: i64) -> String {
    const DAY: i64 = 86_400;
    const ERA_DAYS: i64 = 146_097;
    /// From 0000-03-01 to 1970-01-01.
    const EPOCH_DAYS: i64 = 719_468;
    let (days, second) = (seconds.div_euclid(DAY) + EPOCH_DAYS, seconds.rem_euclid(DAY));
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

impl Down {
    fn run(&self) -> Result<ExitCode, String> {
        let registry = open_registry()?;
        let lab = sandbox::find(&registry, self.lab.as_deref()).map_err(told)?;
        sandbox::end(&registry, &lab).map_err(told)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Exec {
    fn run(&self) -> Result<ExitCode, String> {
        let code = sandbox::run(&open_registry()?, &self.place, &self.program).map_err(told)?;
        Ok(ExitCode::from(code))
    }
}

fn open_registry() -> Result<Registry, String> {
    Registry::open().map_err(told)
}

fn told(error: impl std::fmt::Display) -> String {
    format!("msee: {error}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_as_the_date_it_is() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_798_761_599), "2026-12-31T23:59:59Z");
    }
}
