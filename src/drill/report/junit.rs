//! `junit.xml`: the expectations as tests, for a pipeline that gates on them. A suite for each
//! setting of `convergence`, in the shape of Jenkins' xunit schema.

use std::fmt::Write;

use crate::drill::report::{Convergence, ExpectationReport, Report, SettingVerdict, Verdict};

/// The report's expectations; ends with a newline. A drill that is `INVALID` is an error of a case
/// of its own, since it has proved nothing.
pub fn write(report: &Report) -> String {
    let mut settings: Vec<Convergence> =
        report.verdicts.iter().map(|setting| setting.convergence).collect();
    settings.extend(report.expectations.iter().map(|expectation| expectation.convergence));
    settings.extend(report.runs.iter().map(|run| run.convergence));
    settings.sort_unstable();
    settings.dedup();
    let suites: Vec<Suite> = settings.iter().map(|&setting| suite(report, setting)).collect();
    let sum = |of: fn(&Suite) -> usize| suites.iter().map(of).sum::<usize>();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\">\n",
        escape(&report.name),
        sum(|suite| suite.tests),
        sum(|suite| suite.failures),
        sum(|suite| suite.errors)
    );
    for suite in &suites {
        xml += &suite.xml;
    }
    xml + "</testsuites>\n"
}

struct Suite {
    tests: usize,
    failures: usize,
    errors: usize,
    xml: String,
}

fn suite(report: &Report, setting: Convergence) -> Suite {
    let all: Vec<&ExpectationReport> =
        report.expectations.iter().filter(|one| one.convergence == setting).collect();
    let failures = all.iter().filter(|one| !one.held).count();
    let of_setting = report.verdicts.iter().find(|one| one.convergence == setting);
    let verdict = of_setting.map_or(report.verdict, |SettingVerdict { verdict, .. }| *verdict);
    let errors = usize::from(verdict == Verdict::Invalid);
    let tests = all.len() + errors;
    let mut xml = format!(
        "  <testsuite name=\"{}.{}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\">\n",
        escape(&report.name),
        setting.name()
    );
    let _ = writeln!(
        xml,
        "    <properties>\n      <property name=\"lab\" value=\"{}\"/>\n      \
         <property name=\"seed\" value=\"{}\"/>\n      <property name=\"wire\" value=\"{}\"/>\n      \
         <property name=\"command\" value=\"{}\"/>\n    </properties>",
        escape(&report.lab),
        report.seed,
        escape(&report.wire),
        escape(&report.command)
    );
    if errors > 0 {
        let why = why_invalid(report, setting);
        let _ = writeln!(
            xml,
            "    <testcase name=\"the drill proves something\" classname=\"{}\">\n      \
             <error type=\"invalid\" message=\"{}\"/>\n    </testcase>",
            escape(&report.name),
            escape(&why)
        );
    }
    for expectation in all {
        xml += &case(report, expectation);
    }
    xml += "  </testsuite>\n";
    Suite { tests, failures, errors, xml }
}

fn case(report: &Report, expectation: &ExpectationReport) -> String {
    let step = if expectation.step.is_empty() { "always" } else { &expectation.step };
    let head = format!(
        "    <testcase name=\"{}\" classname=\"{}.{}\"",
        escape(&expectation.text),
        escape(&report.name),
        escape(step)
    );
    if expectation.held {
        return head + "/>\n";
    }
    let kind = if expectation.evaluated { "not-held" } else { "not-evaluated" };
    format!(
        "{head}>\n      <failure type=\"{kind}\" message=\"{}\"/>\n    </testcase>\n",
        escape(&expectation.actual)
    )
}

fn why_invalid(report: &Report, setting: Convergence) -> String {
    let mut why: Vec<String> = Vec::new();
    for run in report.runs.iter().filter(|run| run.convergence == setting) {
        for session in &run.not_started {
            why.push(format!("run {}: not up before the first step: {session}", run.run));
        }
        if !run.conservation.held {
            why.push(format!("run {}: packets are missing from the books", run.run));
        }
        if run.host.disturbed {
            why.push(format!("run {}: {}", run.run, run.host.words()));
        }
    }
    if why.is_empty() { "nothing was proved".to_owned() } else { why.join("; ") }
}

/// Text in a quoted attribute. XML 1.0 has no way to write most control characters (section 2.2),
/// and a parser makes spaces of line ends in attributes (3.3.3) unless they are references.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' | '\t' | '\r' => {
                let _ = write!(safe, "&#{};", c as u32);
            }
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}
