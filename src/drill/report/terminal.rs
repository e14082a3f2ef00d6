//! The report as a page in a terminal: the verdict, one table, the cause chain of each step on
//! one time axis, and what the result does not prove. Everything is read from the [`Report`].

use std::collections::{BTreeMap, BTreeSet};

use crate::drill::cause::{Cause, FIRST_PACKET, SETTLED};
use crate::drill::report::words::{
    self, CauseRow, cause_rows, direction, explain, rounded, rounded_number,
};
use crate::drill::report::{
    Convergence, GroupReport, Millis, Report, RunReport, Shown, StepReport, SummaryCell,
    SummaryRow, Verdict,
};
use crate::model::Bandwidth;

/// Lines of a cause chain that are shown; the rest is counted.
const CAUSES_SHOWN: usize = 16;
/// Columns of the axis beside a cause chain.
const AXIS: usize = 16;
/// Columns of the whole page.
pub const WIDTH: usize = 120;
/// Columns of each direction in the table.
const CELL: usize = 40;

/// How the page is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    pub colour: bool,
}

#[derive(Clone, Copy)]
enum Tone {
    Good,
    Bad,
    Warn,
    Dim,
    Strong,
}

impl Style {
    fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31;1",
            Tone::Warn => "33",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The page.
pub fn write(report: &Report, style: Style) -> String {
    let mut page = Page { text: String::new(), style };
    page.verdict(report);
    page.settings(report);
    page.summary(report);
    for run in shown(report) {
        if report.summary.is_empty() && !run.steps.is_empty() {
            page.table(run);
        }
        if report.runs.len() > 1 && !run.steps.is_empty() {
            page.heading(&format!(
                "{}: run {}, seed {}",
                run.convergence.means(),
                run.run,
                run.seed
            ));
        }
        for step in &run.steps {
            page.step(step);
        }
    }
    page.expectations(report);
    for run in shown(report) {
        page.conservation(run);
    }
    page.limits_of_proof(report);
    if !report.command.is_empty() {
        page.line("");
        page.line(&format!("Again: {}", report.command));
    }
    page.text
}

/// The run of each setting that is shown in detail.
fn shown(report: &Report) -> impl Iterator<Item = &RunReport> {
    let run = |shown: &Shown| {
        let same = |run: &&RunReport| run.run == shown.run && run.convergence == shown.convergence;
        report.runs.iter().find(same)
    };
    report.shown.iter().filter_map(run)
}

struct Page {
    text: String,
    style: Style,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn heading(&mut self, title: &str) {
        let title = self.style.paint(Tone::Strong, title);
        self.line("");
        self.line(&title);
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        self.style.paint(tone, text)
    }

    fn verdict(&mut self, report: &Report) {
        let failed = report.expectations.iter().filter(|expectation| !expectation.held).count();
        let held = report.expectations.len() - failed;
        let (tone, text) = match report.verdict {
            Verdict::Pass => (Tone::Good, format!("PASS  {held} of {held} expectations held")),
            Verdict::PassAssuming => {
                let assumptions = report.assumptions.len();
                let text = format!("PASS with {assumptions} assumptions  {held} of {held} held");
                (Tone::Good, text)
            }
            Verdict::Fail => {
                (Tone::Bad, format!("FAIL  {failed} of {} expectations failed", held + failed))
            }
            Verdict::Invalid => (Tone::Bad, "INVALID  nothing was proved".to_owned()),
        };
        let verdict = self.paint(tone, &text);
        self.line(&verdict);
        let wire = match report.wire.as_str() {
            "virtual" => "virtual time".to_owned(),
            wire => format!("{wire}, the host's clock"),
        };
        let about =
            format!("drill {} · lab {} · {wire} · seed {}", report.name, report.lab, report.seed);
        let about = self.paint(Tone::Dim, &about);
        self.line(&about);
        for run in report.runs.iter().filter(|run| run.host.disturbed) {
            let words = run.host.words();
            let text = format!("  run {}: {words}; free its cores, or lower the rates", run.run);
            for line in wrap(&text, WIDTH) {
                let line = self.paint(Tone::Bad, &line);
                self.line(&line);
            }
        }
        // What keeps a session down does so in every run.
        let run = report.runs.iter().find(|run| !run.not_started.is_empty());
        for session in run.into_iter().flat_map(|run| &run.not_started) {
            let text = format!("  not up before the first step: {session}");
            let text = self.paint(Tone::Bad, &text);
            self.line(&text);
        }
    }

