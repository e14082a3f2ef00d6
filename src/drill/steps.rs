//! The steps of a drill, one after another: start the event, wait, look.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::config::SessionRef;
use crate::config::drill::{Directions, Drill, During, Event, SessionState, Step, Target, Until};
use crate::drill::capture::Captures;
use crate::drill::cause::{self, Cause};
use crate::drill::connections::Connections;
use crate::drill::event;
use crate::drill::paths::Paths;
use crate::drill::probe::{FlowInfo, FlowWindow, Probes};
use crate::drill::sample::Sample;
use crate::fabric::{Direction, LinkIndex, Observer, Totals};
use crate::lab::diagnosis::diagnose;
use crate::lab::peer_gap::PeerGaps;
use crate::lab::watch::Watch as StartWatch;
use crate::lab::{Lab, neighbor_base};
use crate::model::Instant;
use crate::router::Snapshot;
use crate::telemetry::EventKind;

/// How often a wait looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often counters are read.
pub const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// How often the tables are kept for expectations that must stay.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);
/// The longest an `until` without `within` waits.
const WAIT_MAX: Duration = Duration::from_mins(15);
/// How long nothing may change before `until: converged` is believed.
const QUIET: Duration = Duration::from_secs(1);
/// The same where a router is outside: its updates follow its sessions by a second and more.
const QUIET_OUTSIDE: Duration = Duration::from_secs(3);
/// Before the first step, all sessions have this long to come up.
const START_MAX: Duration = Duration::from_mins(2);
/// After the last step, what is on the way arrives.
const DRAIN: Duration = Duration::from_secs(1);

/// Every router that was up, by name. A step's end is the next one's beginning.
pub type States = Rc<BTreeMap<String, Snapshot>>;

/// All that is known after a drill ran once.
#[derive(Debug)]
pub struct Record {
    /// From the lab's having come up to the first step.
    pub phase: Duration,
    pub flows: Vec<FlowInfo>,
    pub connections: Connections,
    pub steps: Vec<StepRecord>,
    pub paths: Paths,
    pub captures: Captures,
    pub baseline: States,
    pub totals: Totals,
    pub host: Host,
    /// Sessions that were not up when the baseline had to begin.
    pub not_started: Vec<String>,
    pub lab: Lab,
}

/// What the host itself did to the lab, from the first step on; nothing in virtual time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// The longest time that it kept the lab from running.
    pub longest_stall: Duration,
    /// The longest time that a customer's router took for a BFD packet, beyond its interval, and the
    /// router; none when none was late.
    pub latest_peer: Option<(String, Duration)>,
    /// Packets that it lost between the lab's ports.
    pub lost: u64,
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
    pub before: States,
    pub after: States,
    /// Looks at the lab during the step, for expectations that must stay: every so often, and at
    /// the `after` of each. None where no expectation asks.
    pub looks: Vec<(Instant, BTreeMap<String, Snapshot>)>,
    /// What was dropped and limited until then, the step's beginning and end included.
    pub samples: Vec<Sample>,
}

/// Everything that looks at frames on their way.
struct Watch {
    paths: Paths,
    captures: Captures,
    /// Once every session is up.
    peers: Option<PeerGaps>,
    /// Until every session is up.
    starting: Option<StartWatch>,
}

impl Observer for Watch {
    fn frame(&mut self, link: LinkIndex, direction: Direction, bytes: &[u8], now: Instant) {
        self.paths.frame(link, direction, bytes, now);
        self.captures.frame(link, bytes, now);
        if let Some(peers) = &mut self.peers {
            peers.frame(link, direction, bytes, now);
        }
        if let Some(starting) = &mut self.starting {
            starting.frame(link, direction, bytes, now);
        }
    }
}

impl Host {
    /// The longest time that it kept anybody from running.
    fn longest(&self) -> Duration {
        let peer = self.latest_peer.as_ref().map_or(Duration::ZERO, |(_, late)| *late);
        self.longest_stall.max(peer)
    }
}

impl Record {
    /// A host that slept longer than a third of the shortest detection time, let a customer's router
    /// sleep so long, or lost packets, has made failures that are none, or hidden some.
    pub fn is_disturbed(&self) -> bool {
        let sessions = self.baseline.values().flat_map(|snapshot| &snapshot.bfd);
        let patience = sessions.map(|session| session.detection / 3).min();
        patience.is_some_and(|most| self.host.longest() > most) || self.host.lost > 0
    }

    /// Bytes that arrived of an entry's flows, in spans one after another from `begin` on: IP bytes
    /// of probes by when they were sent, payload of TCP by when it arrived.
    pub fn delivered(
        &self,
        of: usize,
        directions: Directions,
        begin: Instant,
        span: Duration,
        spans: usize,
    ) -> Vec<u64> {
        let mut bytes = self.connections.delivered(&self.lab, of, begin, span, spans);
        let flows = self.flows.iter().filter(|info| info.traffic == of && info.goes(directions));
        for info in flows {
            for (sum, bin) in
                bytes.iter_mut().zip(info.bins(&self.lab, (begin, Instant::NEVER), span, spans))
            {
                *sum += bin.received * u64::from(info.flow.size);
            }
        }
        bytes
    }

