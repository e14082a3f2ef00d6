//! The verdict, and what each step cost over all runs.

use crate::drill::report::html::figures::{count, escape, figure, part, place, rate, span};
use crate::drill::report::html::{Context, plural, section_of, tone};
use crate::drill::report::words::{self, direction};
use crate::drill::report::{
    Convergence, Millis, PeakUse, RunReport, SummaryCell, SummaryRow, Verdict,
};

/// Rows of the table of runs; `report.json` has all.
const RUNS_MAX: usize = 64;

/// The verdict with its sign, the settings side by side, and what ran.
pub(super) fn masthead(context: &Context<'_>) -> String {
    let report = context.report;
    let (class, _, drawing) = tone(report.verdict);
    let verdict = words::verdict(report.verdict, report.assumptions.len());
    let (word, rest) = verdict.split_once(' ').unwrap_or((&verdict, ""));
    let settings: String = report
        .verdicts
        .iter()
        .enumerate()
        .map(|(i, setting)| {
            let (class, sign, _) = tone(setting.verdict);
            let verdict = words::verdict(setting.verdict, report.assumptions.len());
            let (word, _) = verdict.split_once(' ').unwrap_or((&verdict, ""));
            format!(
                "<li class=\"{class}\"><span class=\"means\">{}</span>\
             <b><span class=\"sign\">{sign}</span> {word}</b>\
             <span class=\"soft\">{} of {} expectations held</span></li>\n",
                setting.convergence.means(),
                count(format_args!("/verdicts/{i}/held"), setting.held),
                count(format_args!("/verdicts/{i}/of"), setting.of),
            )
        })
        .collect();
    let runs = report.runs.len() as u64;
    let runs = match context.settings.len() as u64 {
        0 | 1 => runs.to_string(),
        settings if runs == settings => "1 of each setting".to_owned(),
        settings => format!("{} of each setting", runs / settings),
    };
    let facts: String = [
        ("Drill", escape(&report.name)),
        ("Lab", escape(&report.lab)),
        ("Seed", figure("/seed", &report.seed.to_string())),
        ("Runs", runs),
        ("Wire", escape(wire(&report.wire))),
    ]
    .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"))
    .concat();
    format!(
        "<header class=\"masthead\">\n<p class=\"over\">ExpressRoute drill <b>{name}</b></p>\n\
         <div class=\"verdict {class}\">\n\
         <svg viewBox=\"0 0 48 48\" aria-hidden=\"true\"><circle cx=\"24\" cy=\"24\" r=\"24\"/>\
         <path d=\"{drawing}\"/></svg>\n\
         <h1>{word} <small>{rest}</small></h1>\n</div>\n\
         {}<ul class=\"settings\">\n{settings}</ul>\n<dl class=\"facts\">\n{facts}</dl>\n</header>\n",
        lead(context),
        name = escape(&report.name),
    )
}

/// Why, in a sentence or a list.
fn lead(context: &Context<'_>) -> String {
    let report = context.report;
    if report.verdict != Verdict::Invalid {
        let failed = report.expectations.iter().filter(|expectation| !expectation.held).count();
        let names = report.expectations.iter().filter(|expectation| !expectation.held);
        let names: Vec<_> = names.map(|expectation| expectation.text.as_str()).collect();
        return match failed as u64 {
            0 => String::new(),
            n => {
                let more = n.saturating_sub(3);
                let mut names: Vec<_> = names.into_iter().map(escape).collect();
                names.dedup();
                names.truncate(3);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!(
                    "<p class=\"lead\">{n} expectation{} failed: {}{more}.</p>\n",
                    plural(n),
                    names.join("; "),
                )
            }
        };
    }
    let mut why: Vec<String> = Vec::new();
    for run in &report.runs {
        for session in &run.not_started {
            let text = format!("not up before the first step: {}", escape(session));
            if !why.contains(&text) {
                why.push(text);
            }
        }
    }
    if report.runs.iter().any(|run| !run.conservation.held) {
        why.push("packets are missing from the books".to_owned());
    }
    for host in report.runs.iter().map(|run| &run.host).filter(|host| host.disturbed) {
        let peer = host.late_peer.as_ref().map(|peer| format!(", kept {} waiting,", escape(peer)));
        let peer = peer.unwrap_or_default();
        let text = format!("the host itself stalled{peer} or lost packets");
        if !why.contains(&text) {
            why.push(text);
        }
    }
    let more = why.len().saturating_sub(5);
    why.truncate(5);
    if more > 0 {
        why.push(format!("and {more} more in report.json"));
    }
    let why: String = why.iter().map(|why| format!("<li>{why}</li>")).collect();
    format!("<div class=\"lead\">Nothing was proved.<ul>{why}</ul></div>\n")
}

