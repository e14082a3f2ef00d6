//! A drill: traffic through a lab that is broken in steps, what was lost, and why.
//!
//! [`act`] does the same events to a lab that runs on, outside any drill.
//!
//! No back door: a drill reaches routers as an operator and a customer do, by the lab's acts and
//! by frames. What it tells is read from probes, from wires and from the routers' snapshots.
//!
//! ```text
//!  Drill ─ runs ─► job: run k, setting ─ steps ─► Record ─┬ expect ─► Judged ─┐
//!                  (each on a core)                       └ report ─► RunReport ┴─► Report
//! ```

pub mod act;
mod capture;
mod cause;
pub mod connections;
pub mod event;
pub mod expect;
mod paths;
pub mod pcap;
mod probe;
pub mod report;
mod runs;
mod sample;
mod steps;

use crate::config::drill::Drill;
use crate::config::lab::Lab as LabFile;
use crate::drill::pcap::Captures;
use crate::lab::wire::{Wire, WireError};

pub use report::{Report, Verdict};
pub use runs::Progress;

/// Makes every run of a drill in virtual time, under each setting of `convergence` that the lab
/// leaves open, and judges them. `progress` hears of each step.
pub fn run(file: &LabFile, drill: &Drill, progress: &mut dyn FnMut(Progress)) -> Report {
    run_on(Wire::Virtual, file, drill, None, None, progress).expect(OPENS_NOTHING)
}

/// The same for one of its runs, counted from 1: exactly what that run was among the others.
pub fn replay(
    file: &LabFile,
    drill: &Drill,
    run: u32,
    progress: &mut dyn FnMut(Progress),
) -> Report {
    run_on(Wire::Virtual, file, drill, Some(run), None, progress).expect(OPENS_NOTHING)
}

/// The runs of a drill, or `only` one of them, on a wire; each is captured where that is asked for.
pub fn run_on(
    wire: Wire<'_>,
    file: &LabFile,
    drill: &Drill,
    only: Option<u32>,
    captures: Option<&Captures>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, WireError> {
    let mut jobs = runs::jobs(file, drill);
    jobs.retain(|job| only.is_none_or(|run| job.run == run));
    let outcomes = runs::make(wire, file, drill, &jobs, captures, progress)?;
    Ok(report::build(file, drill, wire.name(), outcomes))
}

const OPENS_NOTHING: &str = "virtual time opens no ports";