    /// The verdicts side by side, when more than one setting ran.
    fn settings(&mut self, report: &Report) {
        if report.verdicts.len() < 2 {
            return;
        }
        let half = WIDTH / 2 - 2;
        let mut lines = [String::from("  "), String::from("  ")];
        for setting in &report.verdicts {
            let tone = if setting.verdict.exit_code() == 0 { Tone::Good } else { Tone::Bad };
            let verdict = words::verdict(setting.verdict, report.assumptions.len());
            let word = verdict.split(' ').next().unwrap_or("");
            let says = format!("{word}  {} of {} held", setting.held, setting.of);
            lines[0] += &self.paint(Tone::Dim, &format!("{:<half$}", setting.convergence.means()));
            lines[1] += &self.paint(tone, &format!("{says:<half$}"));
        }
        self.line("");
        for line in lines {
            self.line(&line);
        }
    }

    /// A row for each step and traffic entry, over all runs.
    fn summary(&mut self, report: &Report) {
        if report.summary.is_empty() {
            return;
        }
        self.heading("What each step cost");
        let mut columns: Vec<(&str, Convergence)> = Vec::new();
        for cell in report.summary.iter().flat_map(|row| &row.cells) {
            if !columns.contains(&(cell.direction.as_str(), cell.convergence)) {
                columns.push((&cell.direction, cell.convergence));
            }
        }
        columns.sort_unstable();
        let settings: BTreeSet<Convergence> = columns.iter().map(|(_, setting)| *setting).collect();
        let wide = |texts: &mut dyn Iterator<Item = &str>| {
            texts.map(|text| text.chars().count()).max().unwrap_or(0).clamp(4, 12)
        };
        let step_wide = wide(&mut report.summary.iter().map(|row| row.step.as_str()));
        let name_wide = wide(&mut report.summary.iter().map(|row| row.traffic.as_str()));
        let indent = 4 + step_wide + 1 + name_wide + 1;
        let cell_wide = ((WIDTH - indent) / columns.len().max(1)).min(CELL) - 1;
        let name = |(way, setting): &(&str, Convergence)| {
            let way = direction(way);
            let name = match settings.len() {
                1 => way.to_owned(),
                _ => format!("{way}, {}", setting.name()).replace("premises", "prem"),
            };
            format!("{:<cell_wide$}", shorten(&name, cell_wide))
        };
        let names = columns.iter().map(name).collect::<Vec<_>>().join(" ");
        let head = self.paint(Tone::Dim, &format!("{:indent$}{names}", ""));
        self.line(&head);
        let mut before = "";
        for row in &report.summary {
            let (tone, mark) = match row.held {
                Some(true) => (Tone::Good, "✓"),
                Some(false) => (Tone::Bad, "✗"),
                None => (Tone::Dim, " "),
            };
            let step = if row.step == before { "" } else { &row.step };
            before = &row.step;
            let (step, name) = (shorten(step, step_wide), shorten(&row.traffic, name_wide));
            let mut lines = [
                format!("  {} {step:<step_wide$} {name:<name_wide$} ", self.paint(tone, mark)),
                format!("{:indent$}", ""),
            ];
            for (way, setting) in &columns {
                let of =
                    |cell: &&SummaryCell| cell.direction == *way && cell.convergence == *setting;
                let (tone, texts) = match row.cells.iter().find(of) {
                    None => (Tone::Dim, ["–".to_owned(), String::new()]),
                    Some(cell) => {
                        (if cell.lost == 0 { Tone::Good } else { Tone::Bad }, costs(cell))
                    }
                };
                for (line, text) in lines.iter_mut().zip(texts) {
                    let text = format!("{:<cell_wide$} ", shorten(&text, cell_wide));
                    *line += &self.paint(tone, &text);
                }
            }
            for line in lines {
                self.line(&line);
            }
            for line in wrap(&of_row(row), WIDTH - indent) {
                let line = self.paint(Tone::Dim, &format!("{:indent$}{line}", ""));
                self.line(&line);
            }
        }
        let runs = report.runs.len() / settings.len().max(1);
        let over = match runs {
            0 | 1 => "longest outage of any flow".to_owned(),
            runs => format!("longest outage of any flow, most of {runs} runs and their median"),
        };
        let text = format!(
            "  {over}; for TCP its longest stall. Lost: most of any run; again: TCP segments sent again."
        );
        let text = self.paint(Tone::Dim, &text);
        self.line(&text);
        self.resolutions(shown(report).flat_map(|run| &run.steps));
    }

