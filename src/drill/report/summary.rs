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
            let cells = cells(&traffic.name, &steps, shown);
            rows.push(SummaryRow {
                step: step.name.clone(),
                what: step.event.as_ref().map(event::describe).unwrap_or_default(),
                restores: matches!(step.event, Some(Event::Restore { .. })),
                traffic: traffic.name.clone(),
                peak: peak(&steps, &cells),
                cells,
                limits: limits.filter_map(limit).collect(),
                held: (!about.is_empty()).then(|| about.iter().all(|row| row.held)),
            });
        }
    }
    rows
}

/// What a step was in one run.
type InRun<'a> = (&'a RunReport, &'a StepReport);

/// What a cell is made of, of one run.
struct Figures<'a> {
    run: u32,
    longest: Millis,
    lost: u64,
    flows_hit: u64,
    conversations_hit: u64,
    flows: u64,
    paths: &'a BTreeMap<String, u64>,
    goodput_bps: Option<u64>,
}

impl<'a> Figures<'a> {
    fn of_probes(run: u32, group: &'a GroupReport) -> Self {
        Self {
            run,
            longest: group.outage_ms.max,
            lost: group.lost,
            flows_hit: group.flows_hit,
            conversations_hit: group.conversations_hit,
            flows: group.flows,
            paths: &group.paths,
            goodput_bps: None,
        }
    }

    fn of_tcp(run: u32, tcp: &'a TcpReport) -> Self {
        Self {
            run,
            longest: tcp.longest_stall_ms,
            lost: tcp.retransmitted,
            flows_hit: tcp.resets,
            conversations_hit: tcp.resets,
            flows: tcp.flows,
            paths: &tcp.paths,
            goodput_bps: Some(tcp.goodput_bps),
        }
    }
}

fn cells(traffic: &str, steps: &[InRun<'_>], shown: &[Shown]) -> Vec<SummaryCell> {
    let mut cells: BTreeMap<(&str, Convergence), Vec<Figures<'_>>> = BTreeMap::new();
    for (run, step) in steps {
        let mut add = |direction, figures| {
            cells.entry((direction, run.convergence)).or_default().push(figures);
        };
        for group in step.groups.iter().filter(|group| group.name == traffic) {
            add(group.direction.as_str(), Figures::of_probes(run.run, group));
        }
        for tcp in step.tcp.iter().filter(|tcp| tcp.name == traffic) {
            add(tcp.direction.as_str(), Figures::of_tcp(run.run, tcp));
        }
    }
    let cell = |((direction, convergence), runs): ((&str, Convergence), Vec<Figures<'_>>)| {
        let (outage_p50_ms, outage_max_ms) = spread(runs.iter().map(|run| run.longest).collect());
        let most = |of: fn(&Figures<'_>) -> u64| runs.iter().map(of).max().unwrap_or(0);
        let is_shown =
            |run: u32| shown.iter().any(|of| of.convergence == convergence && of.run == run);
        let in_shown = runs.iter().find(|figures| is_shown(figures.run));
        SummaryCell {
            direction: direction.to_owned(),
            convergence,
            outage_p50_ms,
            outage_max_ms,
            lost: most(|run| run.lost),
            flows_hit: most(|run| run.flows_hit),
            conversations_hit: most(|run| run.conversations_hit),
            flows: most(|run| run.flows),
            paths: in_shown.map(|figures| figures.paths.clone()).unwrap_or_default(),
            goodput_bps: runs.iter().filter_map(|run| run.goodput_bps).min(),
        }
    };
    cells.into_iter().map(cell).collect()
}

/// Median and most; of an even number the lower of the two in the middle.
fn spread(mut figures: Vec<Millis>) -> (Millis, Millis) {
    figures.sort_unstable();
    let last = figures.len().saturating_sub(1);
    let at = |index: usize| figures.get(index).copied().unwrap_or_default();
    (at(last / 2), at(last))
}

/// Of the circuit links that the traffic was on at the end of the step, the one that was closest
/// to its bandwidth in any run: what a survivor had to carry.
fn peak(steps: &[InRun<'_>], cells: &[SummaryCell]) -> Option<PeakUse> {
    let limiters = steps.iter().flat_map(|(_, step)| &step.limiters);
    let is_used = |limiter: &str| {
        let (link, _) = limiter.rsplit_once(':').unwrap_or_default();
        cells.iter().any(|cell| cell.paths.contains_key(link))
    };
    let of_msee =
        |row: &&LimiterReport| row.rate_bps > 0 && row.is_of_circuit() && is_used(&row.name);
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
