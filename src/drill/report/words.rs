//! Words and figures that the page in the terminal and `report.html` share, so that both say the
//! same of the same number.

use std::fmt::Write;

use crate::drill::cause::{Cause, FIRST_PACKET, SETTLED};
use crate::drill::report::{
    Convergence, EdgeReport, GroupReport, HostReport, Millis, Report, RunReport, Shown, StepReport,
    Verdict,
};
use crate::model::Bandwidth;

/// `PASS`, `PASS with 3 assumptions`, `FAIL`, `INVALID`.
pub(super) fn verdict(verdict: Verdict, assumptions: usize) -> String {
    match verdict {
        Verdict::Pass => "PASS".to_owned(),
        Verdict::PassAssuming if assumptions == 1 => "PASS with 1 assumption".to_owned(),
        Verdict::PassAssuming => format!("PASS with {assumptions} assumptions"),
        Verdict::Fail => "FAIL".to_owned(),
        Verdict::Invalid => "INVALID".to_owned(),
    }
}

/// What a customer edge was, and what follows from that.
pub(super) fn edge(edge: &EdgeReport) -> String {
    let (kind, version) = (&edge.kind, &edge.version);
    if kind == "attach" {
        "your own router, attached; what it did is its own. Its ports keep their carrier when a link \
         is cut."
            .to_owned()
    } else if kind.starts_with("built-in") {
        format!("{kind} edge, ideal; no evidence for your own router.")
    } else {
        format!("{kind} {version} on this host; your own device may be slower.")
    }
}

impl HostReport {
    /// What the host did to a run.
    pub(super) fn words(&self) -> String {
        let peer = self.late_peer.iter().map(|peer| {
            format!(", {peer} with a BFD packet for {} ms beyond its interval,", self.peer_gap_ms)
        });
        format!(
            "the host kept the lab waiting for {} ms{} and lost {} packets itself",
            self.worker_gap_ms,
            peer.collect::<String>(),
            self.lost
        )
    }
}

impl Convergence {
    /// In a table's head: `ideal`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ideal => "ideal",
            Self::Documented => "documented",
        }
    }

    /// What the setting means, for someone who does not know its name.
    pub const fn means(self) -> &'static str {
        match self {
            Self::Ideal => "VM hosts follow at once (ideal)",
            Self::Documented => "VM hosts follow as late as the documents allow",
        }
    }
}

/// `to Azure` and `to on-premises`; any other name as it is.
pub(super) fn direction(name: &str) -> &str {
    match name {
        "to-azure" => "to Azure",
        "to-onprem" => "to on-premises",
        other => other,
    }
}

/// The runs that are told in detail with their places in [`Report::runs`]: those that are shown,
/// or the first of each setting.
pub(super) fn detailed(report: &Report) -> Vec<Detailed<'_>> {
    let place = |of: &dyn Fn(&RunReport) -> bool| report.runs.iter().position(of);
    let mut all: Vec<Detailed<'_>> = Vec::new();
    for (at, shown) in report.shown.iter().enumerate() {
        let same = |run: &RunReport| run.convergence == shown.convergence && run.run == shown.run;
        if let Some(index) = place(&same) {
            all.push(Detailed { index, run: &report.runs[index], shown: Some((at, shown)) });
        }
    }
    for (index, run) in report.runs.iter().enumerate() {
        if all.iter().all(|other| other.run.convergence != run.convergence) {
            all.push(Detailed { index, run, shown: None });
        }
    }
    all
}

/// A run that is told in detail.
#[derive(Clone, Copy)]
pub(super) struct Detailed<'a> {
    /// Place in `runs`.
    pub(super) index: usize,
    pub(super) run: &'a RunReport,
    /// Place in `shown`, and what is there.
    pub(super) shown: Option<(usize, &'a Shown)>,
}

/// What the figures of a step say, in words.
pub(super) fn explain(step: &StepReport) -> Vec<String> {
    if step.event.is_none() {
        return Vec::new();
    }
    let mut sentences = Vec::new();
    for group in &step.groups {
        let way = if group.direction == "to-azure" { "To Azure" } else { "To on-premises" };
        let name = &group.name;
        if group.lost == 0 {
            sentences.push(format!("{way}, {name}: no packet was lost."));
            continue;
        }
        let untouched = group.flows - group.flows_hit;
        let span = if group.outage_ms.min_hit == group.outage_ms.max {
            rounded(group.outage_ms.max)
        } else {
            format!("{} to {}", rounded(group.outage_ms.min_hit), rounded(group.outage_ms.max))
        };
        let (hit, all, lost) = (group.flows_hit, group.flows, group.lost);
        let mut sentence = if group.outage_ms.max <= group.resolution_ms {
            format!("{way}, {name}: {hit} of {all} flows lost single packets ({lost} in all)")
        } else {
            format!(
                "{way}, {name}: {hit} of {all} flows were interrupted for {span} ({lost} packets)"
            )
        };
        if let Some(from) = left_path(step, group) {
            let _ = write!(sentence, "; they were on {from}");
        }
        match untouched {
            0 => sentence.push('.'),
            1 => sentence.push_str("; the other one lost nothing."),
            more => {
                let _ = write!(sentence, "; the other {more} lost nothing.");
            }
        }
        sentences.push(sentence);
    }
    for tcp in &step.tcp {
        sentences.push(format!(
            "TCP {}, {}: {} arrived; {} of {} segments were sent again; the longest stall took {}.",
            tcp.name,
            direction(&tcp.direction),
            Bandwidth::from_bps(tcp.goodput_bps),
            tcp.retransmitted,
            tcp.segments,
            rounded(tcp.longest_stall_ms),
        ));
    }
    sentences.extend(explain_cause(step));
    sentences
}

