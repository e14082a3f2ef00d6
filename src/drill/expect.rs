//! What a drill expects, and whether it held: one row a form. An expectation that saw no packet
//! and no table is not evaluated, and that is a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::drill::{
    self, Amount, Compared, Convergence, Drill, During, Expectation, Form, Limits, PathPoint,
    SessionState,
};
use crate::config::{NodeRef, SessionRef};
use crate::drill::cause;
use crate::drill::paths::PathIndex;
use crate::drill::probe::{FlowInfo, FlowWindow};
use crate::drill::report::Millis;
use crate::drill::steps::{Record, StepRecord};
use crate::lab::neighbor_base;
use crate::model::{Bandwidth, Instant, LinkRole, Prefix};
use crate::router::{RouteRow, Snapshot};

/// A form of expectation.
pub struct FormRow {
    /// As after `that:`.
    pub name: &'static str,
    pub help: &'static str,
    pub example: &'static str,
    /// What was found in the steps the expectation is about; the form is of this row's kind.
    judge: fn(&Scene<'_>, &Form) -> Found,
}

/// Every form, in the order the help shows them.
pub const FORMS: &[FormRow] = &[
    FormRow {
        name: "outage",
        help: "longest time without a packet, per flow: max, min, p50, p99",
        example: "{ that: outage, of: erp, direction: to-azure, during: loss, max: 960ms }",
        judge: outage,
    },
    FormRow {
        name: "lost",
        help: "packets lost over all flows, or their share",
        example: "{ that: lost, of: erp, during: failback, max: 0 }",
        judge: lost,
    },
    FormRow {
        name: "flows-hit",
        help: "how many flows lost a packet",
        example: "{ that: flows-hit, of: erp, direction: to-azure, during: loss, between: [40%, 60%] }",
        judge: flows_hit,
    },
    FormRow {
        name: "path",
        help: "links that flows take by the end of the step, or never take",
        example: "{ that: path, of: erp, during: loss, through: ams/secondary }",
        judge: path,
    },
    FormRow {
        name: "route",
        help: "a router has a prefix by the end of the step, with this path or from there",
        example: "{ that: route, node: ce1, prefix: 10.1.0.0/16, asPath: 12076, during: baseline }",
        judge: route,
    },
    FormRow {
        name: "no-route",
        help: "a router does not have a prefix by the end of the step",
        example: "{ that: no-route, node: ams/primary, prefix: 192.168.0.0/22, during: loss }",
        judge: route_absent,
    },
    FormRow {
        name: "session",
        help: "a BGP session's state by the end of the step, or how often it went down in it",
        example: "{ that: session, session: ams/primary, state: up, during: failback }",
        judge: session,
    },
    FormRow {
        name: "cause-order",
        help: "these happened in this order",
        example: "{ that: cause-order, is: [fault, bfd-down, group-rewritten, bgp-down], during: loss }",
        judge: cause_order,
    },
    FormRow {
        name: "back-to-baseline",
        help: "routes, paths and sessions are as before the first event",
        example: "{ that: back-to-baseline, during: failback, within: 30s }",
        judge: back_to_baseline,
    },
    FormRow {
        name: "throughput",
        help: "what arrives, all flows together: in the whole step, or in every span of `per`",
        example: "{ that: throughput, of: erp, direction: to-azure, during: baseline, min: 4Mbps, per: 1s }",
        judge: throughput,
    },
    FormRow {
        name: "tcp",
        help: "connections reset, the longest time without new data, what was sent again",
        example: "{ that: tcp, of: bulk, during: loss, resets: 0, longestStall: 2s }",
        judge: tcp,
    },
    FormRow {
        name: "symmetric",
        help: "both directions of every conversation take the same link by the end of the step",
        example: "{ that: symmetric, of: erp, during: baseline }",
        judge: symmetric,
    },
    FormRow {
        name: "isolated",
        help: "packets seen at a place with an address in one of the blocks: none, or so many",
        example: "{ that: isolated, capture: ams/primary:nni, containsPrefixes: 10.99.0.0/16, packets: 0 }",
        judge: isolated,
    },
    FormRow {
        name: "prefixes-received",
        help: "prefixes an MSEE has from the customer, as a number or a share of the circuit's limit",
        example: "{ that: prefixes-received, session: ams/primary, ofLimit: 80%, during: baseline }",
        judge: prefixes_received,
    },
    FormRow {
        name: "limiter-drops",
        help: "packets the circuit's limiters dropped in the step",
        example: "{ that: limiter-drops, at: ams, during: overload, min: 1 }",
        judge: limiter_drops,
    },
];

/// What became of an expectation in one run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judged {
    pub held: bool,
    /// For a person: what was found.
    pub actual: String,
    pub evaluated: bool,
    /// Of an expectation about outages: that of each flow, so that percentiles can be over runs.
    outages: Vec<Duration>,
}

