//! The runs of a drill: each with its own seed and phase, on as many cores as there are.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::config::drill::{Convergence, Drill};
use crate::config::lab::Lab as LabFile;
use crate::drill::expect::{self, Judged};
use crate::drill::pcap::Captures;
use crate::drill::report::{self, Millis, RunReport, Shown};
use crate::drill::steps::{self, Doing};
use crate::lab::wire::{Wire, WireError};
use crate::model::{ConvergenceDelay, Random};

/// The first step begins at random within so long after the lab has come up: longer than any
/// timer whose phase decides an outage below the hold time (L-12: BFD at 300 or 750 ms).
const PHASE_MAX: Duration = Duration::from_secs(1);
/// Seeds that JSON numbers carry exactly.
const SEED_BITS: u32 = 53;

/// One simulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Job {
    /// Counts from 1.
    pub run: u32,
    pub convergence: Convergence,
    pub seed: u64,
}

impl Job {
    /// In the first run VM hosts always take the longest the documents allow, so that a verdict
    /// does not rest on lucky draws, however few runs there are.
    pub const fn is_worst(self) -> bool {
        matches!(self.convergence, Convergence::Documented) && self.run == 1
    }
}

/// What one simulation gave.
#[derive(Debug)]
pub struct Outcome {
    pub job: Job,
    pub report: RunReport,
    /// By the drill's expectations; none for those of the other setting.
    pub judged: Vec<Option<Judged>>,
    /// Only of the run that is shown, of those done so far under a setting.
    pub shown: Option<Shown>,
}

impl Outcome {
    /// The run to show is the greatest: of those that failed most, the one with the longest outage.
    fn rank(&self) -> (usize, Millis, Reverse<u32>) {
        let failed = self.judged.iter().flatten().filter(|judged| !judged.held).count();
        (failed, self.report.longest_outage(), Reverse(self.job.run))
    }
}

/// How far a drill is; for a person who waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Of all steps of all runs.
    pub steps_begun: usize,
    pub steps: usize,
    /// What is done: `run 3, ideal: site-loss`.
    pub doing: String,
}

/// The runs of a drill under each setting: VM hosts that follow at once, and those that follow as
/// the lab says. A lab that says `ideal` of every VNet leaves only that.
pub fn jobs(file: &LabFile, drill: &Drill) -> Vec<Job> {
    let ideal = ConvergenceDelay::default();
    let leaves_open = file.virtual_networks.iter().any(|vnet| vnet.convergence != ideal);
    let settings: &[Convergence] = if leaves_open {
        &[Convergence::Ideal, Convergence::Documented]
    } else {
        &[Convergence::Ideal]
    };
    let job = |run| {
        let job = move |&convergence| Job { run, convergence, seed: seed(drill.seed, run) };
        settings.iter().map(job)
    };
    (1..=drill.runs).flat_map(job).collect()
}

/// The first run has the drill's own seed.
fn seed(seed: u64, run: u32) -> u64 {
    match run {
        1 => seed,
        _ => Random::new(seed, &format!("run {run}")).next_u64() >> (u64::BITS - SEED_BITS),
    }
}

enum Message {
    /// What is done, and whether that is another step.
    Doing(String, bool),
    Done(usize, Result<Box<Outcome>, WireError>),
}

