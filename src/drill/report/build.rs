//! Records of what happened → the report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::azure::BACKBONE_DELAY;
use crate::config::drill::{self, Drill, During, Event, Expectation, MaintenanceCategory};
use crate::config::lab::{Lab, RouterKind};
use crate::drill::expect::{self, Judged};
use crate::drill::probe::{FlowInfo, FlowWindow};
use crate::drill::report::{
    Assumption, Conservation, EdgeReport, ExpectationReport, FlowReport, GroupReport, HostReport,
    LatencyFigures, LimiterReport, Millis, OutageFigures, Report, RunReport, SettingVerdict,
    StepReport, TcpReport, Verdict, summary, topology,
};
use crate::drill::runs::{Job, Outcome};
use crate::drill::steps::{Record, SAMPLE_EVERY, StepRecord};
use crate::model::{Instant, Role, SessionTtl};
use crate::router::{CONTROL_RESTART, DropReason, LINGER, LimiterRow};
use crate::traffic::{Direction, Latency};

const SECOND: Duration = Duration::from_secs(1);

/// Puts the report of all runs together.
pub fn build(file: &Lab, drill: &Drill, wire: &str, outcomes: Vec<Outcome>) -> Report {
    let settings: BTreeSet<_> = outcomes.iter().map(|outcome| outcome.job.convergence).collect();
    let assumptions = assumptions(drill, file, &settings);
    let mut expectations = Vec::new();
    let mut verdicts = Vec::new();
    for &setting in &settings {
        let runs: Vec<_> =
            outcomes.iter().filter(|outcome| outcome.job.convergence == setting).collect();
        let judged = judge(drill, &runs, setting);
        let other_setting = judged.is_empty() && !drill.expect.is_empty();
        if !other_setting {
            verdicts.push(SettingVerdict {
                convergence: setting.into(),
                verdict: verdict(&runs, &judged, &assumptions),
                held: judged.iter().filter(|judged| judged.held).count() as u64,
                of: judged.len() as u64,
            });
        }
        expectations.extend(judged);
    }
    let (runs, shown): (Vec<_>, Vec<_>) =
        outcomes.into_iter().map(|outcome| (outcome.report, outcome.shown)).unzip();
    let mut shown: Vec<_> = shown.into_iter().flatten().collect();
    shown.sort_by_key(|shown| shown.convergence);
    Report {
        tool: "msee".to_owned(),
        name: drill.name.clone(),
        lab: file.name.clone(),
        seed: drill.seed,
        wire: wire.to_owned(),
        verdict: verdicts.iter().map(|row| row.verdict).max().unwrap_or(Verdict::Invalid),
        verdicts,
        command: String::new(),
        summary: summary::rows(drill, &runs, &expectations, &shown),
        assumptions,
        runs,
        expectations,
        edges: edges(file),
        topology: topology::draw(file, drill),
        shown,
        expanded_lab: String::new(),
    }
}

/// What became of the expectations of a setting over its runs.
fn judge(drill: &Drill, runs: &[&Outcome], setting: drill::Convergence) -> Vec<ExpectationReport> {
    let judged = |(index, expectation): (usize, &Expectation)| {
        let of = |outcome: &&'_ Outcome| Some((outcome.job.run, outcome.judged[index].clone()?));
        let of_runs: Vec<_> = runs.iter().filter_map(of).collect();
        let of_runs: Vec<_> = of_runs.iter().map(|(run, judged)| (*run, judged)).collect();
        let Judged { held, actual, evaluated, .. } =
            (!of_runs.is_empty()).then(|| expect::over_runs(expectation, &of_runs))?;
        let text = expectation.text.clone();
        let step = match expectation.during {
            During::Always => String::new(),
            During::Step(step) => drill.steps[step].name.clone(),
        };
        let traffic = expectation.form.traffic().map(|of| drill.traffic[of].name.clone());
        let (convergence, traffic) = (setting.into(), traffic.unwrap_or_default());
        Some(ExpectationReport { text, convergence, step, traffic, held, actual, evaluated })
    };
    drill.expect.iter().enumerate().filter_map(judged).collect()
}

fn verdict(runs: &[&Outcome], judged: &[ExpectationReport], assumptions: &[Assumption]) -> Verdict {
    let runs: Vec<_> = runs.iter().map(|outcome| &outcome.report).collect();
    let proved = |run: &&RunReport| {
        run.not_started.is_empty() && run.conservation.held && !run.host.disturbed
    };
    let finished = |run: &&RunReport| run.steps.iter().all(|step| step.finished);
    if !runs.iter().all(proved) {
        Verdict::Invalid
    } else if !runs.iter().all(finished) || !judged.iter().all(|judged| judged.held) {
        Verdict::Fail
    } else if assumptions.is_empty() {
        Verdict::Pass
    } else {
        Verdict::PassAssuming
    }
}

