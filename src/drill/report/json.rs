//! `report.json`.

use crate::drill::report::Report;

/// The report as JSON, one field a line, with a newline at the end.
pub fn write(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report has only string keys");
    text.push('\n');
    text
}
