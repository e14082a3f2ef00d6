//! `msee drill FILE`: run a drill and tell what it cost.

use std::fmt::Write as _;
use std::fs;
use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::{COULD_NOT_RUN, Workers, files, new, print};
use crate::config::drill::{Drill as DrillFile, Step};
use crate::config::lab::{Lab as LabFile, RouterKind};
use crate::drill::pcap::Captures;
use crate::drill::report::{html, json, junit, terminal};
use crate::drill::{self, Report, connections, event, expect};
use crate::lab::attach::{self, Lent};
use crate::lab::daemons::{self, Daemons};
use crate::lab::edge::run::{find_configurations, is_run};
use crate::lab::sandbox::{self, Home};
use crate::lab::wire::Wire;
use crate::lab::wiring::Wiring;

/// Between two looks at routers that are starting or ending.
const LOOK: Duration = Duration::from_millis(10);

const EXAMPLES: &str = "\
Examples:
  msee drill new my/                                  a lab and a drill to begin with
  msee drill fixtures/drills/quickstart.yaml          run it and read what happened
  msee drill my.yaml --json > report.json             the same for a program
  msee drill my.yaml --report out/                    report.html, report.json and junit.xml in out/
  msee drill my.yaml --run 13                         one of its runs again, exactly
  msee drill my.yaml --seed 8                         other phases of the timers
  msee drill my.yaml --wire veth                      on real frames and by the host's clock
  msee drill my.yaml --run 13 --capture out/          what every link carried, for Wireshark
  msee drill --list                                   what a drill can do and expect

Exit code: 0 every expectation held, 1 one failed, 2 the drill could not run.";

/// Break a lab in steps and tell, per flow, what was lost and why.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(subcommand_negates_reqs = true, disable_help_subcommand = true)]
pub struct Drill {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The drill file; the lab file it names is looked for beside it.
    #[arg(required_unless_present = "list")]
    file: Option<PathBuf>,
    /// Print report.json instead of the page.
    #[arg(long)]
    json: bool,
    /// Another seed than the file's.
    #[arg(long)]
    seed: Option<u64>,
    /// How many runs, instead of the file's number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: Option<u32>,
    /// Only this one of the runs, counted from 1.
    #[arg(long, value_name = "K")]
    run: Option<u32>,
    /// Write report.html, report.json and junit.xml into this folder.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Write what every link carried, and why it lost what it lost, into this folder: a pcapng file
    /// for each run and setting.
    #[arg(long, value_name = "DIR")]
    capture: Option<PathBuf>,
    /// List events and expectations with examples.
    #[arg(long)]
    list: bool,
    /// Where frames go: simulated time in memory, or the host's clock and veth pairs (no root needed).
    #[arg(long, value_enum, default_value_t = On::Virtual)]
    wire: On,
    #[command(flatten)]
    workers: Workers,
    /// Colour in the page.
    #[arg(long, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
}