/// What a form looks at: the steps it is about, each from the moment it counts.
struct Scene<'a> {
    record: &'a Record,
    /// The expectation's place in the drill.
    index: usize,
    during: During,
    steps: Vec<&'a StepRecord>,
    after: Duration,
}

/// What a form found.
enum Found {
    Held(String),
    Failed(String),
    /// There was nothing to judge by.
    Nothing(String),
}

/// Judges one run by every expectation of a drill, in the order of the file; none for those that
/// are about another setting.
pub fn judge(drill: &Drill, record: &Record, setting: Convergence) -> Vec<Option<Judged>> {
    let counts =
        |expectation: &&Expectation| expectation.convergence.is_none_or(|of| of == setting);
    let one = |(index, expectation)| {
        Some(expectation).filter(counts).map(|_| judge_one(record, index, expectation))
    };
    drill.expect.iter().enumerate().map(one).collect()
}

/// What became of an expectation over all runs: it holds when it holds in each of them, percentiles
/// over the flows of all runs together unless it says `in: every-run`.
pub fn over_runs(expectation: &Expectation, runs: &[(u32, &Judged)]) -> Judged {
    let [(_, only)] = runs else { return over_several(expectation, runs) };
    (*only).clone()
}

fn over_several(expectation: &Expectation, runs: &[(u32, &Judged)]) -> Judged {
    let outages: Vec<_> = runs.iter().flat_map(|(_, run)| &run.outages).copied().collect();
    let evaluated = runs.iter().all(|(_, run)| run.evaluated);
    if let Form::Outage { limits, .. } = &expectation.form
        && !expectation.every_run
        && evaluated
        && let Some(spread) = OutageSpread::of(outages.clone())
    {
        let in_time = runs.iter().all(|(_, run)| !run.actual.starts_with(LATE));
        let actual = format!("{} in {} runs", spread.sentence(), runs.len());
        return Judged { held: spread.fits(limits) && in_time, actual, evaluated, outages };
    }
    let failed: Vec<_> = runs.iter().filter(|(_, run)| !run.held).collect();
    let actual = match failed.as_slice() {
        [] => format!("in each of {} runs; run {}: {}", runs.len(), runs[0].0, runs[0].1.actual),
        [(run, first), ..] => {
            format!("in {} of {} runs not; run {run}: {}", failed.len(), runs.len(), first.actual)
        }
    };
    Judged { held: failed.is_empty(), actual, evaluated, outages }
}

/// The row of a form.
pub fn row(form: &Form) -> &'static FormRow {
    let name = match form {
        Form::Outage { .. } => "outage",
        Form::Lost { .. } => "lost",
        Form::FlowsHit { .. } => "flows-hit",
        Form::Path { .. } => "path",
        Form::Route { .. } => "route",
        Form::NoRoute { .. } => "no-route",
        Form::Session { .. } => "session",
        Form::CauseOrder { .. } => "cause-order",
        Form::BackToBaseline { .. } => "back-to-baseline",
        Form::LimiterDrops { .. } => "limiter-drops",
        Form::Throughput { .. } => "throughput",
        Form::Tcp { .. } => "tcp",
        Form::Symmetric { .. } => "symmetric",
        Form::Isolated { .. } => "isolated",
        Form::PrefixesReceived { .. } => "prefixes-received",
    };
    FORMS.iter().find(|row| row.name == name).expect("a test holds that every form has a row")
}

/// How the finding of a step that did not end in time begins.
const LATE: &str = "step ";