    /// A row for each step and traffic entry.
    fn table(&mut self, run: &RunReport) {
        self.heading("What each step cost");
        let wide = |texts: &mut dyn Iterator<Item = &str>| {
            texts.map(|text| text.chars().count()).max().unwrap_or(0).clamp(7, 14)
        };
        let step_wide = wide(&mut run.steps.iter().map(|step| step.step.as_str()));
        let groups = run.steps.iter().flat_map(|step| &step.groups);
        let name_wide = wide(&mut groups.map(|group| group.name.as_str()));
        let head = format!(
            "  {:<step_wide$} {:<name_wide$} {:>7}  {:<CELL$} {:<CELL$}",
            "step", "traffic", "lasted", "to Azure", "to on-premises"
        );
        let head = self.paint(Tone::Dim, &head);
        self.line(&head);
        for step in &run.steps {
            let names: BTreeMap<&str, Vec<&GroupReport>> =
                step.groups.iter().fold(BTreeMap::new(), |mut names, group| {
                    names.entry(group.name.as_str()).or_default().push(group);
                    names
                });
            let mut title = step.step.as_str();
            for (name, groups) in names {
                let cell = |direction: &str| {
                    groups.iter().find(|group| group.direction == direction).copied()
                };
                let (azure, onprem) = (cell("to-azure"), cell("to-onprem"));
                let lasted = format!("{} s", step.for_ms.micros() / 1_000_000);
                let title_text = shorten(title, step_wide);
                let name = shorten(name, name_wide);
                let row = format!("  {title_text:<step_wide$} {name:<name_wide$} {lasted:>7}  ");
                let [azure_text, onprem_text] = [azure, onprem].map(|group| self.cost(group));
                self.line(&format!("{row}{azure_text} {onprem_text}"));
                let paths = [azure, onprem].map(|group| group.map(paths).unwrap_or_default());
                let indent = 2 + step_wide + 1 + name_wide + 1 + 7 + 2;
                let under = format!("{:indent$}{:<CELL$} {:<CELL$}", "", paths[0], paths[1]);
                let under = self.paint(Tone::Dim, &under);
                self.line(&under);
                title = "";
            }
        }
        self.resolutions(run.steps.iter());
    }

    /// How finely outages are told.
    fn resolutions<'a>(&mut self, steps: impl Iterator<Item = &'a StepReport>) {
        let resolutions: BTreeMap<&str, Millis> = steps
            .flat_map(|step| &step.groups)
            .map(|group| (group.name.as_str(), group.resolution_ms))
            .collect();
        for (name, resolution) in resolutions {
            let text = format!(
                "  {name}: one packet per flow every {resolution} ms; no outage is told finer than that."
            );
            let text = self.paint(Tone::Dim, &text);
            self.line(&text);
        }
    }

    /// One direction of a row, padded to its column.
    fn cost(&self, group: Option<&GroupReport>) -> String {
        let Some(group) = group else { return format!("{:<CELL$}", "–") };
        let (tone, text) = if group.sent == 0 {
            (Tone::Warn, "no packet was sent".to_owned())
        } else if group.lost == 0 {
            (Tone::Good, format!("0 lost of {}", group.sent))
        } else {
            let max = rounded(group.outage_ms.max);
            let (hit, all, lost) = (group.flows_hit, group.flows, group.lost);
            (Tone::Bad, format!("{hit} of {all} flows, {max} max, {lost} lost"))
        };
        self.paint(tone, &format!("{text:<CELL$}"))
    }

