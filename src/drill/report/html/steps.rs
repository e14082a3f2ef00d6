//! A step: what happened and why, and its traffic over time, the settings side by side.

use crate::drill::cause::{FIRST_PACKET, SETTLED};
use crate::drill::report::html::chart::{self, filled};
use crate::drill::report::html::figures::{count, escape, micros, part, place, rate, span};
use crate::drill::report::html::{Context, section_of};
use crate::drill::report::words::{CauseRow, Detailed, cause_rows, direction, explain, rounded};
use crate::drill::report::{GroupReport, Millis, ShownStep, StepReport, TcpReport, Timeline};

/// Lines of a cause chain; `report.json` has all.
const CAUSES_MAX: usize = 24;
/// Rows of drops and drawings of limiters for each run.
const DROPS_MAX: usize = 12;
const LIMITERS_MAX: usize = 8;
/// Timelines of one step and run.
const TIMELINES_MAX: usize = 16;

/// A step of one of the runs that are told in detail, with its place in `runs`.
#[derive(Clone, Copy)]
struct Told<'a> {
    of: Detailed<'a>,
    /// Places of the run and the step: `/runs/0/steps/1`.
    place: (usize, usize),
    step: &'a StepReport,
    /// Places in `shown` and in its steps.
    shown: Option<(usize, usize, &'a ShownStep)>,
    /// Whether the next run's drawings and causes are the same, so that this one stands for both.
    both: bool,
    /// Bins of the step that are drawn.
    bins: usize,
}

impl Told<'_> {
    fn at(&self) -> String {
        format!("/runs/{}/steps/{}", self.place.0, self.place.1)
    }

    /// Which settings are told, where there is more than one.
    fn tag(&self, context: &Context<'_>) -> String {
        if self.both {
            " <b class=\"tag\">both settings</b>".to_owned()
        } else {
            context.tag(self.of.run.convergence)
        }
    }
}

pub(super) fn section(context: &Context<'_>) -> String {
    let Some(first) = context.detailed.first() else { return String::new() };
    let steps: String = first
        .run
        .steps
        .iter()
        .enumerate()
        .map(|(number, step)| {
            let told: Vec<Told<'_>> = context
                .detailed
                .iter()
                .filter_map(|of| {
                    let j = of.run.steps.iter().position(|other| other.step == step.step)?;
                    let shown = of.shown.and_then(|(at, shown)| {
                        let k = shown.steps.iter().position(|other| other.step == step.step)?;
                        Some((at, k, &shown.steps[k]))
                    });
                    let (place, step) = ((of.index, j), &of.run.steps[j]);
                    Some(Told { of: *of, place, step, shown, both: false, bins: 0 })
                })
                .collect();
            one(context, number + 1, &told)
        })
        .collect();
    let runs: Vec<String> = context
        .detailed
        .iter()
        .map(|of| {
            format!("{} run {} (seed {})", of.run.convergence.name(), of.run.run, of.run.seed)
        })
        .collect();
    let lead = if context.report.runs.len() > context.detailed.len() {
        format!(
            "<p class=\"soft\">In detail: the run with the longest outage of each setting, {}.</p>\n",
            runs.join(" and ")
        )
    } else {
        String::new()
    };
    if steps.is_empty() { steps } else { section_of("steps", "Step by step", &(lead + &steps)) }
}