fn wire(name: &str) -> &str {
    match name {
        "virtual" => "virtual time",
        other => other,
    }
}

/// One row for each step and traffic entry.
pub(super) fn summary(context: &Context<'_>) -> String {
    let report = context.report;
    if report.summary.is_empty() {
        return String::new();
    }
    let mut directions: Vec<&str> = Vec::new();
    for cell in report.summary.iter().flat_map(|row| &row.cells) {
        if !directions.contains(&cell.direction.as_str()) {
            directions.push(&cell.direction);
        }
    }
    let settings = &context.settings;
    let ways: String = directions
        .iter()
        .map(|way| {
            let wide = settings.len();
            format!("<th colspan=\"{wide}\" scope=\"colgroup\">{}</th>", escape(direction(way)))
        })
        .collect();
    let under: String = directions
        .iter()
        .flat_map(|_| settings.iter())
        .map(|setting| format!("<th scope=\"col\">{}</th>", setting.name()))
        .collect();
    let rows: String = report
        .summary
        .iter()
        .enumerate()
        .map(|(i, row)| summary_row(context, i, row, &directions))
        .collect();
    let runs = report.runs.len() / settings.len().max(1);
    let over = match runs {
        0 | 1 => "Longest outage of any flow".to_owned(),
        runs => format!("Longest outage of any flow: most of {runs} runs, and the median (p50)"),
    };
    let body = format!(
        "<p class=\"soft\">{over}; for TCP its longest stall. Then packets lost, most of any run.</p>\n\
         <table class=\"summary cards\">\n<thead>\n\
         <tr><th rowspan=\"2\" scope=\"col\">What fails</th>{ways}\
         <th rowspan=\"2\" scope=\"col\">Conversations hit</th>\
         <th rowspan=\"2\" scope=\"col\">Path used</th>\
         <th rowspan=\"2\" scope=\"col\">Busiest circuit link</th>\
         <th rowspan=\"2\" scope=\"col\">Result and limit</th></tr>\n<tr>{under}</tr>\n\
         </thead>\n<tbody>\n{rows}</tbody>\n</table>\n"
    );
    section_of("summary", "What each step cost", &body)
}

fn summary_row(context: &Context<'_>, i: usize, row: &SummaryRow, directions: &[&str]) -> String {
    let mut cells = String::new();
    for way in directions {
        for setting in &context.settings {
            // Over the cell where the table is cards, which are narrow.
            let way_short = direction(way).replace("premises", "prem");
            let label = match context.settings.len() {
                0 | 1 => escape(direction(way)),
                _ => format!("{}, {}", escape(&way_short), setting.name()),
            };
            let of_cell =
                |cell: &SummaryCell| cell.direction == **way && cell.convergence == *setting;
            cells += &match row.cells.iter().position(of_cell) {
                Some(j) => cost(&label, i, j, &row.cells[j]),
                None => format!("<td data-label=\"{label}\" class=\"soft nil\">–</td>"),
            };
        }
    }
    let (class, result) = match row.held {
        Some(true) => ("good", "<span class=\"sign\">✓</span> held"),
        Some(false) => ("bad", "<span class=\"sign\">✕</span> failed"),
        None => ("soft", "no limit"),
    };
    let what = match row.what.as_str() {
        "" => String::new(),
        what => format!("<code>{}</code>", escape(what)),
    };
    let kind = if row.restores && !row.step.contains("failback") {
        " <b class=\"tag\">failback</b>"
    } else {
        ""
    };
    // A step with several traffic entries is named in its first row.
    let again = i > 0 && context.report.summary[i - 1].step == row.step;
    let again = if again { "again" } else { "" };
    let limits: String = row
        .limits
        .iter()
        .map(|limit| format!("<span class=\"line\">{}</span>", escape(limit)))
        .collect();
    format!(
        "<tr class=\"{again}\"><th scope=\"row\"><span class=\"name\">{step}{kind}</span>{what}\
         <span class=\"sub\">{traffic}</span></th>{cells}\
         <td data-label=\"Conversations hit\">{hit}</td>\
         <td data-label=\"Path used\" class=\"paths\">{paths}</td>\
         <td data-label=\"Busiest circuit link\"{nil}>{peak}</td>\
         <td data-label=\"Result and limit\" class=\"limits\"><b class=\"{class}\">{result}</b>{limits}</td></tr>\n",
        nil = if row.peak.is_none() { " class=\"soft nil\"" } else { "" },
        step = escape(&row.step),
        traffic = escape(&row.traffic),
        hit = conversations(i, row),
        paths = paths_used(i, row, directions),
        peak = row.peak.as_ref().map_or_else(|| "–".to_owned(), |peak| peak_use(i, peak)),
    )
}