    fn step(&mut self, step: &StepReport) {
        let dropped = step.limiters.iter().any(|limiter| limiter.dropped_packets > 0);
        if step.event.is_none() && step.causes.is_empty() && !dropped {
            return;
        }
        let late = if step.finished { "" } else { "  (did not end in time)" };
        let what = step.causes.first().map_or("", |cause| cause.detail.as_str());
        let title = match what.split_once(": ") {
            Some((name, what)) if name == step.step => format!("{name}: {what}{late}"),
            _ => format!("{}{late}", step.step),
        };
        self.heading(&title);
        for sentence in explain(step) {
            for line in wrap(&sentence, WIDTH - 2) {
                self.line(&format!("  {line}"));
            }
        }
        self.causes(&step.causes);
        self.drops(step);
    }

    /// The chain with the time axis on its left: the position of the mark is the time.
    fn causes(&mut self, causes: &[Cause]) {
        let Some(last) = causes.last().map(|cause| cause.at_ms.micros()) else { return };
        let (shown, left_out) = cause_rows(causes, CAUSES_SHOWN);
        for CauseRow { cause, times, .. } in shown {
            let at = cause.at_ms.micros();
            let place = if last == 0 {
                0
            } else {
                (at as u128 * (AXIS as u128 - 1) / u128::from(last)) as usize
            };
            let axis: String =
                (0..AXIS).map(|column| if column == place { '●' } else { '·' }).collect();
            let times = if times > 1 { format!(" ×{times}") } else { String::new() };
            let tone = match cause.kind.as_str() {
                "fault" | "bfd-down" | "bgp-down" | "carrier-down" => Tone::Bad,
                FIRST_PACKET | SETTLED | "bgp-up" | "bfd-up" | "carrier-up" => Tone::Good,
                _ => Tone::Strong,
            };
            let kind = self.paint(tone, &format!("{:<17}", cause.kind));
            let axis = self.paint(Tone::Dim, &axis);
            let text = format!("{} {}{times}", cause.node, cause.detail);
            let room = WIDTH.saturating_sub(2 + AXIS + 1 + 12 + 1 + 17 + 1);
            let text = shorten(&text, room);
            self.line(&format!("  {axis} {:>9} ms {kind} {text}", rounded_number(cause.at_ms)));
        }
        if left_out > 0 {
            let text = format!("  {left_out} more in report.json (--json)");
            let text = self.paint(Tone::Dim, &text);
            self.line(&text);
        }
    }

    fn drops(&mut self, step: &StepReport) {
        for (node, reasons) in &step.drops {
            let reasons: Vec<_> =
                reasons.iter().map(|(reason, packets)| format!("{packets} {reason}")).collect();
            let text = format!("  dropped at {node}: {}", reasons.join(", "));
            let text = self.paint(Tone::Warn, &text);
            self.line(&text);
        }
        for limiter in step.limiters.iter().filter(|limiter| limiter.dropped_packets > 0) {
            let share = limiter.passed_bps * 10_000 / limiter.rate_bps.max(1);
            let text = format!(
                "  limiter {}: {} passed of {} ({}.{:02} %), {} packets dropped",
                limiter.name,
                Bandwidth::from_bps(limiter.passed_bps),
                Bandwidth::from_bps(limiter.rate_bps),
                share / 100,
                share % 100,
                limiter.dropped_packets
            );
            let text = self.paint(Tone::Warn, &text);
            self.line(&text);
        }
    }

    fn expectations(&mut self, report: &Report) {
        if report.expectations.is_empty() {
            return;
        }
        self.heading("Expectations");
        for expectation in &report.expectations {
            let (tone, mark) = match (expectation.held, expectation.evaluated) {
                (true, _) => (Tone::Good, "✓"),
                (false, true) => (Tone::Bad, "✗"),
                (false, false) => (Tone::Bad, "?"),
            };
            let mark = self.paint(tone, mark);
            self.line(&format!("  {mark} {}", shorten(&expectation.text, WIDTH - 4)));
            for line in wrap(&expectation.actual, WIDTH - 6) {
                let line = self.paint(Tone::Dim, &line);
                self.line(&format!("      {line}"));
            }
        }
    }

