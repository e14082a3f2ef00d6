//! A drill: traffic through a lab that is broken in steps, what was lost, and why.
//!
//! No back door: a drill reaches routers as an operator and a customer do, by the lab's acts and
//! by frames. What it tells is read from probes, from wires and from the routers' snapshots.

mod cause;
pub mod event;
pub mod expect;
mod paths;
mod probe;
pub mod report;
mod steps;

use crate::config::drill::Drill;
use crate::config::lab::Lab as LabFile;
use crate::lab::Lab;

pub use report::{Report, Verdict};
pub use steps::Progress;

/// Runs a drill in virtual time and judges it. `progress` hears of each step.
pub fn run(file: &LabFile, drill: &Drill, progress: &mut dyn FnMut(Progress<'_>)) -> Report {
    let lab = Lab::new(file, drill.seed);
    let record = steps::run(lab, drill, progress);
    let judged = expect::judge(drill, &record);
    report::build(drill, &record, judged)
}
