//! The first screen: what each step cost each traffic entry, over all runs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::drill::{Amount, Directions, Drill, Event, Expectation, Form, Limits};
use crate::drill::event;
use crate::drill::report::{
    Convergence, ExpectationReport, GroupReport, LimiterReport, Millis, PeakUse, RunReport, Shown,
    StepReport, SummaryCell, SummaryRow, TcpReport,
};

/// A row for each step and traffic entry, in the order of the drill.
pub fn rows(
    drill: &Drill,
    runs: &[RunReport],
    expectations: &[ExpectationReport],
    shown: &[Shown],
) -> Vec<SummaryRow> {
    let mut rows = Vec::new();
    for (number, step) in drill.steps.iter().enumerate() {
        let steps: Vec<_> =
            runs.iter().filter_map(|run| Some((run, run.steps.get(number)?))).collect();
        for traffic in &drill.traffic {
            let about =
                |row: &&ExpectationReport| row.step == step.name && row.traffic == traffic.name;
            let about: Vec<_> = expectations.iter().filter(about).collect();
            let limits = drill.expect.iter().filter(|expectation| {
                let of = expectation.form.traffic().map(|of| &drill.traffic[of].name);
                of == Some(&traffic.name)
                    && expectation.during == crate::config::drill::During::Step(number)
            });
            rows.push(SummaryRow {
                step: step.name.clone(),
                what: step.event.as_ref().map(event::describe).unwrap_or_default(),
                restores: matches!(step.event, Some(Event::Restore { .. })),
                traffic: traffic.name.clone(),
                cells: cells(&traffic.name, &steps, shown),
                limits: limits.filter_map(limit).collect(),
                held: (!about.is_empty()).then(|| about.iter().all(|row| row.held)),
                peak: peak(&steps),
            });
        }
    }
    rows
}

/// What a step was in one run.
type InRun<'a> = (&'a RunReport, &'a StepReport);