fn judge_one(record: &Record, index: usize, expectation: &Expectation) -> Judged {
    let steps: Vec<_> = match expectation.during {
        During::Always => record.steps.iter().collect(),
        During::Step(index) => record.steps.get(index).into_iter().collect(),
    };
    let judged = |held, actual, evaluated| Judged { held, actual, evaluated, outages: Vec::new() };
    if steps.is_empty() {
        return judged(false, "not evaluated: no step was run".to_owned(), false);
    }
    let after = expectation.after.unwrap_or(Duration::ZERO);
    let scene = Scene { record, index, during: expectation.during, steps, after };
    let late = scene.steps.iter().find(|step| !step.finished);
    let found = match ((row(&expectation.form).judge)(&scene, &expectation.form), late) {
        (Found::Nothing(why), _) => judged(false, format!("not evaluated: {why}"), false),
        (Found::Failed(actual), _) => judged(false, actual, true),
        (Found::Held(actual), Some(step)) => {
            judged(false, format!("{LATE}{} did not end in time; {actual}", step.name), true)
        }
        (Found::Held(actual), None) => judged(true, actual, true),
    };
    match &expectation.form {
        Form::Outage { of, direction, .. } => {
            Judged { outages: outages(&scene, *of, *direction), ..found }
        }
        _ => found,
    }
}

impl<'a> Scene<'a> {
    /// Flows of a traffic entry and direction, with their windows from `after` on, in every step.
    fn flows(
        &self,
        of: usize,
        directions: drill::Directions,
    ) -> impl Iterator<Item = (&'a FlowInfo, &'a FlowWindow, &'a StepRecord)> {
        let record = self.record;
        let after = self.after;
        self.steps.clone().into_iter().flat_map(move |step| {
            let windows = step.late_windows.get(&after).unwrap_or(&step.windows);
            let flows = record.flows.iter().zip(windows);
            flows
                .filter(move |(info, _)| info.traffic == of && info.goes(directions))
                .map(move |(info, window)| (info, window, step))
        })
    }

    /// What was seen when a step began to count; none when it was over before.
    fn beginning(&self, step: &'a StepRecord) -> Option<&'a BTreeMap<String, Snapshot>> {
        if self.after.is_zero() {
            return Some(&step.before);
        }
        let begin = step.from + self.after;
        step.looks.iter().find(|(at, _)| *at == begin).map(|(_, states)| states)
    }

    /// Links a flow was on at the end of a step, or ever since `after`; none is no link.
    fn links_of(&self, flow: usize, step: &'a StepRecord) -> BTreeSet<Option<PathIndex>> {
        let paths = &self.record.paths;
        let looks = self.looks_in(step).into_iter();
        let mut links: BTreeSet<_> = looks.map(|(at, _)| paths.at(flow, at)).collect();
        if !self.after.is_zero() {
            let used = paths.between(flow, step.from + self.after, step.to);
            links.extend(used.into_iter().map(Some));
        }
        links
    }

    /// The end of a step, and what was seen before it from `after` on.
    fn looks_in(&self, step: &'a StepRecord) -> Vec<(Instant, &'a BTreeMap<String, Snapshot>)> {
        let from = step.from + self.after;
        let stays = self.after > Duration::ZERO;
        let in_time = step.looks.iter().filter(|(at, _)| stays && *at >= from && *at < step.to);
        let in_time = in_time.map(|(at, states)| (*at, states));
        in_time.chain([(step.to, &*step.after)]).collect()
    }

    /// Looks at one router during the steps, from `after` on, ends of steps included.
    fn looks(&self, router: &str) -> Vec<(Instant, Option<&'a Snapshot>)> {
        let looks = self.steps.iter().flat_map(|step| self.looks_in(step));
        looks.map(|(at, states)| (at, states.get(router))).collect()
    }
}

fn verdict(held: bool, actual: String) -> Found {
    if held { Found::Held(actual) } else { Found::Failed(actual) }
}

fn outage(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::Outage { of, direction, limits } = form else { return other_form() };
    let Some(spread) = OutageSpread::of(outages(scene, *of, *direction)) else {
        return Found::Nothing("no packet was sent".to_owned());
    };
    verdict(spread.fits(limits), spread.sentence())
}

/// The longest outage of each flow that sent, in each step.
fn outages(scene: &Scene<'_>, of: usize, direction: drill::Directions) -> Vec<Duration> {
    let windows = scene.flows(of, direction).filter(|(_, window, _)| window.figures.sent > 0);
    windows.map(|(_, window, _)| window.outage()).collect()
}

/// Outages of at least one flow, the shortest first.
struct OutageSpread(Vec<Duration>);

impl OutageSpread {
    fn of(mut outages: Vec<Duration>) -> Option<Self> {
        outages.sort_unstable();
        (!outages.is_empty()).then_some(Self(outages))
    }

    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() - 1) * percent / 100]
    }

    fn hit(&self) -> usize {
        self.0.iter().filter(|outage| !outage.is_zero()).count()
    }

    fn fits(&self, limits: &Limits<Duration>) -> bool {
        let least = self.0[self.0.len() - self.hit().max(1)];
        within(limits, self.at(100), least, self.at(50), self.at(99))
    }

    fn sentence(&self) -> String {
        let at = |percent| Millis::from(self.at(percent));
        let (max, p99, p50) = (at(100), at(99), at(50));
        let (flows, hit) = (self.0.len(), self.hit());
        format!("max {max} ms, p99 {p99} ms, p50 {p50} ms over {flows} flows, {hit} of them hit")
    }
}

