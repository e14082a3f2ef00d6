//! The steps of a drill, one after another: start the event, wait, look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::SessionRef;
use crate::config::drill::{Drill, During, Event, SessionState, Step, Target, Until};
use crate::drill::cause::{self, Cause};
use crate::drill::event;
use crate::drill::paths::Paths;
use crate::drill::probe::{FlowInfo, FlowWindow, Probes};
use crate::fabric::Totals;
use crate::lab::{Lab, neighbor_base};
use crate::model::Instant;
use crate::router::Snapshot;
use crate::telemetry::EventKind;

/// How often a wait looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the tables are kept for expectations that must stay.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);
/// The longest an `until` without `within` waits.
const WAIT_MAX: Duration = Duration::from_mins(15);
/// How long nothing may change before `until: converged` is believed.
const QUIET: Duration = Duration::from_secs(1);
/// Before the first step, all sessions have this long to come up.
const START_MAX: Duration = Duration::from_mins(2);
/// After the last step, what is on the way arrives.
const DRAIN: Duration = Duration::from_secs(1);

/// How far a drill is; for a person who waits.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    pub step: &'a str,
    pub number: usize,
    pub of: usize,
    pub now: Instant,
}

/// All that is known after a drill ran.
#[derive(Debug)]
pub struct Record {
    pub seed: u64,
    pub flows: Vec<FlowInfo>,
    pub steps: Vec<StepRecord>,
    pub paths: Paths,
    pub baseline: BTreeMap<String, Snapshot>,
    pub totals: Totals,
    /// Sessions that were not up when the baseline had to begin.
    pub not_started: Vec<String>,
    pub lab: Lab,
}

/// What one step was and what it did to each flow.
#[derive(Debug)]
pub struct StepRecord {
    pub name: String,
    pub event: Option<&'static str>,
    pub from: Instant,
    pub to: Instant,
    /// The wait was over in time.
    pub finished: bool,
    /// By flow id: figures of the packets sent during the step.
    pub windows: Vec<FlowWindow>,
    /// The same of what was sent later in the step, by `after` of the expectations about it.
    pub late_windows: BTreeMap<Duration, Vec<FlowWindow>>,
    pub causes: Vec<Cause>,
    pub after: BTreeMap<String, Snapshot>,
    /// Sessions and how often they had gone down before the step.
    pub before: BTreeMap<String, Snapshot>,
    /// Looks at the lab during the step, for expectations that must stay: every so often, and at
    /// the `after` of each.
    pub looks: Vec<(Instant, BTreeMap<String, Snapshot>)>,
}

/// Looks at the lab while a step runs.
struct Looks {
    /// Moments at which one is due whatever the others are.
    due: BTreeSet<Instant>,
    last: Instant,
    seen: Vec<(Instant, BTreeMap<String, Snapshot>)>,
}

impl Looks {
    fn next(&self) -> Instant {
        let due = self.due.iter().find(|at| **at > self.last);
        due.copied().unwrap_or(Instant::NEVER).min(self.last + SNAPSHOT_EVERY)
    }

    fn look(&mut self, lab: &Lab) {
        self.last = lab.now();
        self.seen.push((self.last, snapshots(lab)));
    }
}