/// What one run has to tell.
pub fn run_report(record: &Record, job: Job) -> RunReport {
    let (late_peer, peer_gap) = record.host.latest_peer.clone().unzip();
    RunReport {
        run: job.run,
        convergence: job.convergence.into(),
        seed: job.seed,
        phase_ms: record.phase.into(),
        steps: record.steps.iter().map(|step| step_report(record, step)).collect(),
        conservation: conservation(record),
        host: HostReport {
            worker_gap_ms: record.host.longest_stall.into(),
            peer_gap_ms: peer_gap.unwrap_or_default().into(),
            late_peer,
            lost: record.host.lost,
            disturbed: record.is_disturbed(),
        },
        not_started: record.not_started.clone(),
    }
}

fn step_report(record: &Record, step: &StepRecord) -> StepReport {
    let origin = record.steps.first().map_or(Instant::ZERO, |first| first.from);
    let flows = record.flows.iter().zip(&step.windows);
    StepReport {
        step: step.name.clone(),
        event: step.event.map(str::to_owned),
        at_ms: step.from.since(origin).into(),
        for_ms: step.to.since(step.from).into(),
        finished: step.finished,
        flows: flows.map(|(info, window)| flow_report(record, step, info, window)).collect(),
        groups: groups(record, step),
        tcp: tcp(record, step),
        causes: step.causes.clone(),
        drops: drops(step),
        limiters: limiters(step),
    }
}

fn flow_report(
    record: &Record,
    step: &StepRecord,
    info: &FlowInfo,
    window: &FlowWindow,
) -> FlowReport {
    let path = |at| {
        let path = record.paths.at(info.flow.id as usize, at);
        path.map(|path| record.paths.name(path).to_owned()).unwrap_or_default()
    };
    FlowReport {
        name: info.flow.name.clone(),
        flow: info.flow.index,
        direction: info.direction.name().to_owned(),
        from: info.flow.from.host.clone(),
        to: info.flow.to.host.clone(),
        sent: window.figures.sent,
        received: window.figures.received,
        lost: window.figures.lost,
        reordered: window.figures.reordered,
        duplicated: window.figures.duplicated,
        resolution_ms: info.resolution().into(),
        outage_ms: window.outage().into(),
        path_before: path(step.from),
        path_after: path(step.to),
    }
}

/// The flows of each traffic entry and direction together, in the order of the drill.
fn groups(record: &Record, step: &StepRecord) -> Vec<GroupReport> {
    let mut members: BTreeMap<(usize, Direction), Vec<(&FlowInfo, &FlowWindow)>> = BTreeMap::new();
    for (info, window) in record.flows.iter().zip(&step.windows) {
        members.entry((info.traffic, info.direction)).or_default().push((info, window));
    }
    let hit = |(traffic, direction): (usize, Direction), index: u32| {
        let flows = members.get(&(traffic, direction)).into_iter().flatten();
        let mut same = flows.filter(|(info, _)| info.flow.index == index);
        same.any(|(_, window)| window.figures.lost > 0)
    };
    let group = |(&(traffic, direction), flows): (&(usize, Direction), &Vec<_>)| {
        let either =
            |index| hit((traffic, direction), index) || hit((traffic, direction.opposite()), index);
        let conversations =
            flows.iter().filter(|(info, _): &&(&FlowInfo, &FlowWindow)| either(info.flow.index));
        group_report(record, step, direction, flows, conversations.count() as u64)
    };
    members.iter().map(group).collect()
}

/// What became of TCP connections in a step.
fn tcp(record: &Record, step: &StepRecord) -> Vec<TcpReport> {
    record.connections.report(&record.lab, &record.paths, (step.from, step.to))
}

fn group_report(
    record: &Record,
    step: &StepRecord,
    direction: Direction,
    flows: &[(&FlowInfo, &FlowWindow)],
    conversations_hit: u64,
) -> GroupReport {
    let mut outages: Vec<Duration> = flows.iter().map(|(_, window)| window.outage()).collect();
    outages.sort_unstable();
    let flows_hit = flows.iter().filter(|(_, window)| window.figures.lost > 0).count();
    let at = |percent: usize| outages[(outages.len() - 1) * percent / 100].into();
    let mut latency = Latency::new();
    let mut paths = BTreeMap::new();
    for (info, window) in flows {
        latency.add(&window.figures.latency);
        if let Some(path) = record.paths.at(info.flow.id as usize, step.to) {
            *paths.entry(record.paths.name(path).to_owned()).or_default() += 1;
        }
    }
    let (first, _) = flows[0];
    GroupReport {
        name: first.flow.name.clone(),
        direction: direction.name().to_owned(),
        flows: flows.len() as u64,
        sent: flows.iter().map(|(_, window)| window.figures.sent).sum(),
        lost: flows.iter().map(|(_, window)| window.figures.lost).sum(),
        outage_ms: OutageFigures {
            p50: at(50),
            p99: at(99),
            max: at(100),
            min_hit: outages[outages.len() - flows_hit.max(1)].into(),
        },
        latency_us: LatencyFigures {
            p50: latency.p50_us().unwrap_or(0),
            p99: latency.p99_us().unwrap_or(0),
            max: latency.max_us().unwrap_or(0),
        },
        flows_hit: flows_hit as u64,
        conversations_hit,
        resolution_ms: first.resolution().into(),
        paths,
    }
}