/// Makes the runs, in parallel where the wire has room for several; the outcomes are in the order of
/// the jobs. On real frames a run that does not come up is the last: what keeps a session down does so
/// in every run.
pub fn make(
    wire: Wire<'_>,
    file: &LabFile,
    drill: &Drill,
    jobs: &[Job],
    captures: Option<&Captures>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Outcome>, WireError> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = if wire.is_shared() { cores.min(jobs.len()) } else { 1 };
    let next = AtomicUsize::new(0);
    let (tell, hear) = mpsc::channel();
    let mut outcomes: Vec<Option<Outcome>> = jobs.iter().map(|_| None).collect();
    thread::scope(|scope| {
        for _ in 0..workers {
            let (tell, next) = (tell.clone(), &next);
            scope.spawn(move || {
                while let Some((index, job)) = take(next, jobs) {
                    let outcome = make_one(wire, file, drill, *job, captures, &mut |doing| {
                        let (what, is_step) = match doing {
                            Doing::Step(step) => (step.to_owned(), true),
                            Doing::Waiting([]) => ("all sessions are up".to_owned(), false),
                            Doing::Waiting(missing) => {
                                (format!("waiting for {}", missing.join(", ")), false)
                            }
                        };
                        let what = format!("run {}, {}: {what}", job.run, job.convergence.name());
                        // Who no longer listens is on its way out.
                        let _ = tell.send(Message::Doing(what, is_step));
                    });
                    let is_up = |outcome: &Outcome| outcome.report.not_started.is_empty();
                    let goes_on = outcome.as_ref().is_ok_and(|o| wire.is_shared() || is_up(o));
                    let _ = tell.send(Message::Done(index, outcome.map(Box::new)));
                    if !goes_on {
                        break;
                    }
                }
            });
        }
        drop(tell);
        let mut steps_begun = 0;
        let mut best = BTreeMap::new();
        let steps = drill.steps.len() * jobs.len();
        let mut failed = None;
        for message in hear {
            match message {
                Message::Doing(doing, is_step) => {
                    steps_begun += usize::from(is_step);
                    progress(Progress { steps_begun, steps, doing });
                }
                Message::Done(index, Ok(outcome)) => {
                    outcomes[index] = Some(*outcome);
                    show_best(&mut outcomes, &mut best, index);
                }
                Message::Done(_, Err(error)) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    })?;
    Ok(outcomes.into_iter().flatten().collect())
}

/// Keeps the details of one run of each setting: thousands of runs would fill the memory.
fn show_best(
    outcomes: &mut [Option<Outcome>],
    best: &mut BTreeMap<Convergence, usize>,
    done: usize,
) {
    let Some(setting) = outcomes[done].as_ref().map(|outcome| outcome.job.convergence) else {
        return;
    };
    let rank = |index: usize| outcomes[index].as_ref().map(Outcome::rank);
    let loser = match best.get(&setting) {
        Some(&before) if rank(before) > rank(done) => Some(done),
        before => before.copied(),
    };
    if loser != Some(done) {
        best.insert(setting, done);
    }
    if let Some(loser) = loser.and_then(|index| outcomes[index].as_mut()) {
        loser.shown = None;
    }
}

fn take<'a>(next: &AtomicUsize, jobs: &'a [Job]) -> Option<(usize, &'a Job)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    jobs.get(index).map(|job| (index, job))
}

fn make_one(
    wire: Wire<'_>,
    file: &LabFile,
    drill: &Drill,
    job: Job,
    captures: Option<&Captures>,
    progress: &mut dyn FnMut(Doing<'_>),
) -> Result<Outcome, WireError> {
    let mut file = file.clone();
    for vnet in &mut file.virtual_networks {
        vnet.convergence = match job.convergence {
            Convergence::Ideal => ConvergenceDelay::default(),
            Convergence::Documented if job.is_worst() => vnet.convergence.worst(),
            Convergence::Documented => vnet.convergence,
        };
    }
    let mut lab = wire.lab(&file, job.seed)?;
    if let Some(captures) = captures {
        captures.begin(&mut lab, job);
    }
    let phase = Random::new(job.seed, "phase").below(PHASE_MAX.as_micros() as u64);
    let mut record = steps::run(lab, drill, Duration::from_micros(phase), progress);
    if let Some(captures) = captures {
        captures.end(&mut record.lab, job);
    }
    let outcome = Outcome {
        job,
        judged: expect::judge(drill, &record, job.convergence),
        report: report::run_report(&record, job),
        shown: Some(report::shown(&record, drill, job)),
    };
    wire.end(record.lab);
    Ok(outcome)
}