/// The largest within `max`, the smallest of those hit not below `min`, percentiles within theirs.
fn within<T: PartialOrd>(limits: &Limits<T>, most: T, least: T, p50: T, p99: T) -> bool {
    limits.max.as_ref().is_none_or(|max| most <= *max)
        && limits.min.as_ref().is_none_or(|min| least >= *min)
        && limits.p50.as_ref().is_none_or(|limit| p50 <= *limit)
        && limits.p99.as_ref().is_none_or(|limit| p99 <= *limit)
}

fn lost(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::Lost { of, direction, limits } = form else { return other_form() };
    let (mut sent, mut lost) = (0, 0);
    for (_, window, _) in scene.flows(*of, *direction) {
        sent += window.figures.sent;
        lost += window.figures.lost;
    }
    if sent == 0 {
        return Found::Nothing("no packet was sent".to_owned());
    }
    let reaches = |amount: &Amount| reaches(lost, sent, *amount);
    let exceeds = |amount: &Amount| exceeds(lost, sent, *amount);
    let held = !limits.max.as_ref().is_some_and(exceeds) && limits.min.as_ref().is_none_or(reaches);
    verdict(held, format!("{lost} of {sent} packets lost"))
}

/// `part` of `whole` is at least so much.
fn reaches(part: u64, whole: u64, amount: Amount) -> bool {
    match amount {
        Amount::Count(count) => part >= count,
        Amount::Share(ppm) => u128::from(part) * 1_000_000 >= u128::from(whole) * u128::from(ppm),
    }
}

fn exceeds(part: u64, whole: u64, amount: Amount) -> bool {
    match amount {
        Amount::Count(count) => part > count,
        Amount::Share(ppm) => u128::from(part) * 1_000_000 > u128::from(whole) * u128::from(ppm),
    }
}

fn flows_hit(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::FlowsHit { of, direction, between } = form else { return other_form() };
    let mut flows: BTreeMap<u32, bool> = BTreeMap::new();
    for (info, window, _) in scene.flows(*of, *direction) {
        if window.figures.sent > 0 {
            *flows.entry(info.flow.id).or_default() |= window.figures.lost > 0;
        }
    }
    let (all, hit) = (flows.len() as u64, flows.values().filter(|hit| **hit).count() as u64);
    if all == 0 {
        return Found::Nothing("no packet was sent".to_owned());
    }
    let held = reaches(hit, all, between.0) && !exceeds(hit, all, between.1);
    verdict(held, format!("{hit} of {all} flows hit"))
}

fn path(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::Path { of, direction, through, never } = form else { return other_form() };
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut held, mut flows) = (true, 0);
    for (info, window, step) in scene.flows(*of, *direction) {
        let id = info.flow.id as usize;
        let paths = &scene.record.paths;
        if window.figures.sent == 0 {
            continue;
        }
        let is_one_of = |points: &[PathPoint], index: PathIndex| {
            let (path, msee) = (paths.name(index), paths.msee(index));
            points.iter().any(|point| on_path(scene, point, path, msee))
        };
        let links = scene.links_of(id, step);
        flows += u64::from(links.iter().any(Option::is_some));
        for link in links {
            *seen.entry(link.map_or("no link", |index| paths.name(index))).or_default() += 1;
            held &= through.is_empty() || link.is_some_and(|index| is_one_of(through, index));
        }
        let used = paths.between(id, step.from + scene.after, step.to);
        held &= !used.iter().any(|&index| is_one_of(never, index));
    }
    if flows == 0 {
        return Found::Nothing("no packet was seen on any link".to_owned());
    }
    let counts: Vec<_> = seen.iter().map(|(name, flows)| format!("{flows} on {name}")).collect();
    let when = if scene.after.is_zero() { "at the end of the step" } else { "when looked at" };
    verdict(held, format!("flows {when}: {}", counts.join(", ")))
}

