//! What the drill expected and found, and what its result does not prove.

use crate::drill::report::html::figures::{count, escape, part, span, value};
use crate::drill::report::html::{Context, plural, section_of};
use crate::drill::report::words::{self, Detailed};
use crate::drill::report::{Convergence, ExpectationReport, HostReport, Millis};

/// The guesses, the edges that stood in, the host, and the books.
pub(super) fn section(context: &Context<'_>) -> String {
    let report = context.report;
    let assumptions: String = report
        .assumptions
        .iter()
        .enumerate()
        .map(|(i, assumption)| {
            format!(
                "<tr><th scope=\"row\"><code>{}</code></th><td>{}</td><td class=\"soft\">{}</td></tr>\n",
                escape(&assumption.key),
                value(format_args!("/assumptions/{i}/value"), &assumption.value),
                escape(&assumption.source)
            )
        })
        .collect();
    let guesses = report.assumptions.len() as u64;
    let assumptions = if assumptions.is_empty() {
        "<p>No assumption was needed.</p>\n".to_owned()
    } else {
        format!(
            "<h3>{guesses} assumption{}</h3>\n<table class=\"list assumptions\">\n\
             <thead><tr><th scope=\"col\">Assumed</th><th scope=\"col\">Value</th>\
             <th scope=\"col\">Why, and from where</th></tr></thead>\n\
             <tbody>\n{assumptions}</tbody>\n</table>\n",
            plural(guesses)
        )
    };
    let body = format!(
        "<div class=\"aside\">\n<div>\n{assumptions}</div>\n<div>\n{}{}{}</div>\n</div>\n",
        edges(context),
        host(context),
        books(context)
    );
    section_of("proof", "What this does not prove", &body)
}

fn edges(context: &Context<'_>) -> String {
    let edges: String = context
        .report
        .edges
        .iter()
        .map(|edge| {
            let what = escape(&words::edge(edge));
            let hash = edge.config_sha256.as_deref().map_or_else(String::new, |hash| {
                format!("<code class=\"line\">configuration sha256 {}</code>", escape(hash))
            });
            format!("<li><b>{}</b> {what}{hash}</li>\n", escape(&edge.name))
        })
        .collect();
    if edges.is_empty() {
        return String::new();
    }
    format!("<h3>Customer edges</h3>\n<ul class=\"plain\">\n{edges}</ul>\n")
}

fn host(context: &Context<'_>) -> String {
    let runs = &context.report.runs;
    // The first of those with the longest.
    let longest =
        |gap: fn(&HostReport) -> Millis| (0..runs.len()).rev().max_by_key(|&i| gap(&runs[i].host));
    let Some(i) = longest(|host| host.worker_gap_ms) else { return String::new() };
    let gap = span(format_args!("/runs/{i}/host/worker_gap_ms"), runs[i].host.worker_gap_ms);
    let text = if context.report.wire == "virtual" {
        format!("Virtual time: the host cannot stall the drill. Longest gap {gap}.")
    } else {
        format!("Longest time a worker did not run, of any run: {gap}.")
    };
    let peer = longest(|host| host.peer_gap_ms).and_then(|i| {
        let host = &runs[i].host;
        let gap = span(format_args!("/runs/{i}/host/peer_gap_ms"), host.peer_gap_ms);
        let peer = escape(host.late_peer.as_ref()?);
        Some(format!(
            " Latest BFD packet of a customer's router: {gap} beyond its interval, {peer}."
        ))
    });
    let peer = peer.unwrap_or_default();
    format!("<h3>Host</h3>\n<p>{text}{peer}</p>\n")
}