    fn conservation(&mut self, run: &RunReport) {
        let books = &run.conservation;
        self.heading("Every packet accounted for");
        let dropped: u64 = books.dropped.values().sum();
        let lead =
            "  Over all routers, hosts and links; each receives and transmits what it passes on.";
        let lead = self.paint(Tone::Dim, lead);
        self.line(&lead);
        let sign = if books.held { "=" } else { "≠" };
        let equation = format!(
            "  received {} + originated {} {sign} transmitted {} + consumed {} + in flight {} + dropped {dropped}",
            books.received, books.originated, books.transmitted, books.punted, books.queued
        );
        let tone = if books.held { Tone::Good } else { Tone::Bad };
        let equation = self.paint(tone, &equation);
        self.line(&equation);
        let reasons: Vec<_> =
            books.dropped.iter().map(|(reason, packets)| format!("{packets} {reason}")).collect();
        if !reasons.is_empty() {
            self.line(&format!("  dropped: {}", reasons.join(", ")));
        }
    }

    fn limits_of_proof(&mut self, report: &Report) {
        self.heading("What this does not prove");
        for edge in &report.edges {
            let text = format!("{}: {}", edge.name, words::edge(edge));
            self.line(&format!("  {text}"));
        }
        for assumption in &report.assumptions {
            let text = format!("{} = {} ({})", assumption.key, assumption.value, assumption.source);
            for line in wrap(&text, WIDTH - 2) {
                let line = self.paint(Tone::Dim, &line);
                self.line(&format!("  {line}"));
            }
        }
    }
}

/// The two lines of a cell: how long, and how much.
fn costs(cell: &SummaryCell) -> [String; 2] {
    let most = rounded(cell.outage_max_ms);
    let long = if cell.outage_p50_ms == cell.outage_max_ms {
        most
    } else {
        format!("{most} (p50 {})", rounded(cell.outage_p50_ms))
    };
    let much = match cell.goodput_bps {
        Some(bps) => format!("{}, {} again", Bandwidth::from_bps(bps), cell.lost),
        None => format!("{}/{} flows, {} lost", cell.flows_hit, cell.flows, cell.lost),
    };
    [long, much]
}

/// What is told of a row once: conversations, links at its end, the busiest circuit link.
fn of_row(row: &SummaryRow) -> String {
    let mut told: Vec<String> = Vec::new();
    if let Some(hit) = row.cells.iter().map(|cell| cell.conversations_hit).max().filter(|n| *n > 0)
    {
        told.push(format!("{hit} conversations hit"));
    }
    let mut ways: Vec<(&str, String)> = Vec::new();
    for cell in &row.cells {
        if ways.iter().all(|(way, _)| *way != cell.direction) {
            ways.push((&cell.direction, links(&cell.paths)));
        }
    }
    match ways.as_slice() {
        [(_, a), (_, b)] if a == b => told.push(format!("{a} both ways")),
        ways => told.extend(ways.iter().map(|(way, links)| format!("{} {links}", direction(way)))),
    }
    if let Some(peak) = &row.peak {
        let share = peak.peak_bps.saturating_mul(100) / peak.rate_bps.max(1);
        told.push(format!("{} at most {share} % of its rate", peak.limiter));
    }
    told.join(" · ")
}

/// `ams/primary 31, ams/secondary 33`.
fn links(paths: &BTreeMap<String, u64>) -> String {
    if paths.is_empty() {
        return "on no link".to_owned();
    }
    let links: Vec<_> = paths.iter().map(|(link, flows)| format!("{link} {flows}")).collect();
    links.join(", ")
}

fn paths(group: &GroupReport) -> String {
    shorten(&links(&group.paths), CELL)
}

fn shorten(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Text in lines of at most so many columns, broken between words.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