fn one(context: &Context<'_>, number: usize, told: &[Told<'_>]) -> String {
    let bins = bins_drawn(told);
    let told: Vec<_> = told.iter().map(|told| Told { bins, ..*told }).collect();
    let told = told.as_slice();
    let drawn = told_once(told);
    let step = told[0].step;
    let what = step.event.as_deref().map_or_else(String::new, |event| {
        // The chain's first cause says where; the event's name alone does not.
        let detail = step.causes.first().map_or(event, |cause| cause.detail.as_str());
        let detail = detail.strip_prefix(&format!("{}: ", step.step)).unwrap_or(detail);
        format!(" <code>{}</code>", escape(detail))
    });
    let late = if told.iter().all(|told| told.step.finished) {
        ""
    } else {
        " <b class=\"bad\"><span class=\"sign\">✕</span> did not end in time</b>"
    };
    let mut body = format!(
        "<article class=\"step\">\n<h3><span class=\"number\">{number}</span> {}{what}{late}</h3>\n\
         <p class=\"soft when\">from {}, for {}</p>\n",
        escape(&step.step),
        span(format_args!("{}/at_ms", told[0].at()), step.at_ms),
        span(format_args!("{}/for_ms", told[0].at()), step.for_ms),
    );
    body += &row(&drawn, &|told| {
        let sentences: String =
            explain(told.step).iter().map(|says| format!("<li>{}</li>", escape(says))).collect();
        let chain = chain(told);
        if sentences.is_empty() && chain.is_empty() {
            return String::new();
        }
        let tag = match context.settings.len() {
            0 | 1 => String::new(),
            _ if told.both => "<h4>Under both settings</h4>\n".to_owned(),
            _ => format!("<h4>{}</h4>\n", told.of.run.convergence.means()),
        };
        let sentences = match sentences.as_str() {
            "" => String::new(),
            sentences => format!("<ul class=\"plain\">{sentences}</ul>\n"),
        };
        tag + &sentences + &chain
    });
    body += &timelines(context, &drawn);
    body += &figures(told);
    body += &row(&drawn, &|told| drops(context, told));
    body += &limiters(context, &drawn);
    body + "</article>\n"
}

/// One run for both when what happened and what is drawn is the same.
fn told_once<'a>(told: &[Told<'a>]) -> Vec<Told<'a>> {
    let alike = |a: &Told<'_>, b: &Told<'_>| {
        let drawn = |told: &Told<'_>| told.shown.map(|(.., shown)| shown.clone());
        a.step.causes == b.step.causes
            && a.step.drops == b.step.drops
            && explain(a.step) == explain(b.step)
            && drawn(a) == drawn(b)
    };
    match told {
        [first, rest @ ..] if !rest.is_empty() && rest.iter().all(|other| alike(first, other)) => {
            vec![Told { both: true, ..*first }]
        }
        _ => told.to_vec(),
    }
}

/// Bins that are drawn of a step, the same of each run so that drawings compare.
fn bins_drawn(told: &[Told<'_>]) -> usize {
    let steps = told.iter().filter_map(|told| told.shown).map(|(.., step)| step);
    let mut bins = 0;
    let mut busy: Vec<usize> = Vec::new();
    for step in steps {
        for line in &step.timelines {
            bins = bins.max(line.delivered_bps.len());
            busy.extend(nonzero(&line.lost));
            for flows in line.paths.values() {
                busy.extend((1..flows.len()).filter(|&bin| flows[bin] != flows[bin - 1]));
            }
        }
        busy.extend(step.drops.iter().filter_map(|series| nonzero(&series.packets).last()));
        busy.extend(step.limiters.iter().filter_map(|series| nonzero(&series.dropped).last()));
    }
    chart::interesting(bins, busy.into_iter())
}

fn nonzero(values: &[u64]) -> impl Iterator<Item = usize> {
    values.iter().enumerate().filter(|(_, value)| **value > 0).map(|(bin, _)| bin)
}

/// A block of each run, side by side where there is room.
fn row(told: &[Told<'_>], block: &dyn Fn(&Told<'_>) -> String) -> String {
    let blocks: Vec<String> = told.iter().map(block).collect();
    if blocks.iter().all(String::is_empty) {
        return String::new();
    }
    let blocks: String = blocks.iter().map(|block| format!("<div>\n{block}</div>\n")).collect();
    format!("<div class=\"side\">\n{blocks}</div>\n")
}

/// The chain as a table whose second column is one axis of time: a bar from the cause before.
fn chain(told: &Told<'_>) -> String {
    let causes = &told.step.causes;
    let Some(last) = causes.last() else { return String::new() };
    let end = last.at_ms.micros().max(1) as f64;
    let (rows, left_out) = cause_rows(causes, CAUSES_MAX);
    let mut before = 0.0;
    let rows: String = rows
        .iter()
        .map(|CauseRow { index, cause, times }| {
            let at = cause.at_ms.micros() as f64 / end * 100.0;
            let (class, sign) = kind(&cause.kind);
            let times = if *times > 1 { format!(" <b>×{times}</b>") } else { String::new() };
            let row = format!(
                "<tr class=\"{class}\"><td class=\"when\">{}</td><td class=\"track\">\
                 <svg viewBox=\"-5 0 110 12\" aria-hidden=\"true\"><path class=\"rail\" d=\"M0 6H100\"/>\
                 <path class=\"gone\" d=\"M{before:.1} 6H{at:.1}\"/><circle cx=\"{at:.1}\" cy=\"6\" r=\"4.5\"/></svg></td>\
                 <td class=\"kind\"><span class=\"sign\">{sign}</span> {}</td>\
                 <td class=\"detail\"><b>{}</b> {}{times}</td></tr>\n",
                span(format_args!("{}/causes/{index}/at_ms", told.at()), cause.at_ms),
                escape(&cause.kind),
                escape(&cause.node),
                escape(&cause.detail),
            );
            before = at;
            row
        })
        .collect();
    let more = match left_out {
        0 => String::new(),
        more => format!("<p class=\"soft\">and {more} more in report.json</p>\n"),
    };
    format!(
        "<table class=\"chain\">\n<thead><tr><th scope=\"col\">After</th><th scope=\"col\" class=\"track\">\
         <span>0</span><span>{}</span></th><th scope=\"col\">What</th><th scope=\"col\">Where</th></tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n{more}",
        rounded(last.at_ms)
    )
}

fn kind(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "fault" => ("bad", "✕"),
        "bfd-down" | "bgp-down" | "carrier-down" | "refused" => ("bad", "▼"),
        "bfd-up" | "bgp-up" | "carrier-up" => ("good", "▲"),
        FIRST_PACKET => ("good", "→"),
        SETTLED => ("good", "■"),
        _ => ("plain", "·"),
    }
}