/// Runs every step of a drill.
pub fn run(mut lab: Lab, drill: &Drill, progress: &mut dyn FnMut(Progress<'_>)) -> Record {
    let mut probes = Probes::new(&lab, drill);
    let mut paths = Paths::watch(&mut lab, probes.flows());
    let not_started = start(&mut lab, &mut paths);
    probes.start(&mut lab);
    let baseline = snapshots(&lab);
    let mut done: Vec<(Step, Instant, Instant, bool)> = Vec::new();
    let mut looks = Vec::new();
    let mut undone_by: Vec<Vec<Target>> = Vec::new();
    let mut states = vec![snapshots(&lab)];
    // A lab that does not come up proves nothing, so no step is run.
    let runs = if not_started.is_empty() { drill.steps.as_slice() } else { &[] };
    for (i, step) in runs.iter().enumerate() {
        let of = drill.steps.len();
        progress(Progress { step: &step.name, number: i + 1, of, now: lab.now() });
        let from = lab.now();
        start_event(&mut lab, step, &undone_by);
        undone_by.push(step.event.iter().flat_map(Event::targets).collect());
        let due = afters(drill, i).map(|after| from + after).collect();
        let mut seen = Looks { due, last: from, seen: Vec::new() };
        let finished = wait(&mut lab, step, from, &mut paths, &mut seen);
        done.push((step.clone(), from, lab.now(), finished));
        states.push(snapshots(&lab));
        looks.push(seen.seen);
    }
    let end = lab.now();
    probes.stop(&mut lab, end);
    lab.run_until(end + DRAIN, &mut paths);
    let mut steps = Vec::new();
    for (i, ((step, from, to, finished), looks)) in done.into_iter().zip(looks).enumerate() {
        let windows = probes.windows(&mut lab, (from, to), Duration::ZERO);
        let mut late = |after| (after, probes.windows(&mut lab, (from, to), after));
        let late_windows = afters(drill, i).map(&mut late).collect();
        let causes = cause::chain(lab.events(), &paths, &windows, from, to);
        steps.push(StepRecord {
            name: step.name.clone(),
            event: step.event.as_ref().map(Event::name),
            from,
            to,
            finished,
            windows,
            late_windows,
            causes,
            before: states[i].clone(),
            after: states[i + 1].clone(),
            looks,
        });
    }
    let totals = lab.totals();
    let flows = probes.flows().to_vec();
    Record { seed: drill.seed, flows, steps, paths, baseline, totals, not_started, lab }
}

/// How long after a step's beginning the expectations about it are first judged, where they say.
fn afters(drill: &Drill, step: usize) -> impl Iterator<Item = Duration> {
    let about = drill.expect.iter().filter(move |expectation| match expectation.during {
        During::Always => true,
        During::Step(index) => index == step,
    });
    about.filter_map(|expectation| expectation.after).filter(|after| !after.is_zero())
}

/// Lets every session come up before anything is measured; answers what did not.
fn start(lab: &mut Lab, paths: &mut Paths) -> Vec<String> {
    let deadline = lab.now() + START_MAX;
    while lab.now() < deadline {
        lab.run_until(lab.now() + LOOK_EVERY, paths);
        if lab.is_converged() && is_quiet(lab, QUIET) {
            return Vec::new();
        }
    }
    lab.sessions_missing()
}

fn start_event(lab: &mut Lab, step: &Step, earlier: &[Vec<Target>]) {
    let Some(event) = &step.event else { return };
    let mut touched: Vec<Target> = Vec::new();
    for target in earlier.iter().flatten() {
        if !touched.contains(target) {
            touched.push(target.clone());
        }
    }
    let everything = Event::Restore { at: touched };
    let event = match event {
        Event::Restore { at } if at.is_empty() => &everything,
        other => other,
    };
    lab.record("drill", EventKind::Fault, format!("{}: {}", step.name, event::describe(event)));
    (event::row(event).start)(lab, event);
}

/// Runs until the step is over; false when its wait was not over in time.
fn wait(lab: &mut Lab, step: &Step, from: Instant, paths: &mut Paths, looks: &mut Looks) -> bool {
    let least = from + step.lasts.unwrap_or(Duration::ZERO);
    let most = from + step.within.unwrap_or(WAIT_MAX.max(step.lasts.unwrap_or(Duration::ZERO)));
    while lab.now() < least {
        lab.run_until(least.min(looks.next()), paths);
        looks.look(lab);
    }
    let Some(until) = &step.until else { return lab.now() <= most };
    loop {
        if holds(lab, until, from) {
            return lab.now() <= most;
        }
        if lab.now() >= most {
            return false;
        }
        lab.run_until(looks.next().min(lab.now() + LOOK_EVERY), paths);
        if lab.now() >= looks.next() {
            looks.look(lab);
        }
    }
}

fn holds(lab: &Lab, until: &Until, from: Instant) -> bool {
    match until {
        Until::Converged => lab.is_converged() && is_quiet(lab, QUIET),
        Until::Stable(span) => {
            lab.is_converged() && is_quiet(lab, *span) && lab.now().since(from) >= *span
        }
        Until::Session { session, state } => {
            let up = session_is_up(lab, session);
            up == (*state == SessionState::Up)
        }
    }
}

/// Nothing of sessions and tables changed for so long.
fn is_quiet(lab: &Lab, span: Duration) -> bool {
    let changes = |kind| !matches!(kind, EventKind::NeighborResolved | EventKind::Refused);
    let last = lab.events().iter().rev().find(|event| changes(event.kind));
    last.is_none_or(|event| lab.now().since(event.at) >= span)
}

fn session_is_up(lab: &Lab, session: &SessionRef) -> bool {
    lab.session_ends(session).iter().all(|[end, _]| {
        lab.snapshot(&end.router).is_some_and(|snapshot| {
            let sessions = snapshot.vrfs.iter().flat_map(|vrf| &vrf.sessions);
            let mut named = sessions.filter(|row| neighbor_base(&row.neighbor) == end.neighbor);
            named.all(|row| row.established)
        })
    })
}

fn snapshots(lab: &Lab) -> BTreeMap<String, Snapshot> {
    let names: Vec<_> = lab.router_names().map(str::to_owned).collect();
    names.into_iter().filter_map(|name| lab.snapshot(&name).map(|state| (name, state))).collect()
}