fn cells(traffic: &str, steps: &[InRun<'_>], shown: &[Shown]) -> Vec<SummaryCell> {
    let mut probes: BTreeMap<(String, Convergence), Vec<(u32, &GroupReport)>> = BTreeMap::new();
    let mut tcp: BTreeMap<(String, Convergence), Vec<(u32, &TcpReport)>> = BTreeMap::new();
    for (run, step) in steps {
        for group in step.groups.iter().filter(|group| group.name == traffic) {
            let key = (group.direction.clone(), run.convergence);
            probes.entry(key).or_default().push((run.run, group));
        }
        for flows in step.tcp.iter().filter(|flows| flows.name == traffic) {
            let key = (flows.direction.clone(), run.convergence);
            tcp.entry(key).or_default().push((run.run, flows));
        }
    }
    let is_shown = |setting, run| shown.iter().any(|of| of.convergence == setting && of.run == run);
    let of_probes = probes.into_iter().map(|((direction, convergence), groups)| {
        let (outage_p50_ms, outage_max_ms) =
            spread(groups.iter().map(|(_, group)| group.outage_ms.max).collect());
        let most =
            |of: fn(&GroupReport) -> u64| groups.iter().map(|(_, g)| of(g)).max().unwrap_or(0);
        let in_shown = groups.iter().find(|(run, _)| is_shown(convergence, *run));
        SummaryCell {
            direction,
            convergence,
            outage_p50_ms,
            outage_max_ms,
            lost: most(|group| group.lost),
            flows_hit: most(|group| group.flows_hit),
            conversations_hit: most(|group| group.conversations_hit),
            flows: most(|group| group.flows),
            paths: in_shown.map(|(_, group)| group.paths.clone()).unwrap_or_default(),
            goodput_bps: None,
        }
    });
    let of_tcp = tcp.into_iter().map(|((direction, convergence), flows)| {
        let (outage_p50_ms, outage_max_ms) =
            spread(flows.iter().map(|(_, flows)| flows.longest_stall_ms).collect());
        let most = |of: fn(&TcpReport) -> u64| flows.iter().map(|(_, f)| of(f)).max().unwrap_or(0);
        let in_shown = flows.iter().find(|(run, _)| is_shown(convergence, *run));
        SummaryCell {
            direction,
            convergence,
            outage_p50_ms,
            outage_max_ms,
            lost: most(|flows| flows.retransmitted),
            flows_hit: most(|flows| flows.resets),
            conversations_hit: most(|flows| flows.resets),
            flows: most(|flows| flows.flows),
            paths: in_shown.map(|(_, flows)| flows.paths.clone()).unwrap_or_default(),
            goodput_bps: flows.iter().map(|(_, flows)| flows.goodput_bps).min(),
        }
    });
    of_probes.chain(of_tcp).collect()
}

/// Median and most; of an even number the lower of the two in the middle.
fn spread(mut figures: Vec<Millis>) -> (Millis, Millis) {
    figures.sort_unstable();
    let last = figures.len().saturating_sub(1);
    let at = |index: usize| figures.get(index).copied().unwrap_or_default();
    (at(last / 2), at(last))
}

/// The circuit link that was closest to its bandwidth in any run.
fn peak(steps: &[InRun<'_>]) -> Option<PeakUse> {
    let limiters = steps.iter().flat_map(|(_, step)| &step.limiters);
    let of_msee = |row: &&LimiterReport| row.rate_bps > 0 && row.is_of_circuit();
    let share = |row: &LimiterReport| (u128::from(row.peak_bps) << 32) / u128::from(row.rate_bps);
    let busiest = limiters.filter(of_msee).max_by_key(|row| share(row))?;
    Some(PeakUse {
        limiter: busiest.name.clone(),
        peak_bps: busiest.peak_bps,
        rate_bps: busiest.rate_bps,
    })
}

/// Bounds of an expectation, for a cell: `outage to-azure ≤ 960 ms (ideal)`.
fn limit(expectation: &Expectation) -> Option<String> {
    let text = limit_of(&expectation.form)?;
    let setting = expectation.convergence.map(|setting| format!(" ({})", setting.name()));
    Some(text + &setting.unwrap_or_default())
}

fn limit_of(form: &Form) -> Option<String> {
    match form {
        Form::Outage { direction, limits, .. } => {
            let bounds = bounds(limits, |span| time(*span));
            Some(format!("outage{} {bounds}", way(*direction)))
        }
        Form::Lost { direction, limits, .. } => {
            Some(format!("lost{} {}", way(*direction), bounds(limits, amount)))
        }
        Form::FlowsHit { direction, between, .. } => {
            let [least, most] = [&between.0, &between.1].map(amount);
            Some(format!("flows hit{} {least} to {most}", way(*direction)))
        }
        Form::Throughput { direction, limits, .. } => {
            let bounds = bounds(limits, ToString::to_string);
            Some(format!("throughput{} {bounds}", way(*direction)))
        }
        Form::Tcp { resets, longest_stall, retransmitted, .. } => {
            let parts = [
                resets.map(|most| format!("resets ≤ {most}")),
                longest_stall.map(|most| format!("stall ≤ {}", time(most))),
                retransmitted.as_ref().map(|most| format!("sent again ≤ {}", amount(most))),
            ];
            Some(parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
        }
        _ => None,
    }
}

/// `960 ms`, `62 s`.
fn time(span: Duration) -> String {
    let millis = span.as_millis();
    if millis >= 1000 && millis.is_multiple_of(1000) {
        format!("{} s", millis / 1000)
    } else {
        format!("{} ms", Millis::from(span))
    }
}

fn way(direction: Directions) -> &'static str {
    match direction {
        Directions::Both => "",
        Directions::ToAzure => " to-azure",
        Directions::ToOnprem => " to-onprem",
    }
}

fn bounds<T>(limits: &Limits<T>, text: impl Fn(&T) -> String) -> String {
    let bound =
        |sign: &str, value: &Option<T>| value.as_ref().map(|v| format!("{sign} {}", text(v)));
    let parts = [
        bound("≥", &limits.min),
        bound("p50 ≤", &limits.p50),
        bound("p99 ≤", &limits.p99),
        bound("≤", &limits.max),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn amount(amount: &Amount) -> String {
    match amount {
        Amount::Count(count) => count.to_string(),
        Amount::Share(ppm) => format!("{} %", f64::from(*ppm) / 10_000.0),
    }
}