/// Conservation: of all runs in a sentence, of those that are told in figures.
fn books(context: &Context<'_>) -> String {
    let runs = &context.report.runs;
    if runs.is_empty() {
        return String::new();
    }
    let held = runs.iter().filter(|run| run.conservation.held).count();
    let (class, sign) = if held == runs.len() { ("good", "✓") } else { ("bad", "✕") };
    let says =
        if held == runs.len() { "Every packet is accounted for" } else { "Packets are missing" };
    let head: String = context
        .detailed
        .iter()
        .map(|of| {
            format!("<th scope=\"col\">{}, run {}</th>", of.run.convergence.name(), of.run.run)
        })
        .collect();
    let row = |name: &str, figure: &dyn Fn(&Detailed<'_>) -> Option<String>| {
        let cells: String = context
            .detailed
            .iter()
            .map(|of| format!("<td>{}</td>", figure(of).unwrap_or_else(|| "–".to_owned())))
            .collect();
        format!("<tr><th scope=\"row\">{name}</th>{cells}</tr>\n")
    };
    let at = |of: &Detailed<'_>, name: &str, n: u64| {
        Some(count(format_args!("/runs/{}/conservation/{name}", of.index), n))
    };
    let mut rows = [
        row("received", &|of| at(of, "received", of.run.conservation.received)),
        row("+ originated", &|of| at(of, "originated", of.run.conservation.originated)),
        row("= transmitted", &|of| at(of, "transmitted", of.run.conservation.transmitted)),
        row("+ consumed", &|of| at(of, "punted", of.run.conservation.punted)),
        row("+ in flight", &|of| at(of, "queued", of.run.conservation.queued)),
    ]
    .concat();
    let mut reasons: Vec<&String> =
        context.detailed.iter().flat_map(|of| of.run.conservation.dropped.keys()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    for reason in reasons {
        rows += &row(&format!("+ dropped, {}", escape(reason)), &|of| {
            let packets = of.run.conservation.dropped.get(reason)?;
            at(of, &format!("dropped/{}", part(reason)), *packets)
        });
    }
    format!(
        "<h3>Packets</h3>\n<p class=\"{class}\"><span class=\"sign\">{sign}</span> {says} in {held} of {} \
         run{}.</p>\n<p class=\"soft\">Over all routers, hosts and links; each receives and transmits \
         what it passes on.</p>\n<table class=\"list numbers\">\n\
         <thead><tr><th scope=\"col\">Packets</th>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n",
        runs.len(),
        plural(runs.len() as u64),
    )
}

/// A row for each expectation, a column for each setting.
pub(super) fn expectations(context: &Context<'_>) -> String {
    let all = &context.report.expectations;
    let mut rows: Vec<Vec<&ExpectationReport>> = Vec::new();
    for expectation in all {
        // The same line may stand twice in a drill; each setting then has it twice.
        let same = rows.iter_mut().find(|row| {
            row[0].text == expectation.text
                && row[0].step == expectation.step
                && row.iter().all(|other| other.convergence != expectation.convergence)
        });
        match same {
            Some(row) => row.push(expectation),
            None => rows.push(vec![expectation]),
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let mut settings: Vec<Convergence> = all.iter().map(|one| one.convergence).collect();
    settings.sort_unstable();
    settings.dedup();
    let head: String = settings
        .iter()
        .map(|setting| format!("<th scope=\"col\">{}</th>", setting.means()))
        .collect();
    let rows: String = rows
        .iter()
        .map(|row| {
            let cells: String = settings
                .iter()
                .map(|setting| {
                    let found = row.iter().find(|one| one.convergence == *setting);
                    format!(
                        "<td data-label=\"{}\">{}</td>",
                        setting.means(),
                        found.map_or_else(|| "–".to_owned(), |one| judged(one))
                    )
                })
                .collect();
            let step = if row[0].step.is_empty() { "always" } else { &row[0].step };
            format!(
                "<tr><th scope=\"row\">{}<span class=\"sub\">{}</span></th>{cells}</tr>\n",
                escape(&row[0].text),
                escape(step)
            )
        })
        .collect();
    let body = format!(
        "<table class=\"cards list wide expectations\">\n<thead><tr><th scope=\"col\">Expected</th>{head}</tr>\
         </thead>\n<tbody>\n{rows}</tbody>\n</table>\n"
    );
    section_of("expectations", "Expectations", &body)
}

fn judged(expectation: &ExpectationReport) -> String {
    let (class, sign, word) = match (expectation.held, expectation.evaluated) {
        (true, _) => ("good", "✓", "held"),
        (false, true) => ("bad", "✕", "failed"),
        (false, false) => ("warn", "?", "not evaluated"),
    };
    format!(
        "<b class=\"{class}\"><span class=\"sign\">{sign}</span> {word}</b> \
         <span class=\"found\">{}</span>",
        escape(&expectation.actual)
    )
}