/// What a step cost in one direction under one setting.
fn cost(label: &str, i: usize, j: usize, cell: &SummaryCell) -> String {
    let at = format!("/summary/{i}/cells/{j}");
    let quiet = cell.lost == 0 && cell.outage_max_ms.micros() == 0;
    let mut lines = format!(
        "<span class=\"most\">{}</span>",
        span(format_args!("{at}/outage_max_ms"), cell.outage_max_ms)
    );
    if cell.outage_p50_ms != cell.outage_max_ms {
        lines += &format!(
            "<span class=\"sub\">p50 {}</span>",
            span(format_args!("{at}/outage_p50_ms"), cell.outage_p50_ms)
        );
    }
    if let Some(goodput) = cell.goodput_bps {
        lines += &format!(
            "<span class=\"sub\">goodput {}</span>",
            rate(format_args!("{at}/goodput_bps"), goodput)
        );
    }
    let lost = if cell.goodput_bps.is_some() { "sent again" } else { "lost" };
    lines += &format!(
        "<span class=\"sub\">{} {lost}</span>",
        count(format_args!("{at}/lost"), cell.lost)
    );
    let class = if quiet { "cost quiet" } else { "cost" };
    format!("<td data-label=\"{label}\" class=\"{class}\">{lines}</td>")
}

/// Conversations are of both directions, so a setting tells them once.
fn conversations(i: usize, row: &SummaryRow) -> String {
    let mut told: Vec<(Convergence, u64, u64, usize)> = Vec::new();
    for (j, cell) in row.cells.iter().enumerate() {
        // A connection is not cut by what it loses, so TCP tells stalls instead.
        let is_told = told.iter().any(|(setting, ..)| *setting == cell.convergence);
        if cell.goodput_bps.is_none() && !is_told {
            told.push((cell.convergence, cell.conversations_hit, cell.flows, j));
        }
    }
    let alike = told.windows(2).all(|pair| (pair[0].1, pair[0].2) == (pair[1].1, pair[1].2));
    if alike {
        told.truncate(1);
    }
    let line = |(setting, hit, flows, j): &(Convergence, u64, u64, usize)| {
        let setting = if alike { "" } else { setting.name() };
        let hit = count(format_args!("/summary/{i}/cells/{j}/conversations_hit"), *hit);
        let flows = count(format_args!("/summary/{i}/cells/{j}/flows"), *flows);
        format!("<span class=\"line\">{hit} of {flows} <i>{setting}</i></span>")
    };
    if told.is_empty() { "–".to_owned() } else { told.iter().map(line).collect() }
}

/// Links at the end of the step; directions and settings that agree are told once.
fn paths_used(i: usize, row: &SummaryRow, directions: &[&str]) -> String {
    let mut groups: Vec<Vec<(usize, &SummaryCell)>> = Vec::new();
    for cell in row.cells.iter().enumerate() {
        match groups.iter_mut().find(|group| group[0].1.paths == cell.1.paths) {
            Some(group) => group.push(cell),
            None => groups.push(vec![cell]),
        }
    }
    let text = |group: &Vec<(usize, &SummaryCell)>| {
        let (j, cell) = group[0];
        let links: String = cell
            .paths
            .iter()
            .map(|(link, flows)| {
                let at = format!("/summary/{i}/cells/{j}/paths/{}", part(link));
                format!("<span class=\"line\">{} {}</span>", place(link), count(at, *flows))
            })
            .collect();
        let links =
            if links.is_empty() { "<span class=\"line\">on no link</span>" } else { &links };
        format!("<span class=\"sub\">{}</span>{links}", whose(row, group, directions))
    };
    if groups.is_empty() { "–".to_owned() } else { groups.iter().map(text).collect() }
}

/// Of which directions and settings cells are: `both ways`, `to Azure`, `to Azure documented`.
fn whose(row: &SummaryRow, group: &[(usize, &SummaryCell)], directions: &[&str]) -> String {
    if group.len() == row.cells.len()
        && group.iter().any(|(_, c)| c.direction != group[0].1.direction)
    {
        return "both ways".to_owned();
    }
    let mut names: Vec<String> = Vec::new();
    for way in directions {
        let of_way = |cell: &SummaryCell| cell.direction == **way;
        let all = row.cells.iter().filter(|cell| of_way(cell)).count();
        let some: Vec<_> = group.iter().filter(|(_, cell)| of_way(cell)).collect();
        if some.len() == all && all > 0 {
            names.push(escape(direction(way)));
        } else {
            let setting = some.iter().map(|(_, cell)| cell.convergence.name());
            names.extend(setting.map(|name| format!("{} {name}", escape(direction(way)))));
        }
    }
    names.join(", ")
}

