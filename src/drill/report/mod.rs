//! What a drill tells: one value, written as `report.json` and as a page in the terminal.
//!
//! The types here are the file format (`files.md`, Report). Nothing of the host is in them: no
//! clock, path or version, so that a seed gives the same bytes everywhere.

mod build;
pub mod json;
pub mod terminal;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::drill::cause::Cause;
use crate::drill::expect::Judged;

pub use build::build;

/// A drill's report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    pub tool: String,
    pub name: String,
    pub lab: String,
    pub seed: u64,
    /// `virtual`, `veth` or `nic`.
    pub wire: String,
    pub verdict: Verdict,
    pub assumptions: Vec<Assumption>,
    pub runs: Vec<RunReport>,
    pub expectations: Vec<ExpectationReport>,
    pub edges: Vec<EdgeReport>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Verdict {
    #[serde(rename = "PASS")]
    Pass,
    #[serde(rename = "FAIL")]
    Fail,
    /// The lab did not come up, so nothing was proved.
    #[serde(rename = "INVALID")]
    Invalid,
}

/// A guess the result rests on: a default that no document gives (section 20).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Assumption {
    pub key: String,
    pub value: String,
    pub source: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RunReport {
    pub seed: u64,
    pub phase_ms: Millis,
    pub steps: Vec<StepReport>,
    pub conservation: Conservation,
    pub host: HostReport,
    /// Sessions that were not up before the first step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_started: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StepReport {
    pub step: String,
    /// The event, as after `do:`.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    pub at_ms: Millis,
    pub for_ms: Millis,
    pub finished: bool,
    pub flows: Vec<FlowReport>,
    pub groups: Vec<GroupReport>,
    pub causes: Vec<Cause>,
    /// Packets dropped during the step, by router and reason; zeros left out.
    pub drops: BTreeMap<String, BTreeMap<String, u64>>,
    /// Limiters that charged something during the step.
    pub limiters: Vec<LimiterReport>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FlowReport {
    pub name: String,
    pub flow: u32,
    pub direction: String,
    pub from: String,
    pub to: String,
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    pub reordered: u64,
    pub duplicated: u64,
    pub resolution_ms: Millis,
    pub outage_ms: Millis,
    pub path_before: String,
    pub path_after: String,
}

/// All flows of a traffic entry in one direction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GroupReport {
    pub name: String,
    pub direction: String,
    pub flows: u64,
    pub sent: u64,
    pub lost: u64,
    pub outage_ms: OutageFigures,
    pub latency_us: LatencyFigures,
    pub flows_hit: u64,
    /// Conversations of which a flow was hit, either direction.
    pub conversations_hit: u64,
    pub resolution_ms: Millis,
    /// Flows by the link they took at the end of the step.
    pub paths: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct OutageFigures {
    pub p50: Millis,
    pub p99: Millis,
    pub max: Millis,
    /// Least of the flows that were hit.
    pub min_hit: Millis,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct LatencyFigures {
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LimiterReport {
    pub name: String,
    pub rate_bps: u64,
    pub passed_packets: u64,
    /// IP bytes.
    pub passed_bytes: u64,
    pub dropped_packets: u64,
    /// Bits a second that passed, over the step.
    pub passed_bps: u64,
}

/// received + originated = transmitted + consumed + queued + Σ dropped, over all routers, hosts and
/// links; each of them receives and transmits what it passes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Conservation {
    pub held: bool,
    pub received: u64,
    pub originated: u64,
    pub transmitted: u64,
    /// Queued in a router, or on its way over a link.
    pub queued: u64,
    /// Taken by routers for themselves, and by hosts.
    pub punted: u64,
    pub dropped: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct HostReport {
    /// Longest time a worker did not run; zero in virtual time.
    pub worker_gap_ms: Millis,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ExpectationReport {
    pub text: String,
    pub held: bool,
    pub actual: String,
    pub evaluated: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct EdgeReport {
    pub name: String,
    /// What ran.
    pub kind: String,
    pub version: String,
    /// Of the configuration file of an external router.
    pub config_sha256: Option<String>,
}

/// A span of time in a report: milliseconds, to the microsecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Millis(u64);

impl Millis {
    pub const fn micros(self) -> u64 {
        self.0
    }
}

impl From<Duration> for Millis {
    fn from(span: Duration) -> Self {
        Self(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
    }
}

/// `900`, or `900.5`: no more digits than there are.
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 % 1000 {
            0 => (self.0 / 1000).to_string(),
            micros => format!("{}.{micros:03}", self.0 / 1000).trim_end_matches('0').to_owned(),
        };
        f.pad(&text)
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1000) {
            serializer.serialize_u64(self.0 / 1000)
        } else {
            serializer.serialize_f64(self.0 as f64 / 1000.0)
        }
    }
}

impl From<Judged> for ExpectationReport {
    fn from(judged: Judged) -> Self {
        let Judged { text, held, actual, evaluated } = judged;
        Self { text, held, actual, evaluated }
    }
}

impl Verdict {
    /// The process's exit code: 0 passed, 1 an expectation failed, 2 could not run.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Invalid => 2,
        }
    }
}