    /// Whether an entry sent at all in one of the steps.
    pub fn sent_anything(&self, of: usize, directions: Directions, steps: &[&StepRecord]) -> bool {
        steps.iter().any(|step| {
            let probes = self.flows.iter().zip(&step.windows);
            let mut probes = probes.filter(|(info, _)| info.traffic == of && info.goes(directions));
            probes.any(|(_, window)| window.figures.sent > 0)
                || self
                    .connections
                    .windows(&self.lab, of, (step.from, step.to))
                    .any(|w| w.segments > 0)
        })
    }

    /// Each conversation of an entry: its name, and its two flows as [`Paths`] knows them.
    pub fn conversations(&self, of: usize) -> Vec<(String, usize, usize)> {
        let back = |forth: &FlowInfo| {
            let same = |info: &&FlowInfo| {
                info.traffic == of
                    && info.flow.index == forth.flow.index
                    && info.direction == forth.direction.opposite()
            };
            self.flows.iter().find(same).map(|info| info.flow.id as usize)
        };
        let probes = self.flows.iter().filter(|info| info.traffic == of);
        let probes = probes.filter(|info| info.direction == crate::traffic::Direction::ToAzure);
        let pair = |info: &FlowInfo| {
            let label = format!("{} {}", info.flow.name, info.flow.index);
            Some((label, info.flow.id as usize, back(info)?))
        };
        probes.filter_map(pair).chain(self.connections.conversations(of)).collect()
    }
}

/// Looks at the lab while a step runs: counters always, tables where an expectation that must
/// stay asks for them.
struct Looks {
    /// Moments at which tables are due whatever the others are; none where nobody asks.
    due: BTreeSet<Instant>,
    last_tables: Instant,
    last_sample: Instant,
    tables: Vec<(Instant, BTreeMap<String, Snapshot>)>,
    samples: Vec<Sample>,
}

impl Looks {
    fn new(lab: &Lab, due: BTreeSet<Instant>) -> Self {
        let now = lab.now();
        let samples = vec![Sample::take(lab)];
        Self { due, last_tables: now, last_sample: now, tables: Vec::new(), samples }
    }

    fn next(&self) -> Instant {
        self.next_tables().min(self.last_sample + SAMPLE_EVERY)
    }

    fn next_tables(&self) -> Instant {
        if self.due.is_empty() {
            return Instant::NEVER;
        }
        let due = self.due.iter().find(|at| **at > self.last_tables);
        due.copied().unwrap_or(Instant::NEVER).min(self.last_tables + SNAPSHOT_EVERY)
    }

    fn look(&mut self, lab: &Lab) {
        let now = lab.now();
        if now >= self.next_tables() {
            self.last_tables = now;
            self.tables.push((now, snapshots(lab)));
        }
        if now >= self.last_sample + SAMPLE_EVERY {
            self.last_sample = now;
            self.samples.push(Sample::take(lab));
        }
    }
}