/// The one path that every interrupted flow of a group was on, if there is one.
fn left_path<'a>(step: &'a StepReport, group: &GroupReport) -> Option<&'a str> {
    let mut paths: Vec<&str> = step
        .flows
        .iter()
        .filter(|flow| {
            flow.name == group.name && flow.direction == group.direction && flow.lost > 0
        })
        .map(|flow| flow.path_before.as_str())
        .collect();
    paths.dedup();
    match paths.as_slice() {
        [one] if !one.is_empty() => Some(one),
        _ => None,
    }
}

/// Who noticed first, and when.
fn explain_cause(step: &StepReport) -> Option<String> {
    let noticed = step.causes.iter().find(|cause| {
        matches!(cause.kind.as_str(), "bfd-down" | "carrier-down" | "bgp-down" | "group-rewritten")
    })?;
    let rewritten = step.causes.iter().find(|cause| cause.kind == "group-rewritten");
    let mut sentence = format!(
        "{} noticed first, after {} ms ({})",
        noticed.node,
        rounded_number(noticed.at_ms),
        noticed.kind
    );
    if let Some(rewritten) = rewritten {
        let _ = write!(
            sentence,
            "; {} moved its flows at {} ms",
            rewritten.node,
            rounded_number(rewritten.at_ms)
        );
    }
    sentence.push('.');
    Some(sentence)
}

/// A row of a cause chain: causes of the same kind at the same node and time are one.
#[derive(Clone, Copy)]
pub(super) struct CauseRow<'a> {
    /// Place of the first in the step's `causes`.
    pub(super) index: usize,
    pub(super) cause: &'a Cause,
    pub(super) times: usize,
}

/// At most `most` rows of a chain, and how many were left out.
pub(super) fn cause_rows(causes: &[Cause], most: usize) -> (Vec<CauseRow<'_>>, usize) {
    let rows = collapse(causes);
    let all = rows.len();
    let shown = choose(rows, most);
    let left_out = all - shown.len();
    (shown, left_out)
}

/// Neighbouring rows of the same kind at the same node and time become one.
fn collapse(causes: &[Cause]) -> Vec<CauseRow<'_>> {
    let mut rows: Vec<CauseRow<'_>> = Vec::new();
    for (index, cause) in causes.iter().enumerate() {
        match rows.last_mut() {
            Some(CauseRow { cause: last, times, .. })
                if last.kind == cause.kind
                    && last.node == cause.node
                    && last.at_ms == cause.at_ms =>
            {
                *times += 1;
            }
            _ => rows.push(CauseRow { index, cause, times: 1 }),
        }
    }
    rows
}

/// The first row of each kind and node, as many as fit, then others in order.
fn choose(rows: Vec<CauseRow<'_>>, most: usize) -> Vec<CauseRow<'_>> {
    if rows.len() <= most {
        return rows;
    }
    let mut keep = vec![false; rows.len()];
    let mut seen: Vec<(&str, &str)> = Vec::new();
    let mut left = most;
    let rank = |kind: &str| match kind {
        "fault" | SETTLED | FIRST_PACKET => 0,
        "bfd-down" | "bgp-down" | "carrier-down" | "group-rewritten" | "bgp-up" | "bfd-up" => 1,
        "routes-withdrawn" | "routes-announced" | "limiter-changed" => 2,
        _ => 3,
    };
    for wanted in 0..=3 {
        for (i, CauseRow { cause, .. }) in rows.iter().enumerate() {
            let key = (cause.kind.as_str(), cause.node.as_str());
            if left > 0 && !keep[i] && rank(&cause.kind) == wanted && !seen.contains(&key) {
                keep[i] = true;
                seen.push(key);
                left -= 1;
            }
        }
    }
    rows.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(row, _)| row).collect()
}

/// A span for a person: `912 ms`, `3.24 s`, `20 s`.
pub(super) fn rounded(span: Millis) -> String {
    if span.micros() >= 1_000_000 {
        let hundredths = span.micros().saturating_add(5000) / 10_000;
        match hundredths % 100 {
            0 => format!("{} s", hundredths / 100),
            part => format!("{}.{part:02} s", hundredths / 100),
        }
    } else {
        format!("{} ms", rounded_number(span))
    }
}

/// Whole milliseconds from 10 ms on, tenths below.
pub(super) fn rounded_number(span: Millis) -> String {
    let micros = span.micros();
    if micros >= 10_000 || micros.is_multiple_of(1000) {
        ((micros + 500) / 1000).to_string()
    } else {
        format!("{}.{}", micros / 1000, micros / 100 % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_router_of_the_users_own_did_is_no_evidence_missing() {
        let of = |kind: &str, version: &str| {
            edge(&EdgeReport {
                name: "ce1".to_owned(),
                kind: kind.to_owned(),
                version: version.to_owned(),
                config_sha256: None,
            })
        };
        assert!(of("attach", "").starts_with("your own router, attached; what it did is its own."));
        assert!(of("built-in for frr", "").contains("no evidence for your own router"));
        assert!(of("frr", "8.4.4").starts_with("frr 8.4.4 on this host"));
    }
}