/// What was dropped during a step, by place and reason.
fn drops(step: &StepRecord) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut all: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let (Some(before), Some(after)) = (step.samples.first(), step.samples.last()) else {
        return all;
    };
    for ((place, reason), packets) in &after.drops {
        let earlier = before.drops.get(&(place.clone(), *reason)).copied().unwrap_or(0);
        if *packets > earlier {
            let reasons = all.entry(place.clone()).or_default();
            reasons.insert(reason.name().to_owned(), packets - earlier);
        }
    }
    all
}

/// What limiters did during a step: those of circuits that saw a packet, and those of gateways
/// that dropped one.
fn limiters(step: &StepRecord) -> Vec<LimiterReport> {
    let mut rows: Vec<_> = step
        .after
        .iter()
        .flat_map(|(router, after)| {
            let rows = after.limiters.iter();
            rows.filter_map(move |row| limiter_report(step, router, after.role, row))
        })
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

fn limiter_report(
    step: &StepRecord,
    router: &str,
    role: Role,
    row: &LimiterRow,
) -> Option<LimiterReport> {
    let millis = u64::try_from(step.to.since(step.from).as_millis()).unwrap_or(u64::MAX).max(1);
    let before = step.before.get(router).map_or(&[][..], |state| &state.limiters);
    let before = before.iter().find(|before| before.name == row.name);
    let figure = |of: fn(&LimiterRow) -> u64| since(of(row), before.map_or(0, of));
    let passed_bytes = figure(|row| row.conforming_bytes);
    let of_circuit = matches!(role, Role::Msee | Role::Provider);
    let report = LimiterReport {
        // A circuit's limiter says where it is; every gateway calls its own the same.
        name: if of_circuit { row.name.clone() } else { format!("{router} {}", row.name) },
        rate_bps: row.rate.bps(),
        passed_packets: figure(|row| row.conforming_packets),
        passed_bytes,
        dropped_packets: figure(|row| row.dropped_packets),
        passed_bps: passed_bytes * 8 * 1000 / millis,
        peak_bps: peak(step, router, &row.name),
    };
    let passed = if of_circuit { report.passed_packets } else { 0 };
    (passed + report.dropped_packets > 0).then_some(report)
}

/// Bits a second that a limiter passed in the busiest second of a step.
fn peak(step: &StepRecord, router: &str, name: &str) -> u64 {
    let passed = step.samples.iter().map(|sample| {
        let rows = sample.limiters.get(router).into_iter().flatten();
        let bytes = rows.filter(|row| row.name == name).map(|row| row.conforming_bytes).next();
        (sample.at, bytes.unwrap_or(0))
    });
    let passed: Vec<_> = passed.collect();
    let apart = (SECOND.as_nanos() / SAMPLE_EVERY.as_nanos()) as usize;
    let apart = apart.min(passed.len().saturating_sub(1)).max(1);
    let rate = |span: &[(Instant, u64)]| {
        let ((from, before), (to, after)) = (span[0], span[span.len() - 1]);
        let bits = u128::from(since(after, before)) * 8 * SECOND.as_nanos();
        let nanos = to.since(from).as_nanos().max(1);
        u64::try_from(bits / nanos).unwrap_or(u64::MAX)
    };
    passed.windows(apart + 1).map(rate).max().unwrap_or(0)
}

/// How far a counter came since; that of a router that was started anew counts from zero.
fn since(count: u64, before: u64) -> u64 {
    count.checked_sub(before).unwrap_or(count)
}

fn conservation(record: &Record) -> Conservation {
    let totals = &record.totals;
    let sum = &totals.sum;
    let reasons = DropReason::ALL.iter().map(|&reason| (reason, sum.dropped[reason as usize]));
    Conservation {
        held: totals.held,
        received: sum.received,
        originated: sum.originated,
        transmitted: sum.transmitted,
        queued: sum.queued,
        punted: sum.consumed,
        dropped: reasons
            .filter(|(_, packets)| *packets > 0)
            .map(|(reason, packets)| (reason.name().to_owned(), packets))
            .collect(),
    }
}

/// The guesses this drill's figures rest on, those that matter to what it did.
fn assumptions(
    drill: &Drill,
    file: &Lab,
    settings: &BTreeSet<drill::Convergence>,
) -> Vec<Assumption> {
    let mut rows = Vec::new();
    let mut add = |key: String, value: String, source: &str| {
        rows.push(Assumption { key, value, source: source.to_owned() });
    };
    for vnet in &file.virtual_networks {
        for setting in settings {
            let key = format!("{}.convergence ({})", vnet.name, setting.name());
            let (value, why) = match setting {
                drill::Convergence::Ideal => (
                    "VM hosts follow at once".to_owned(),
                    "no document promises it: 14.3, section 20",
                ),
                drill::Convergence::Documented => {
                    let (withdraw, announce) =
                        (vnet.convergence.on_withdraw, vnet.convergence.on_announce);
                    let value = format!(
                        "withdrawals p50 {} ms, max {} ms; announcements p50 {} ms, max {} ms; \
                         run 1 takes the max always",
                        Millis::from(withdraw.p50),
                        Millis::from(withdraw.max),
                        Millis::from(announce.p50),
                        Millis::from(announce.max)
                    );
                    (value, "14.3: up to a minute; the median is a guess: section 20")
                }
            };
            add(key, value, why);
        }
    }
    for circuit in &file.circuits {
        let burst = circuit.limiter;
        let value = format!(
            "{} ms to Azure, {} ms to on-premises",
            Millis::from(burst.to_azure),
            Millis::from(burst.to_onprem)
        );
        add(
            format!("{}.limiter.burst", circuit.name),
            value,
            "section 20: Azure's burst is unknown",
        );
        for peering in circuit.peerings.iter().filter(|peering| peering.bfd.enabled) {
            let value = peering.bfd.multiplier.to_string();
            add(
                format!("{}.bfd.multiplier", circuit.name),
                value,
                "section 20: the MSEE's own is not documented",
            );
        }
    }
    let delay_of = |span: Duration| format!("{} ms", Millis::from(span));
    let delay = |delay: Duration| format!("{} one way", delay_of(delay));
    let why = "a guess: no document gives it";
    add("delay MSEE–region".to_owned(), delay(BACKBONE_DELAY), why);
    let why = "a guess: how long a route lost in order and without replacement is used";
    add("linger".to_owned(), format!("{} ms", Millis::from(LINGER)), why);
    let why = "section 20: a gateway SKU's bandwidth is split over its instances, inbound";
    add("gateway share".to_owned(), "equal".to_owned(), why);
    add(
        "hash".to_owned(),
        format!("{:?}", file.hash).to_lowercase(),
        "section 20: a seed per router",
    );
    let why = "section 20: a single hop without GTSM; what it sends is not documented";
    add("MSEE BGP TTL".to_owned(), SessionTtl::SINGLE_HOP.sent.to_string(), why);
    if drill.traffic.iter().any(drill::Traffic::is_tcp) {
        let value = "CUBIC, SACK, RACK-TLP, RTO from 200 ms, writes every 4 ms".to_owned();
        add("TCP hosts".to_owned(), value, "a model of Linux hosts; yours may differ");
    }
    let kills = |step: &drill::Step| matches!(step.event, Some(Event::ControlKill { .. }));
    if drill.steps.iter().any(kills) {
        let why = "a guess: how soon a control process that died is there again";
        add("control restart".to_owned(), delay_of(CONTROL_RESTART), why);
        let why = "section 20: whether an MSEE offers it is not documented";
        for circuit in &file.circuits {
            for peering in &circuit.peerings {
                let value = peering.graceful_restart.name().to_owned();
                add(format!("{}.gracefulRestart", circuit.name), value, why);
            }
        }
    }
    let prepends = drill.steps.iter().any(|step| {
        matches!(
            step.event,
            Some(Event::Maintenance { category: MaintenanceCategory::AsPathPrepend { .. }, .. })
        )
    });
    if prepends {
        let why = "L-49 for planned work; whether the API's drill does the same is not documented";
        add("maintenance.prepends".to_owned(), "as in the drill".to_owned(), why);
    }
    rows
}

/// The customer's routers: what ran in their place.
fn edges(file: &Lab) -> Vec<EdgeReport> {
    let routers = file.sites.iter().flat_map(|site| &site.routers);
    routers
        .map(|router| EdgeReport {
            name: router.name.clone(),
            kind: match router.kind {
                RouterKind::BuiltIn => "built-in".to_owned(),
                RouterKind::Frr => "built-in for frr".to_owned(),
                RouterKind::Bird => "built-in for bird".to_owned(),
                RouterKind::Attach(_) => "attach".to_owned(),
            },
            version: String::new(),
            config_sha256: None,
        })
        .collect()
}