fn on_path(scene: &Scene<'_>, point: &PathPoint, path: &str, msee: &str) -> bool {
    match point {
        PathPoint::Circuit(circuit) => {
            path.strip_prefix(circuit.as_str()).is_some_and(|rest| rest.starts_with('/'))
        }
        PathPoint::Node(NodeRef::Msee(place)) => {
            path == format!("{}/{}", place.circuit, place.link)
        }
        PathPoint::Node(NodeRef::SiteRouter(name)) => LinkRole::BOTH.iter().any(|&link| {
            let file = scene.record.lab.file();
            file.circuits.iter().any(|circuit| {
                path == format!("{}/{link}", circuit.name)
                    && file.edge_of(&circuit.name, link).is_some_and(|(_, edge)| edge.name == *name)
            })
        }),
        PathPoint::Node(NodeRef::Gateway { .. }) => scene
            .record
            .lab
            .routers_of(match point {
                PathPoint::Node(node) => node,
                PathPoint::Circuit(_) => return false,
            })
            .iter()
            .any(|name| name == msee),
    }
}

fn route(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::Route { node, prefix, present, as_path, best } = form else { return other_form() };
    let lab = &scene.record.lab;
    let best = best.as_ref().map(|from| lab.neighbor_names(from));
    let fits = |row: Option<&RouteRow>| {
        let Some(row) = row else { return !present };
        let wanted = |path: &&crate::router::PathRow| {
            path.best
                && as_path.as_ref().is_none_or(|asns| {
                    let asns: Vec<_> = asns.iter().map(ToString::to_string).collect();
                    path.as_path == asns.join(" ")
                })
                && best.as_ref().is_none_or(|names| names.contains(&path.from))
        };
        row.paths.iter().any(|path| wanted(&path)) == *present
    };
    look_at_routes(scene, node, *prefix, fits)
}

fn route_absent(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::NoRoute { node, prefix } = form else { return other_form() };
    look_at_routes(scene, node, *prefix, |row| row.is_none())
}

/// Holds when at every look, on every router the reference stands for, the row of the prefix fits.
fn look_at_routes(
    scene: &Scene<'_>,
    node: &NodeRef,
    prefix: Prefix,
    fits: impl Fn(Option<&RouteRow>) -> bool,
) -> Found {
    let lab = &scene.record.lab;
    let vrf = lab.vrf_of(node);
    let (mut held, mut last, mut looks) = (true, String::new(), 0);
    for router in lab.routers_of(node) {
        if lab.is_external(&router) {
            return Found::Nothing(format!("{router} is outside msee: its tables are not seen"));
        }
        for (at, state) in scene.looks(&router) {
            let Some(state) = state else {
                last = format!("{router} is down");
                held = false;
                continue;
            };
            looks += 1;
            let table = state.vrfs.iter().find(|table| table.name == vrf);
            let row = table.and_then(|table| table.routes.iter().find(|row| row.prefix == prefix));
            if !fits(row) || held {
                held &= fits(row);
                last = format!(
                    "{router} at {} s: {}",
                    at.as_nanos() / 1_000_000_000,
                    describe(prefix, row)
                );
            }
        }
    }
    if looks == 0 && last.is_empty() {
        return Found::Nothing(format!("{node} was never seen"));
    }
    verdict(held, last)
}

fn describe(prefix: Prefix, row: Option<&RouteRow>) -> String {
    let Some(row) = row else { return format!("no {prefix}") };
    let path = |path: &crate::router::PathRow| {
        let mark = if path.best {
            "best"
        } else if path.multipath {
            "also"
        } else {
            "unused"
        };
        format!("[{}] from {} ({mark})", path.as_path, path.from)
    };
    format!("{prefix} {}", row.paths.iter().map(path).collect::<Vec<_>>().join(", "))
}