/// What a run does; for a person who waits.
#[derive(Clone, Copy, Debug)]
pub enum Doing<'a> {
    /// These sessions are not up that should be, with a router outside that may take its time.
    Waiting(&'a [String]),
    Step(&'a str),
}

/// Runs every step of a drill once, the first one `phase` after the lab has come up.
pub fn run(
    mut lab: Lab,
    drill: &Drill,
    phase: Duration,
    progress: &mut dyn FnMut(Doing<'_>),
) -> Record {
    let mut probes = Probes::new(&lab, drill);
    let mut connections = Connections::new(&lab, drill, probes.flows().len() as u32);
    let mut watch = Watch {
        paths: Paths::watch(&mut lab, probes.flows(), &connections),
        captures: Captures::default(),
        peers: None,
        starting: None,
    };
    let not_started = start(&mut lab, &mut watch, progress);
    watch.captures = Captures::watch(&mut lab, drill);
    watch.peers = Some(PeerGaps::watch(&mut lab));
    lab.run_until(lab.now() + phase, &mut watch);
    probes.start(&mut lab);
    connections.start(&mut lab);
    let mut done: Vec<(Step, Instant, Instant, bool)> = Vec::new();
    let mut looks = Vec::new();
    let mut undone_by: Vec<Vec<Target>> = Vec::new();
    // Whatever the host did while the lab came up proves nothing.
    watch.peers.iter_mut().for_each(PeerGaps::begin);
    lab.take_longest_stall();
    let lost_before = lab.lost_by_host();
    // What the lab was before each step, and after the last.
    let mut states: Vec<States> = vec![Rc::new(snapshots(&lab))];
    // A lab that does not come up proves nothing, so no step is run.
    let runs = if not_started.is_empty() { drill.steps.as_slice() } else { &[] };
    for (i, step) in runs.iter().enumerate() {
        progress(Doing::Step(&step.name));
        let from = lab.now();
        watch.captures.begin_step(i, from);
        if let Some(event) = &step.event {
            event::start(&mut lab, event, undone_by.iter().flatten(), "drill", &step.name);
            watch.peers.iter_mut().for_each(PeerGaps::forgive);
        }
        undone_by.push(step.event.iter().flat_map(Event::targets).collect());
        let due = afters(drill, i).map(|after| from + after).collect();
        let mut seen = Looks::new(&lab, due);
        let finished = wait(&mut lab, step, from, &mut watch, &mut seen);
        done.push((step.clone(), from, lab.now(), finished));
        states.push(Rc::new(snapshots(&lab)));
        seen.samples.push(Sample::take(&lab));
        looks.push(seen);
    }
    let end = lab.now();
    probes.stop(&mut lab, end);
    connections.stop(&mut lab, end);
    lab.run_until(end + DRAIN, &mut watch);
    lab.end_tcp();
    let Watch { paths, captures, peers, starting: _ } = watch;
    let latest_peer = peers.as_ref().and_then(PeerGaps::longest);
    let host = Host {
        longest_stall: lab.take_longest_stall(),
        latest_peer: latest_peer.map(|(peer, late)| (peer.to_owned(), late)),
        lost: lab.lost_by_host() - lost_before,
    };
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
            before: Rc::clone(&states[i]),
            after: Rc::clone(&states[i + 1]),
            looks: looks.tables,
            samples: looks.samples,
        });
    }
    let baseline = Rc::clone(&states[0]);
    let totals = lab.totals();
    let flows = probes.flows().to_vec();
    Record {
        phase,
        flows,
        connections,
        steps,
        paths,
        captures,
        baseline,
        totals,
        host,
        not_started,
        lab,
    }
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
fn start(lab: &mut Lab, watch: &mut Watch, progress: &mut dyn FnMut(Doing<'_>)) -> Vec<String> {
    let deadline = lab.now() + START_MAX;
    watch.starting = Some(StartWatch::new(lab));
    let (mut is_up, mut told) = (false, Vec::new());
    while !is_up && lab.now() < deadline {
        lab.run_until(lab.now() + LOOK_EVERY, watch);
        is_up = lab.is_converged() && is_quiet(lab, quiet(lab));
        let missing = if lab.has_external() { lab.sessions_missing() } else { Vec::new() };
        if missing != told {
            progress(Doing::Waiting(&missing));
            told = missing;
        }
    }
    let observed = watch.starting.take().map(|starting| starting.finish(lab)).unwrap_or_default();
    if is_up { Vec::new() } else { diagnose(lab, &observed) }
}

/// Runs until the step is over; false when its wait was not over in time.
fn wait(lab: &mut Lab, step: &Step, from: Instant, watch: &mut Watch, looks: &mut Looks) -> bool {
    let least = from + step.lasts.unwrap_or(Duration::ZERO);
    let most = from + step.within.unwrap_or(WAIT_MAX.max(step.lasts.unwrap_or(Duration::ZERO)));
    while lab.now() < least {
        lab.run_until(least.min(looks.next()), watch);
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
        lab.run_until(looks.next().min(lab.now() + LOOK_EVERY), watch);
        looks.look(lab);
    }
}

fn holds(lab: &Lab, until: &Until, from: Instant) -> bool {
    match until {
        Until::Converged => lab.is_converged() && is_quiet(lab, quiet(lab)),
        Until::Stable(span) => {
            lab.is_converged() && is_quiet(lab, *span) && lab.now().since(from) >= *span
        }
        Until::Session { session, state } => {
            let up = session_is_up(lab, session);
            up == (*state == SessionState::Up)
        }
    }
}

fn quiet(lab: &Lab) -> Duration {
    if lab.has_external() { QUIET_OUTSIDE } else { QUIET }
}

/// Nothing of sessions and tables changed for so long.
fn is_quiet(lab: &Lab, span: Duration) -> bool {
    let changes = |kind| !matches!(kind, EventKind::NeighborResolved | EventKind::Refused);
    let last = lab.events().iter().rev().find(|event| changes(event.kind));
    last.is_none_or(|event| lab.now().since(event.at) >= span)
}

fn session_is_up(lab: &Lab, session: &SessionRef) -> bool {
    lab.session_ends_seen(session).iter().all(|end| {
        lab.snapshot(&end.router).is_some_and(|snapshot| {
            let vrfs = snapshot.vrfs.iter().filter(|vrf| vrf.name == end.vrf);
            let sessions = vrfs.flat_map(|vrf| &vrf.sessions);
            let mut named = sessions.filter(|row| neighbor_base(&row.neighbor) == end.neighbor);
            named.all(|row| row.established)
        })
    })
}

fn snapshots(lab: &Lab) -> BTreeMap<String, Snapshot> {
    let names: Vec<_> = lab.router_names().map(str::to_owned).collect();
    names.into_iter().filter_map(|name| lab.snapshot(&name).map(|state| (name, state))).collect()
}