/// A bar of how much of the rate was used.
fn peak_use(i: usize, peak: &PeakUse) -> String {
    let share = peak.peak_bps as f64 / peak.rate_bps.max(1) as f64 * 100.0;
    let class = if share >= 99.5 { "full" } else { "" };
    format!(
        "<span class=\"line\">{}</span><svg class=\"use {class}\" viewBox=\"0 0 100 6\" \
         preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect class=\"rail\" width=\"100\" height=\"6\"/>\
         <rect class=\"used\" width=\"{:.1}\" height=\"6\"/></svg>\
         <span class=\"sub\">{} of {}, {share:.0} %</span>",
        place(&peak.limiter),
        share.clamp(0.5, 100.0),
        rate(format_args!("/summary/{i}/peak/peak_bps"), peak.peak_bps),
        rate(format_args!("/summary/{i}/peak/rate_bps"), peak.rate_bps),
    )
}

/// A line for each run.
pub(super) fn each_run(context: &Context<'_>) -> String {
    let runs = &context.report.runs;
    if runs.len() <= context.settings.len() {
        return String::new();
    }
    let rows: String = runs
        .iter()
        .take(RUNS_MAX)
        .enumerate()
        .map(|(i, run)| {
            let told = context.detailed.iter().any(|detailed| detailed.index == i);
            let cells: String = ["to-azure", "to-onprem"]
                .map(|way| {
                    let label = escape(&format!("Longest outage {}", direction(way)));
                    format!("<td data-label=\"{label}\">{}</td>", longest(i, run, way))
                })
                .concat();
            format!(
                "<tr><td data-label=\"Run\">{}{}</td><td data-label=\"Setting\">{}</td>\
                 <td data-label=\"Seed\">{}</td>{cells}<td data-label=\"Packets lost\">{}</td>\
                 <td data-label=\"Replay with\"><code>--run {}</code></td></tr>\n",
                count(format_args!("/runs/{i}/run"), u64::from(run.run)),
                if told { " <b class=\"tag\">shown below</b>" } else { "" },
                run.convergence.name(),
                figure(format_args!("/runs/{i}/seed"), &run.seed.to_string()),
                count(
                    format_args!("/runs/{i}/steps/*/groups/*/lost"),
                    run.steps.iter().flat_map(|step| &step.groups).map(|group| group.lost).sum()
                ),
                run.run,
            )
        })
        .collect();
    let more = match runs.len().saturating_sub(RUNS_MAX) {
        0 => String::new(),
        more => format!("<p class=\"soft\">and {more} more in report.json</p>\n"),
    };
    let replay = match context.report.command.as_str() {
        "" => String::new(),
        command => format!(
            "<p class=\"soft\">One run alone: <code>{} --run <i>number</i></code></p>\n",
            escape(command)
        ),
    };
    let body = format!(
        "<details>\n<summary>All runs <span class=\"soft\">{}</span></summary>\n{replay}\
         <table class=\"cards list\">\n\
         <thead><tr><th scope=\"col\">Run</th><th scope=\"col\">Setting</th><th scope=\"col\">Seed</th>\
         <th scope=\"col\">Longest outage to Azure</th><th scope=\"col\">Longest outage to on-premises</th>\
         <th scope=\"col\">Packets lost</th><th scope=\"col\">Replay with</th></tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n{more}</details>\n",
        runs.len(),
    );
    section_of("runs", "Each run", &body)
}

/// The longest outage of any probe group of a run in one direction.
fn longest(i: usize, run: &RunReport, way: &str) -> String {
    let groups =
        run.steps.iter().enumerate().flat_map(|(j, step)| {
            step.groups.iter().enumerate().map(move |(k, group)| (j, k, group))
        });
    // The first of equals, so that the pointer does not depend on how the maximum is found.
    let mut most: Option<(usize, usize, Millis)> = None;
    for (j, k, group) in groups.filter(|(.., group)| group.direction == way) {
        if most.is_none_or(|(.., longest)| group.outage_ms.max > longest) {
            most = Some((j, k, group.outage_ms.max));
        }
    }
    most.map_or_else(
        || "–".to_owned(),
        |(j, k, longest)| {
            span(format_args!("/runs/{i}/steps/{j}/groups/{k}/outage_ms/max"), longest)
        },
    )
}