fn timelines(context: &Context<'_>, told: &[Told<'_>]) -> String {
    let mut charts = String::new();
    let Some((.., first)) = told.iter().find_map(|told| told.shown) else { return charts };
    for (at, line) in first.timelines.iter().enumerate().take(TIMELINES_MAX) {
        let of_runs: Vec<_> = told.iter().filter_map(|told| same_line(told, line)).collect();
        let most = |of: &dyn Fn(&Timeline) -> Option<u64>| {
            of_runs.iter().filter_map(|(.., line)| of(line)).max().unwrap_or(0)
        };
        let rate_most = most(&|line| line.delivered_bps.iter().copied().max());
        let lost_most = most(&|line| line.lost.iter().copied().max());
        let tcp = line.kind == "tcp";
        for (told, bin, line) in of_runs {
            charts += &chart::Timeline {
                bin,
                bins: told.bins,
                caption: format!(
                    "<b>{} {}</b>{}",
                    escape(&line.name),
                    escape(direction(&line.direction)),
                    told.tag(context)
                ),
                rate_word: if tcp { "goodput" } else { "delivered" },
                rate_bps: &line.delivered_bps,
                rate_most,
                limit_bps: None,
                lost_word: if tcp { "sent again" } else { "lost" },
                lost: &line.lost,
                lost_most,
                paths: filled(&line.paths, |link| context.fill(link)),
            }
            .html();
        }
        if at + 1 == TIMELINES_MAX && first.timelines.len() > TIMELINES_MAX {
            let more = first.timelines.len() - TIMELINES_MAX;
            charts += &format!("<p class=\"soft\">and {more} more in report.json</p>\n");
        }
    }
    if charts.is_empty() { charts } else { format!("<div class=\"charts\">\n{charts}</div>\n") }
}

/// The same traffic and direction in another run: the run, its bins, its line.
fn same_line<'a, 'b>(
    told: &'b Told<'a>,
    line: &Timeline,
) -> Option<(&'b Told<'a>, Millis, &'a Timeline)> {
    let (.., step) = told.shown?;
    let key = |line: &Timeline| (line.name.clone(), line.kind.clone(), line.direction.clone());
    let same = step.timelines.iter().find(|other| key(other) == key(line))?;
    Some((told, step.bin_ms, same))
}

