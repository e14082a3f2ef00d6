//! `msee drill FILE`: run a drill and tell what it cost.

use std::fmt::Write as _;
use std::fs;
use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::{COULD_NOT_RUN, files, print};
use crate::drill::report::{json, terminal};
use crate::drill::{self, Report, event, expect};

const EXAMPLES: &str = "\
Examples:
  msee drill fixtures/drills/quickstart.yaml          run it and read what happened
  msee drill my.yaml --json > report.json             the same for a program
  msee drill my.yaml --seed 8 --report out/           another phase of the timers; report.json in out/
  msee drill --list                                   what a drill can do and expect

Exit code: 0 every expectation held, 1 one failed, 2 the drill could not run.";

/// Break a lab in steps and tell, per flow, what was lost and why.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Drill {
    /// The drill file; the lab file it names is looked for beside it.
    #[arg(required_unless_present = "list")]
    file: Option<PathBuf>,
    /// Print report.json instead of the page.
    #[arg(long)]
    json: bool,
    /// Another seed than the file's.
    #[arg(long)]
    seed: Option<u64>,
    /// Write report.json into this folder.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// List events and expectations with examples.
    #[arg(long)]
    list: bool,
    /// Colour in the page.
    #[arg(long, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

impl Drill {
    pub fn run(&self) -> ExitCode {
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
        if let Some(seed) = self.seed {
            drill.seed = seed;
        }
        let bar = progress_bar(drill.steps.len());
        let report = drill::run(&lab, &drill, &mut |progress| {
            bar.set_position(progress.number as u64 - 1);
            bar.set_message(progress.step.to_owned());
        });
        bar.finish_and_clear();
        let text = json::write(&report);
        if let Some(folder) = &self.report {
            let path = folder.join("report.json");
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&path, &text))
                .map_err(|error| format!("{}: {error}\n", path.display()))?;
        }
        let page = if self.json { text } else { self.page(&report, file) };
        print(&page);
        Ok(ExitCode::from(report.verdict.exit_code()))
    }

    fn page(&self, report: &Report, file: &Path) -> String {
        let style = terminal::Style { colour: self.color.decide() };
        let again = format!("\nAgain: msee drill {} --seed {}\n", file.display(), report.seed);
        terminal::write(report, style) + &again
    }
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
fn progress_bar(steps: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:24} step {pos}/{len} {msg} {elapsed}");
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