fn session(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::Session { session, families, state, flaps } = form else { return other_form() };
    let rows =
        |states: &BTreeMap<String, Snapshot>| session_rows(scene, session, *families, states);
    if flaps.is_some() && scene.steps.iter().all(|step| scene.beginning(step).is_none()) {
        return Found::Nothing("the step was over before".to_owned());
    }
    let (mut held, mut seen, mut down, mut flapped) = (true, 0, 0, 0);
    for step in &scene.steps {
        let (before, after) = (scene.beginning(step).map(rows), rows(&step.after));
        for (_, states) in scene.looks_in(step) {
            let rows = rows(states);
            seen += rows.len();
            down += rows.iter().filter(|(_, established, _)| !established).count();
        }
        let Some(before) = before else { continue };
        for (name, _, count) in &after {
            let earlier = before.iter().find(|(other, _, _)| other == name).map_or(0, |row| row.2);
            flapped += u64::from(count.checked_sub(earlier).unwrap_or(*count));
        }
    }
    if let Some(state) = state {
        held &= match state {
            SessionState::Up => down == 0 && seen > 0,
            SessionState::Down => down == seen,
        };
    }
    if let Some(flaps) = flaps {
        held &= (flaps.min..=flaps.max).contains(&flapped);
    }
    if seen == 0 && *state != Some(SessionState::Down) {
        return Found::Nothing(format!("{session} was never seen"));
    }
    let when = if scene.after.is_zero() { "at the end" } else { "when looked at" };
    verdict(held, format!("{} of {seen} up {when}, {flapped} flap(s)", seen - down))
}

/// (name, established, flaps) of each session the reference stands for, at one end.
fn session_rows(
    scene: &Scene<'_>,
    session: &SessionRef,
    families: drill::Families,
    states: &BTreeMap<String, Snapshot>,
) -> Vec<(String, bool, u32)> {
    let mut rows = Vec::new();
    for end in scene.record.lab.session_ends_seen(session) {
        let Some(state) = states.get(&end.router) else { continue };
        let vrfs = state.vrfs.iter().filter(|vrf| vrf.name == end.vrf);
        for row in vrfs.flat_map(|vrf| &vrf.sessions) {
            let of_family = match families {
                drill::Families::Both => true,
                drill::Families::Ipv4 => row.peer.is_ipv4(),
                drill::Families::Ipv6 => row.peer.is_ipv6(),
            };
            let base = neighbor_base(&row.neighbor);
            if of_family && base == end.neighbor {
                rows.push((format!("{} {}", end.router, row.neighbor), row.established, row.flaps));
            }
        }
    }
    rows
}

fn cause_order(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::CauseOrder { is, within } = form else { return other_form() };
    let Some(step) = scene.steps.first() else { return Found::Nothing("no step".to_owned()) };
    if step.causes.is_empty() {
        return Found::Nothing("nothing happened".to_owned());
    }
    let (mut at, mut first, mut last, mut held) = (0, None, None, true);
    let mut found = Vec::new();
    for wanted in is {
        let next = step.causes[at..].iter().position(|cause| cause.kind == wanted.name());
        let Some(next) = next else {
            held = false;
            found.push(format!("no {} after that", wanted.name()));
            break;
        };
        let cause = &step.causes[at + next];
        first.get_or_insert(cause.at);
        last = Some(cause.at);
        found.push(format!("{} +{} ms", cause.kind, cause.at_ms));
        at += next + 1;
    }
    if let (Some(first), Some(last), Some(within)) = (first, last, within) {
        held &= last.since(first) <= *within;
    }
    verdict(held, found.join(", "))
}