#[derive(Subcommand, Debug)]
enum Verb {
    New(new::New),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum On {
    Virtual,
    Veth,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

impl Drill {
    pub fn run(&self) -> ExitCode {
        if let Some(Verb::New(new)) = &self.verb {
            return new.run();
        }
        if self.list {
            print(&list());
            return ExitCode::SUCCESS;
        }
        let file = self.file.as_deref().expect("clap asks for it");
        self.drill(file).unwrap_or_else(|error| {
            eprint!("{error}");
            ExitCode::from(COULD_NOT_RUN)
        })
    }

    fn drill(&self, file: &Path) -> Result<ExitCode, String> {
        let (lab, mut drill) = files::load_drill(file)?;
        drill.seed = self.seed.unwrap_or(drill.seed);
        drill.runs = self.runs.unwrap_or(drill.runs);
        if let Some(run) = self.run.filter(|&run| run == 0 || run > drill.runs) {
            return Err(format!("--run {run}: the drill has runs 1 to {}\n", drill.runs));
        }
        if self.workers.workers > 1 && self.wire == On::Virtual {
            return Err("--workers: virtual time is one queue; with it --wire veth\n".to_owned());
        }
        let mut routers = lab.sites.iter().flat_map(|site| &site.routers);
        if let Some(router) = routers.find(|router| router.is_attached())
            && self.wire == On::Virtual
        {
            return Err(format!(
                "{}: {} is `kind: attach`, a router of your own, which virtual time has not; run \
                 the drill on real frames: --wire veth\n",
                file.display(),
                router.name
            ));
        }
        // The folder is opened here: a sandbox may have another in its place.
        let captures = self.capture.as_deref().map(Captures::create).transpose()?;
        let captures = captures.as_ref();
        match self.wire {
            On::Virtual => self
                .drill_on(Wire::Virtual, file, (&lab, &drill), captures, &[])
                .map(ExitCode::from),
            On::Veth => self.drill_on_veth(file, lab, &drill, captures),
        }
    }

    /// The drill in a sandbox, with the lab's FRR and BIRD routers running there.
    fn drill_on_veth(
        &self,
        file: &Path,
        mut lab: LabFile,
        drill: &DrillFile,
        captures: Option<&Captures>,
    ) -> Result<ExitCode, String> {
        find_configurations(&mut lab, &files::lab_path_of(file)?);
        let refused = out_of_reach(&lab, drill);
        if !refused.is_empty() {
            return Err(files::render(files::open(file)?.refuse_steps(refused)));
        }
        let told = |error: &dyn std::fmt::Display| format!("msee: {error}\n");
        let launches = daemons::launches(&lab).map_err(|error| told(&error))?;
        let wiring = Wiring::of(&lab).map_err(|error| told(&error))?;
        let wiring = wiring.for_models(&connections::hosts(drill));
        // Those of the host, which the sandbox does not see.
        let attached = attach::ports(&lab).map_err(|error| told(&error))?;
        let attached = Lent::new(attached);
        let inside = |home: Home| {
            let text = |error: daemons::DaemonError| error.to_string();
            let mut daemons =
                Daemons::prepare(&drill.name, &launches, &home.namespaces).map_err(text)?;
            let mut idle = || {
                sleep(LOOK);
                !home.is_asked_to_end()
            };
            if !daemons.start(&mut idle).map_err(text)? {
                return Ok(COULD_NOT_RUN);
            }
            let execution = self.workers.execution();
            let namespaces = &home.namespaces;
            let (wiring, attached) = (&wiring, &attached);
            let wire = Wire::Veth { wiring, namespaces, daemons: &daemons, attached, execution };
            let code = self.drill_on(wire, file, (&lab, drill), captures, daemons.routers());
            daemons.end(&mut || sleep(LOOK));
            code
        };
        let code = sandbox::up(&drill.name, &wiring, false, inside);
        code.map(ExitCode::from).map_err(|error| told(&error))
    }

    /// Runs the drill and tells of it; its exit code.
    fn drill_on(
        &self,
        wire: Wire<'_>,
        file: &Path,
        (lab, drill): (&LabFile, &DrillFile),
        captures: Option<&Captures>,
        outside: &[daemons::Router],
    ) -> Result<u8, String> {
        let bar = progress_bar();
        let mut tell = |progress: drill::Progress| {
            bar.set_length(progress.steps as u64);
            bar.set_position(progress.steps_begun.saturating_sub(1) as u64);
            bar.set_message(progress.doing);
        };
        let report = drill::run_on(wire, lab, drill, self.run, captures, &mut tell);
        let mut report = report.map_err(|error| format!("msee: {error}\n"))?;
        bar.finish_and_clear();
        for failure in captures.iter().flat_map(|captures| captures.failures()) {
            eprintln!("msee: {failure}");
        }
        report.command = self.command(file, drill);
        for edge in &mut report.edges {
            if let Some(router) = outside.iter().find(|router| router.name == edge.name) {
                let (kind, version) =
                    router.version.split_once(' ').unwrap_or((&router.version, ""));
                (edge.kind, edge.version) = (kind.to_lowercase(), version.to_owned());
            }
        }
        report.expanded_lab = files::expand_lab_of(file)?;
        if let Some(folder) = &self.report {
            write(folder, &report)?;
        }
        let style = terminal::Style { colour: self.color.decide() };
        let page = if self.json { json::write(&report) } else { terminal::write(&report, style) };
        print(&page);
        Ok(report.verdict.exit_code())
    }

    /// What to type to see the same again.
    fn command(&self, file: &Path, drill: &DrillFile) -> String {
        let mut command = format!("msee drill {} --seed {}", file.display(), drill.seed);
        if self.runs.is_some() {
            let _ = write!(command, " --runs {}", drill.runs);
        }
        if let Some(run) = self.run {
            let _ = write!(command, " --run {run}");
        }
        if self.wire == On::Veth {
            command.push_str(" --wire veth");
            if self.workers.workers > 1 {
                let _ = write!(command, " --workers {}", self.workers.workers);
            }
        }
        command
    }
}

/// Steps that act on a router outside which nobody here can act on: each with what is wrong and what
/// can be done instead.
fn out_of_reach(lab: &LabFile, drill: &DrillFile) -> Vec<(usize, String, String)> {
    let console = |name: &str| {
        let (_, router) = lab.site_router(name)?;
        (router.kind != RouterKind::BuiltIn).then_some(is_run(lab, name))
    };
    let refuse = |(number, step): (usize, &Step)| {
        let name = event::out_of_reach(step.event.as_ref()?, lab, console)?;
        let (_, router) = lab.site_router(&name)?;
        let (found, allowed) = if router.is_attached() {
            (format!("{name} is a router of your own, which nobody here tells anything"), AROUND)
        } else {
            (format!("{name} is no router of msee's on this wire"), ELSEWHERE)
        };
        Some((number, found, allowed.to_owned()))
    };
    drill.steps.iter().enumerate().filter_map(refuse).collect()
}

/// What can be done around a router of the user's own.
const AROUND: &str = "what is done around it: cut, blackhole, impair at places; bgp-reset, \
    maintenance, peering-disable, peering-enable, bandwidth, provider-rate; router-crash, \
    router-restart, control-kill of an MSEE or a gateway";
/// Where FRR and BIRD can be acted on.
const ELSEWHERE: &str = "act on it itself in `msee lab up`, or run the drill in virtual time";

/// Writes every form of the report.
fn write(folder: &Path, report: &Report) -> Result<(), String> {
    let broken =
        |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}\n", path.display());
    fs::create_dir_all(folder).map_err(|error| broken(folder, &error))?;
    let files = [
        ("report.html", html::write(report)),
        ("report.json", json::write(report)),
        ("junit.xml", junit::write(report)),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| broken(&path, &error))?;
    }
    Ok(())
}

impl Colour {
    fn decide(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }
}

/// Shown on a terminal when the drill takes long enough to be noticed.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} steps, {elapsed}  {msg}");
    bar.set_style(style.expect("the template is fixed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn list() -> String {
    let mut text = String::from("Events (do:)\n");
    for row in event::EVENTS {
        let _ = write!(text, "  {:<16} {}\n  {:<16} {}\n", row.name, row.help, "", row.example);
    }
    text.push_str("\nExpectations (that:)\n");
    for row in expect::FORMS {
        let _ = write!(text, "  {:<16} {}\n  {:<16} {}\n", row.name, row.help, "", row.example);
    }
    text
}
