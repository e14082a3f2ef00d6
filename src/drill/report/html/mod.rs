//! `report.html`: the report on one page, for a screen, a phone and paper.
//!
//! The file holds everything it shows: no script, no request (a policy in its head forbids both),
//! no font but the reader's. What has a colour also has a sign, a word or a pattern. Drawings whose
//! width follows the page keep their words outside, as text.

// A page is put together from small pieces of text; writing into one string would hide its shape.
#![allow(clippy::format_push_string, clippy::format_collect)]

mod chart;
mod figures;
mod first_screen;
mod proof;
mod steps;
mod tables;
mod topology;

use std::collections::BTreeSet;

use crate::drill::report::html::figures::escape;
use crate::drill::report::words::{self, Detailed};
use crate::drill::report::{Convergence, Report, Verdict};

const STYLE: &str = include_str!("style.css");
/// Ways to fill an area, each a colour and a pattern; `style.css` has as many.
const FILLS: usize = 6;

/// The page; ends with a newline. Well-formed as XML too.
pub fn write(report: &Report) -> String {
    let context = Context::new(report);
    let verdict = words::verdict(report.verdict, report.assumptions.len());
    let sections = [
        first_screen::masthead(&context),
        first_screen::summary(&context),
        proof::section(&context),
        first_screen::each_run(&context),
        topology::section(&context),
        steps::section(&context),
        proof::expectations(&context),
        tables::section(&context),
        again(report),
    ];
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<title>{verdict} · {name}</title>
<style>
{STYLE}</style>
</head>
<body>
{patterns}<main>
{sections}</main>
</body>
</html>
"#,
        verdict = escape(&verdict),
        name = escape(&report.name),
        patterns = chart::patterns(),
        sections = sections.concat(),
    )
}

/// What every section reads.
struct Context<'a> {
    report: &'a Report,
    /// Settings of `convergence` that ran, in order.
    settings: Vec<Convergence>,
    /// The runs that are told in detail, with their places.
    detailed: Vec<Detailed<'a>>,
    /// Links that flows took, in order: the place of a link decides how it is drawn.
    links: Vec<&'a str>,
}

impl<'a> Context<'a> {
    fn new(report: &'a Report) -> Self {
        let of_verdicts = report.verdicts.iter().map(|verdict| verdict.convergence);
        let of_runs = report.runs.iter().map(|run| run.convergence);
        let settings: BTreeSet<_> = of_verdicts.chain(of_runs).collect();
        let timelines =
            report.shown.iter().flat_map(|shown| &shown.steps).flat_map(|step| &step.timelines);
        let links: BTreeSet<&str> =
            timelines.flat_map(|timeline| timeline.paths.keys()).map(String::as_str).collect();
        Self {
            report,
            settings: settings.into_iter().collect(),
            detailed: words::detailed(report),
            links: links.into_iter().collect(),
        }
    }

    /// How a link is filled: a number below [`FILLS`].
    fn fill(&self, link: &str) -> usize {
        self.links.iter().position(|other| *other == link).unwrap_or(0) % FILLS
    }

    /// ` <b class="tag">ideal</b>` where more than one setting is told.
    fn tag(&self, convergence: Convergence) -> String {
        if self.settings.len() < 2 {
            return String::new();
        }
        format!(r#" <b class="tag">{}</b>"#, convergence.name())
    }
}

/// A verdict's class, sign and the drawing of the sign.
fn tone(verdict: Verdict) -> (&'static str, &'static str, &'static str) {
    match verdict {
        Verdict::Pass => ("good", "✓", "M14 25l7 7 13-15"),
        Verdict::PassAssuming => ("good", "✓", "M14 25l7 7 13-15"),
        Verdict::Fail => ("bad", "✕", "M16 16l16 16M32 16l-16 16"),
        Verdict::Invalid => ("warn", "!", "M24 12v15M24 34v1"),
    }
}

/// `s` for any number but one.
fn plural(n: u64) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// A section with its heading; nothing when it has nothing to tell.
fn section_of(id: &str, title: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    format!("<section id=\"{id}\">\n<h2>{title}</h2>\n{body}</section>\n")
}

/// How to see the same again: the command, and the lab with every default.
fn again(report: &Report) -> String {
    let mut body = String::new();
    if !report.command.is_empty() {
        body += &format!(
            "<p>The same seed gives the same packets.</p>\n<pre class=\"command\">{}</pre>\n",
            escape(&report.command)
        );
    }
    if !report.expanded_lab.is_empty() {
        let lines = report.expanded_lab.lines().count() as u64;
        body += &format!(
            "<details>\n<summary>The lab with every default and where it is from \
             <span class=\"soft\">{lines} line{}</span></summary>\n<pre class=\"lab\">{}</pre>\n\
             </details>\n",
            plural(lines),
            report.expanded_lab.lines().map(lab_line).collect::<String>()
        );
    }
    section_of("again", "Run it again", &body)
}

/// A line of the lab, what a comment says set back.
fn lab_line(line: &str) -> String {
    let at = if line.trim_start().starts_with('#') { Some(0) } else { line.find(" # ") };
    match at {
        Some(at) => {
            format!("{}<i>{}</i>\n", escape(&line[..at]), escape(&line[at..]))
        }
        None => escape(line) + "\n",
    }
}