fn back_to_baseline(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::BackToBaseline { within, compare } = form else { return other_form() };
    let Some(step) = scene.steps.last() else { return Found::Nothing("no step".to_owned()) };
    let mut differences = Vec::new();
    for (name, before) in scene.record.baseline.iter() {
        let Some(after) = step.after.get(name) else {
            differences.push(format!("{name} is down"));
            continue;
        };
        if compare.contains(&Compared::Routes) && routes(before) != routes(after) {
            differences.push(format!("routes of {name}"));
        }
        if compare.contains(&Compared::Sessions) && sessions(before) != sessions(after) {
            differences.push(format!("sessions of {name}"));
        }
    }
    if compare.contains(&Compared::Paths) {
        let first = scene.record.steps.iter().find(|step| step.event.is_some());
        let first = first.map_or(step.from, |first| first.from);
        let paths = &scene.record.paths;
        if scene.record.flows.iter().all(|info| paths.at(info.flow.id as usize, first).is_none()) {
            return Found::Nothing("no path was seen before the first event".to_owned());
        }
        let moved = |info: &&FlowInfo| {
            let id = info.flow.id as usize;
            paths.at(id, first) != paths.at(id, step.to)
        };
        let count = scene.record.flows.iter().filter(moved).count();
        if count > 0 {
            differences.push(format!("paths of {count} flows"));
        }
    }
    let settled = step.causes.iter().rev().find(|cause| cause.kind == cause::SETTLED);
    let took = settled.map_or(Duration::ZERO, |cause| cause.at.since(step.from));
    let in_time = within.is_none_or(|within| took <= within);
    let actual = match differences.as_slice() {
        [] => format!("as before after {} ms", Millis::from(took)),
        some => format!("different: {}", some.join(", ")),
    };
    verdict(differences.is_empty() && in_time, actual)
}

/// What of a table must come back: paths and which is used. Ages are not.
fn routes(state: &Snapshot) -> Vec<(String, &[RouteRow])> {
    state.vrfs.iter().map(|vrf| (vrf.name.clone(), vrf.routes.as_slice())).collect()
}

fn sessions(state: &Snapshot) -> Vec<(&str, bool)> {
    let rows = state.vrfs.iter().flat_map(|vrf| &vrf.sessions);
    rows.map(|row| (row.neighbor.as_str(), row.established)).collect()
}

fn limiter_drops(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::LimiterDrops { circuit, link, limits } = form else { return other_form() };
    let links = link.map_or(LinkRole::BOTH.to_vec(), |link| vec![link]);
    let of_circuit = |name: &str| {
        links.iter().any(|link| {
            name.strip_prefix(&format!("{circuit}/{link}:"))
                .is_some_and(|way| way.starts_with("to-"))
        })
    };
    let (mut dropped, mut seen) = (0, false);
    for step in &scene.steps {
        let Some(earlier) = scene.beginning(step) else { continue };
        for (router, state) in step.after.iter() {
            for row in state.limiters.iter().filter(|row| of_circuit(&row.name)) {
                let before = earlier
                    .get(router)
                    .and_then(|state| state.limiters.iter().find(|before| before.name == row.name));
                let before = before.map_or(0, |before| before.dropped_packets);
                // A router that was started anew counts from zero.
                let since = row.dropped_packets.checked_sub(before);
                dropped += since.unwrap_or(row.dropped_packets);
                seen = true;
            }
        }
    }
    if !seen {
        return Found::Nothing(format!("no limiter of {circuit} was seen"));
    }
    verdict(
        within(limits, dropped, dropped, dropped, dropped),
        format!("{dropped} packets dropped"),
    )
}

fn throughput(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::Throughput { of, direction, limits, per } = form else { return other_form() };
    let (mut least, mut most) = (u64::MAX, 0);
    for step in &scene.steps {
        let begin = (step.from + scene.after).min(step.to);
        let lasts = step.to.since(begin);
        let span = per.unwrap_or(lasts);
        // A span that the step cuts short would look like a loss.
        let spans = lasts.as_nanos().checked_div(span.as_nanos()).unwrap_or(0) as usize;
        for bytes in scene.record.delivered(*of, *direction, begin, span, spans) {
            let bps = u128::from(bytes) * 8 * 1_000_000_000 / span.as_nanos();
            let bps = u64::try_from(bps).unwrap_or(u64::MAX);
            (least, most) = (least.min(bps), most.max(bps));
        }
    }
    if least > most {
        return Found::Nothing("the step is shorter than a span".to_owned());
    }
    if most == 0 && !scene.record.sent_anything(*of, *direction, &scene.steps) {
        return Found::Nothing("no packet was sent".to_owned());
    }
    let held = limits.min.is_none_or(|min| least >= min.bps())
        && limits.max.is_none_or(|max| most <= max.bps());
    let [least, most] = [least, most].map(|bps| Bandwidth::from_bps(bps).to_string());
    let spans = per.map_or(String::new(), |per| format!(" in every {per:?}"));
    let actual = if least == most {
        format!("{least} arrived")
    } else {
        format!("{least} to {most} arrived{spans}")
    };
    verdict(held, actual)
}