type Line<T> = (&'static str, fn(&str, &T) -> String);

/// What is told of probes: a name, and how its figure is written.
const OF_PROBES: &[Line<GroupReport>] = &[
    ("flows hit", |at, group| {
        let hit = count(format_args!("{at}/flows_hit"), group.flows_hit);
        format!("{hit} of {}", count(format_args!("{at}/flows"), group.flows))
    }),
    ("outage max", |at, group| span(format_args!("{at}/outage_ms/max"), group.outage_ms.max)),
    ("outage p99", |at, group| span(format_args!("{at}/outage_ms/p99"), group.outage_ms.p99)),
    ("outage p50", |at, group| span(format_args!("{at}/outage_ms/p50"), group.outage_ms.p50)),
    ("resolution", |at, group| span(format_args!("{at}/resolution_ms"), group.resolution_ms)),
    ("packets sent", |at, group| count(format_args!("{at}/sent"), group.sent)),
    ("packets lost", |at, group| count(format_args!("{at}/lost"), group.lost)),
    ("latency p50", |at, group| micros(format_args!("{at}/latency_us/p50"), group.latency_us.p50)),
    ("latency p99", |at, group| micros(format_args!("{at}/latency_us/p99"), group.latency_us.p99)),
    ("latency max", |at, group| micros(format_args!("{at}/latency_us/max"), group.latency_us.max)),
];

/// What is told of TCP.
const OF_TCP: &[Line<TcpReport>] = &[
    ("goodput", |at, tcp| rate(format_args!("{at}/goodput_bps"), tcp.goodput_bps)),
    ("longest stall", |at, tcp| span(format_args!("{at}/longest_stall_ms"), tcp.longest_stall_ms)),
    ("segments", |at, tcp| count(format_args!("{at}/segments"), tcp.segments)),
    ("sent again", |at, tcp| count(format_args!("{at}/retransmitted"), tcp.retransmitted)),
    ("timeouts", |at, tcp| count(format_args!("{at}/timeouts"), tcp.timeouts)),
    ("resets", |at, tcp| count(format_args!("{at}/resets"), tcp.resets)),
    ("round trip p50", |at, tcp| micros(format_args!("{at}/rtt_us/p50"), tcp.rtt_us.p50)),
    ("round trip p99", |at, tcp| micros(format_args!("{at}/rtt_us/p99"), tcp.rtt_us.p99)),
    ("round trip max", |at, tcp| micros(format_args!("{at}/rtt_us/max"), tcp.rtt_us.max)),
];

/// A table for each traffic entry: a row for each figure, a column for each direction and setting.
fn figures(told: &[Told<'_>]) -> String {
    let probes = table_of(told, "groups", OF_PROBES, &|step| {
        step.groups
            .iter()
            .map(|group| (group.name.as_str(), group.direction.as_str(), group))
            .collect()
    });
    let tcp = table_of(told, "tcp", OF_TCP, &|step| {
        step.tcp.iter().map(|tcp| (tcp.name.as_str(), tcp.direction.as_str(), tcp)).collect()
    });
    let tables = probes + &tcp;
    if tables.is_empty() { tables } else { format!("<div class=\"tables\">\n{tables}</div>\n") }
}

type Rows<'a, T> = Vec<(&'a str, &'a str, &'a T)>;

fn table_of<'a, T: 'a>(
    told: &[Told<'a>],
    list: &str,
    lines: &[Line<T>],
    of: &dyn Fn(&'a StepReport) -> Rows<'a, T>,
) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, ..) in told.iter().flat_map(|told| of(told.step)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let table = |name: &&str| {
        let mut ways: Vec<&str> = Vec::new();
        for (other, way, _) in told.iter().flat_map(|told| of(told.step)) {
            if other == *name && !ways.contains(&way) {
                ways.push(way);
            }
        }
        let head: String = ways
            .iter()
            .map(|way| {
                let wide = told.len();
                format!("<th scope=\"colgroup\" colspan=\"{wide}\">{}</th>", escape(direction(way)))
            })
            .collect();
        let under = if told.len() < 2 {
            String::new()
        } else {
            let under: String = ways
                .iter()
                .flat_map(|_| told)
                .map(|told| format!("<th scope=\"col\">{}</th>", told.of.run.convergence.name()))
                .collect();
            format!("<tr><td></td>{under}</tr>")
        };
        let rows: String = lines
            .iter()
            .map(|(line, figure)| {
                let cells: String = ways
                    .iter()
                    .flat_map(|way| told.iter().map(move |told| (way, told)))
                    .map(|(way, told)| {
                        let all = of(told.step);
                        let k = all.iter().position(|(n, w, _)| n == name && w == way);
                        let figure =
                            k.map(|k| figure(&format!("{}/{list}/{k}", told.at()), all[k].2));
                        format!("<td>{}</td>", figure.unwrap_or_else(|| "–".to_owned()))
                    })
                    .collect();
                format!("<tr><th scope=\"row\">{line}</th>{cells}</tr>\n")
            })
            .collect();
        format!(
            "<table class=\"list numbers{}\" style=\"--columns:{}\">\n\
             <thead><tr><th scope=\"col\">{}</th>{head}</tr>{under}</thead>\n<tbody>\n{rows}</tbody>\n</table>\n",
            if ways.len() * told.len() > 2 { " many" } else { "" },
            ways.len() * told.len(),
            escape(name)
        )
    };
    names.iter().map(table).collect()
}

/// Drops by place and reason: over time where the run is shown, else their number.
fn drops(context: &Context<'_>, told: &Told<'_>) -> String {
    let mut lines: Vec<String> = Vec::new();
    match told.shown {
        Some((at, k, shown)) => {
            for (d, series) in shown.drops.iter().enumerate() {
                let sum = series.packets.iter().sum();
                lines.push(format!(
                    "<tr><th scope=\"row\">{} <span class=\"soft\">{}</span></th><td class=\"spark\">{}</td>\
                     <td>{}</td></tr>\n",
                    escape(&series.node),
                    escape(&series.reason),
                    chart::spark(&series.packets, told.bins),
                    count(format_args!("/shown/{at}/steps/{k}/drops/{d}/packets/*"), sum),
                ));
            }
        }
        None => {
            for (node, reasons) in &told.step.drops {
                for (reason, packets) in reasons {
                    let (node_part, reason_part) = (part(node), part(reason));
                    lines.push(format!(
                        "<tr><th scope=\"row\">{} <span class=\"soft\">{}</span></th><td></td><td>{}</td></tr>\n",
                        escape(node),
                        escape(reason),
                        count(format_args!("{}/drops/{node_part}/{reason_part}", told.at()), *packets),
                    ));
                }
            }
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    let more = match lines.len().saturating_sub(DROPS_MAX) {
        0 => String::new(),
        more => format!("<p class=\"soft\">and {more} more in report.json</p>\n"),
    };
    lines.truncate(DROPS_MAX);
    let axis = told.shown.map_or_else(String::new, |(.., shown)| {
        let bins = shown.drops.iter().map(|series| series.packets.len()).max().unwrap_or(0);
        let bins = bins.min(told.bins);
        let span = Millis(shown.bin_ms.micros().saturating_mul(bins as u64));
        format!("<tr class=\"foot\"><td></td><td>{}</td><td></td></tr>\n", chart::axis(span))
    });
    format!(
        "<table class=\"list drops\">\n<thead><tr><th scope=\"col\" colspan=\"2\">Dropped by place and \
         reason{}</th><th scope=\"col\">packets</th></tr></thead>\n<tbody>\n{}{axis}</tbody>\n</table>\n{more}",
        told.tag(context),
        lines.concat()
    )
}

fn limiters(context: &Context<'_>, told: &[Told<'_>]) -> String {
    let mut charts = String::new();
    for told in told {
        let Some((.., shown)) = told.shown else { continue };
        for series in shown.limiters.iter().take(LIMITERS_MAX) {
            charts += &chart::Timeline {
                bin: shown.bin_ms,
                bins: told.bins,
                caption: format!("<b>{}</b>{}", place(&series.name), told.tag(context)),
                rate_word: "passed",
                rate_bps: &series.passed_bps,
                rate_most: series.passed_bps.iter().copied().max().unwrap_or(0),
                limit_bps: Some(series.rate_bps),
                lost_word: "dropped",
                lost: &series.dropped,
                lost_most: series.dropped.iter().copied().max().unwrap_or(0),
                paths: Vec::new(),
            }
            .html();
        }
        if let more @ 1.. = shown.limiters.len().saturating_sub(LIMITERS_MAX) {
            charts += &format!("<p class=\"soft\">and {more} more in report.json</p>\n");
        }
    }
    if charts.is_empty() {
        return charts;
    }
    let dropped = |told: &Told<'_>| {
        let of = |(.., shown): (usize, usize, &ShownStep)| {
            shown.limiters.iter().any(|series| series.dropped.iter().any(|packets| *packets > 0))
        };
        told.shown.is_some_and(of)
    };
    let open = if told.iter().any(dropped) { " open=\"\"" } else { "" };
    format!(
        "<details class=\"limiters\"{open}>\n<summary>Circuit limiters</summary>\n<div class=\"charts\">\n{charts}</div>\n\
         </details>\n"
    )
}
