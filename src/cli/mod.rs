//! The command line: one file per verb.
//!
//! Exit codes: 0 done, 1 an expectation failed or the host is not fit, 2 it could not run.

mod act;
mod capture;
mod check;
mod control;
mod doctor;
mod drill;
mod edge;
mod files;
mod lab;
mod live;
mod new;
mod replay;
mod run;
mod schema;
mod service;
mod show;

use std::io::{ErrorKind, Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::lab::Execution;
use crate::router::Launcher;

/// An ExpressRoute edge in a box: the MSEE pair, the provider, the gateways and the VNets.
#[derive(Parser, Debug)]
#[command(name = "msee", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Capture(capture::Capture),
    Check(check::Check),
    #[command(name = Launcher::VERB, hide = true)]
    ControlProcess(control::ControlProcess),
    Doctor(doctor::Doctor),
    Drill(drill::Drill),
    Lab(lab::Lab),
    Replay(replay::Replay),
    Run(run::Run),
    Schema(schema::Schema),
    Show(show::Show),
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Capture(capture) => capture.run(),
        Verb::Check(check) => check.run(),
        Verb::ControlProcess(control) => control.run(),
        Verb::Doctor(doctor) => doctor.run(),
        Verb::Drill(drill) => drill.run(),
        Verb::Lab(lab) => lab.run(),
        Verb::Replay(replay) => replay.run(),
        Verb::Run(run) => run.run(),
        Verb::Schema(schema) => schema.run(),
        Verb::Show(show) => show.run(),
    }
}

/// Prints to standard output. A reader that has seen enough and closed its pipe is no error.
fn print(text: &str) -> ExitCode {
    match stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("msee: standard output: {error}");
            ExitCode::from(COULD_NOT_RUN)
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Prints what a command gives, or why it gives nothing.
fn tell(outcome: Result<String, String>) -> ExitCode {
    match outcome {
        Ok(text) => print(&text),
        Err(text) => {
            eprint!("{text}");
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

/// How many threads forward.
#[derive(Args, Clone, Copy, Debug)]
struct Workers {
    /// Threads that forward: MSEEs in turn, then the customers' side, then gateways and VNets.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    workers: u8,
}

impl Workers {
    fn execution(self) -> Execution<'static> {
        Execution { program: Some(Path::new(OWN_PROGRAM)), workers: self.workers.into() }
    }
}

/// This program, also where mounts hide its path or another has its name.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// It could not run.
const COULD_NOT_RUN: u8 = 2;