fn tcp(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::Tcp { of, resets, longest_stall, retransmitted } = form else { return other_form() };
    let (mut reset, mut stall, mut again, mut sent) = (0, Duration::ZERO, 0, 0);
    for step in &scene.steps {
        let begin = (step.from + scene.after).min(step.to);
        for window in scene.record.connections.windows(&scene.record.lab, *of, (begin, step.to)) {
            reset += window.resets;
            stall = stall.max(window.longest_stall);
            again += window.retransmitted;
            sent += window.segments;
        }
    }
    if sent == 0 {
        return Found::Nothing("no segment was sent".to_owned());
    }
    let held = resets.is_none_or(|max| reset <= max)
        && longest_stall.is_none_or(|max| stall <= max)
        && !retransmitted.is_some_and(|max| exceeds(again, sent, max));
    let stall = Millis::from(stall);
    verdict(
        held,
        format!(
            "{reset} reset(s), longest stall {stall} ms, {again} of {sent} segments sent again"
        ),
    )
}

fn symmetric(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::Symmetric { of } = form else { return other_form() };
    let record = scene.record;
    let (mut seen, mut differ, mut example) = (0, 0, String::new());
    for step in &scene.steps {
        for (label, forth, back) in record.conversations(*of) {
            let [forth, back] = [forth, back].map(|flow| scene.links_of(flow, step));
            if forth.iter().chain(&back).all(Option::is_none) {
                continue;
            }
            seen += 1;
            if forth != back {
                differ += 1;
                let name = |links: &BTreeSet<Option<PathIndex>>| {
                    let names = links
                        .iter()
                        .map(|link| link.map_or("no link", |link| record.paths.name(link)));
                    names.collect::<Vec<_>>().join(" and ")
                };
                if example.is_empty() {
                    example =
                        format!(": {label} goes by {}, comes by {}", name(&forth), name(&back));
                }
            }
        }
    }
    if seen == 0 {
        return Found::Nothing("no conversation was seen on any link".to_owned());
    }
    verdict(differ == 0, format!("{differ} of {seen} conversations take two links{example}"))
}

fn isolated(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::Isolated { capture, packets, .. } = form else { return other_form() };
    let seen = scene.record.captures.seen(scene.index, scene.during);
    if seen.packets == 0 {
        return Found::Nothing(format!("no packet was seen at {capture}"));
    }
    let actual = format!("{} of {} packets at {capture}", seen.matching, seen.packets);
    verdict(seen.matching <= *packets, actual)
}

fn prefixes_received(scene: &Scene<'_>, form: &Form) -> Found {
    let Form::PrefixesReceived { session, limits, of_limit } = form else { return other_form() };
    let lab = &scene.record.lab;
    let (mut held, mut texts) = (true, BTreeSet::new());
    for step in &scene.steps {
        for (_, states) in scene.looks_in(step) {
            for [_, end] in lab.session_ends(session) {
                let rows = states.get(&end.router).into_iter().flat_map(|state| &state.vrfs);
                let rows = rows.filter(|vrf| vrf.name == end.vrf).flat_map(|vrf| &vrf.sessions);
                for row in rows.filter(|row| neighbor_base(&row.neighbor) == end.neighbor) {
                    let count = row.prefixes_received;
                    held &= within(limits, count, count, count, count);
                    let limit = lab.prefix_limit(session, row.peer.is_ipv6());
                    if let (Some(share), Some(limit)) = (of_limit, limit) {
                        held &= !exceeds(count, limit, Amount::Share(*share));
                    }
                    let of = limit.map_or(String::new(), |limit| format!(" of at most {limit}"));
                    texts.insert(format!("{} from {}{of}", count, row.neighbor));
                }
            }
        }
    }
    if texts.is_empty() {
        return Found::Nothing(format!("{session} was never seen"));
    }
    verdict(held, texts.into_iter().collect::<Vec<_>>().join(", "))
}

fn other_form() -> Found {
    Found::Nothing("the row is of another form".to_owned())
}

impl std::fmt::Debug for FormRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
